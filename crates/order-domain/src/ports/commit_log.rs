//! Which orders changed, in the order in which the changes became visible.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{OrderUid, Revision};

/// Which orders changed, in the order in which the changes became visible. Written by
/// [`OrderRepository::store`](crate::OrderRepository::store), followed by every replica.
#[async_trait]
pub trait CommitLog: Send + Sync {
    /// The newest entry there is: what a follower that knows nothing yet begins after.
    ///
    /// It MUST exist on an empty log too, as the place before the first entry.
    async fn head(&self) -> Result<LogCursor, CommitLogError>;

    /// The entries after `cursor`, oldest first, at most about `limit` changes in whole entries, and at least one entry if there is one.
    ///
    /// It MUST skip nothing: once it has answered an entry, no entry may ever become visible before it. It MUST answer
    /// [`LogPage::Gap`] if the entry at `cursor` is gone or is another one.
    async fn read_after(&self, cursor: LogCursor, limit: usize) -> Result<LogPage, CommitLogError>;

    /// Returns when the log may have grown beyond `cursor`. Only a wake-up: it may return for nothing, and may miss a change.
    ///
    /// It MUST be safe to drop, and MUST NOT return at once over and over while the log is out of reach. It should not return for entries up
    /// to `cursor`, however late it learns of them.
    async fn changed(&self, cursor: LogCursor);

    /// Removes entries older than `age`, but never the newest; answers how many.
    async fn prune(&self, age: Duration) -> Result<u64, CommitLogError>;
}

/// A place in the commit log, and a mark that tells its entry from another at the same position after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCursor {
    /// Grows with each entry; may skip numbers.
    pub position: i64,
    /// Drawn at random when the entry was written.
    pub mark: i64,
}

/// Where a batch was written to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// The entry before its own.
    pub previous: LogCursor,
    /// Its own.
    pub cursor: LogCursor,
}

/// One committed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub cursor: LogCursor,
    /// When it was written, by the database's clock.
    pub committed_at: Timestamp,
    /// The orders that changed.
    pub changes: Vec<LogChange>,
}

/// One order that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChange {
    /// Which order.
    pub uid: OrderUid,
    /// The version it has now.
    pub revision: Revision,
}

/// What a look at the log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPage {
    /// The entries after the cursor.
    Entries {
        /// Oldest first; empty if there is nothing new.
        entries: Vec<LogEntry>,
        /// Whether these were all there were when the look was taken.
        complete: bool,
    },
    /// The log no longer leads on from the cursor: it was pruned past it, or the database was restored.
    Gap,
}

/// Why the log could not be read. Every one of them may pass: ask again.
#[derive(Debug, thiserror::Error)]
pub enum CommitLogError {
    /// Out of reach, or too slow.
    #[error("the commit log is out of reach: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else: a fault of ours.
    #[error("the commit log failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
