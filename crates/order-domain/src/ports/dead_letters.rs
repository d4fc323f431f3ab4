//! Messages that can never become orders.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{OrderUid, RawMessage, Revision};

/// The messages that could not become orders. Recorded by [`OrderRepository::store`](crate::OrderRepository::store), in
/// the transaction of the orders around them.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The dead letters that match, newest first, without anything left out between two pages.
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<StoredDeadLetter>, DeadLetterError>;

    /// One dead letter, whole; `Ok(None)` if there is none of this revision.
    async fn find(&self, revision: Revision) -> Result<Option<StoredDeadLetter>, DeadLetterError>;

    /// Sets a dead letter aside for good; answers whether it was there and waiting.
    ///
    /// Its record MUST stay, so that a redelivery does not bring it back as new.
    async fn discard(&self, revision: Revision) -> Result<bool, DeadLetterError>;
}

/// A message that can never become an order, kept whole, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's revision, and the dead letter's key.
    pub revision: Revision,
    /// The message as it came.
    pub message: RawMessage,
    /// Why it cannot become an order, in words. Names fields, never their values.
    pub reason: String,
    /// Which order it meant, where that could be read.
    pub order_uid: Option<OrderUid>,
}

/// A dead letter as it stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// The dead letter.
    pub letter: DeadLetter,
    /// What became of it.
    pub state: DeadLetterState,
    /// When it was recorded, by the database's clock.
    pub recorded_at: Timestamp,
}

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterState {
    /// It waits for someone to look at it.
    Waiting,
    /// It was taken in after all, by a newer version of the service or after a repair.
    Replayed,
    /// Someone decided that it is of no use.
    Discarded,
}

impl DeadLetterState {
    /// The state's name, as stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            DeadLetterState::Waiting => "waiting",
            DeadLetterState::Replayed => "replayed",
            DeadLetterState::Discarded => "discarded",
        }
    }

    /// The state of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Replayed, Self::Discarded]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// Which dead letters to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterQuery {
    /// Only those in this state; `None` for all.
    pub state: Option<DeadLetterState>,
    /// Only those of a revision before this one: the last of the page before.
    pub before: Option<Revision>,
    /// At most so many.
    pub limit: usize,
}

/// Why dead letters could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// Out of reach, or too slow: ask again.
    #[error("the dead letters are out of reach: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else: a fault of ours.
    #[error("the dead letters failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
