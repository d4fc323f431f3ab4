//! Where orders are kept for good.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Batch, LogCursor, OrderDocument, OrderUid, Revision};

/// Where orders are kept for good.
#[async_trait]
pub trait OrderRepository: Send + Sync {
    /// Stores a batch in one transaction, and returns only when it is durable.
    ///
    /// - An order MUST replace what is stored under its uid exactly if its revision is newer, and then as a whole: items that
    ///   the new version does not have are gone.
    /// - A dead letter MUST be recorded once, however often it is given; what is known of it already (that it was discarded,
    ///   say) MUST stay.
    /// - If any order changed, exactly one [`LogEntry`](crate::LogEntry) naming all that changed MUST become visible with
    ///   them, at a position higher than that of every entry visible before. If none did, none may be appended.
    /// - Storing the same batch again MUST change nothing, so that a batch whose fate is unknown can be stored again.
    /// - Batches stored at the same time MUST NOT fail because of each other.
    ///
    /// # Errors
    ///
    /// [`Rejected`](RepositoryError::Rejected) if the data is at fault; nothing of the batch is then stored.
    /// [`Unavailable`](RepositoryError::Unavailable) if it may or may not have been stored.
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError>;

    /// The newest committed version of one order, `Ok(None)` if there is none.
    ///
    /// It MUST be whole (never the items of one version with the payment of another) and its bytes MUST be those that were
    /// stored.
    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError>;

    /// At most `limit` orders, those created last first, in chunks, all of one snapshot taken after the call.
    ///
    /// Memory in use MUST NOT grow with `limit`.
    fn newest(&self, limit: usize) -> OrderStream<'_>;
}

/// Orders in chunks, as [`OrderRepository::newest`] reads them. It ends after the first error.
pub type OrderStream<'a> = BoxStream<'a, Result<Vec<OrderDocument>, RepositoryError>>;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// What became of each order, in the order of [`Batch::orders`].
    pub outcomes: Vec<StoreOutcome>,
    /// The entry in the commit log that names the orders that changed; `None` if none did.
    pub logged: Option<LogCursor>,
}

/// What became of one order of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It is the newest version now.
    Stored,
    /// A version at least as new was there already.
    Superseded {
        /// The version that is stored.
        by: Revision,
    },
}

/// Why a repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Out of reach, overloaded or too slow. A write may or may not have happened: do it again.
    #[error("the repository is out of reach: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The data is at fault: the same write will never succeed, and did not happen.
    #[error("the repository rejects the data: {0}")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else: a fault of ours, not of an order's. The write did not happen.
    #[error("the repository failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
