//! Where someone looks dead letters through, takes them in after all, or sets them aside.

use std::sync::Arc;

use crate::{
    Batch, DeadLetter, DeadLetterError, DeadLetterQuery, DeadLetterState, DeadLetters, Faults,
    OrderRepository, Parsed, RepositoryError, RevisedOrder, Revision, StoreOutcome, StoredDeadLetter, parse,
};

/// What can be done with dead letters.
///
/// A dead letter is replayed under the revision that its message had. Published anew it would get a new one, and old
/// content would win over a newer version.
pub struct DeadLetterDesk {
    letters: Arc<dyn DeadLetters>,
    repository: Arc<dyn OrderRepository>,
}

/// What became of a dead letter that was to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// Its order is stored, as the newest version.
    Stored,
    /// Its order has a newer version, which stays. The letter counts as replayed: there is nothing more to do with it.
    Superseded {
        /// The version that is stored.
        by: Revision,
    },
    /// It is still no order; the letter waits on.
    Faulty(Faults),
    /// It is an order, and the database rejects it still, in these words; the letter waits on.
    Rejected(String),
    /// The broker's clock stepped back between it and the version that is stored, so that nobody here can tell which is newer; the
    /// letter waits on. Someone has to look at both, and to publish the right one anew.
    BehindTheClock {
        /// The version that is stored.
        stored: Revision,
    },
    /// It no longer waits: it was replayed or discarded before. Nothing was done.
    NotWaiting(DeadLetterState),
    /// There is no dead letter of this revision.
    Unknown,
}

/// What became of a dead letter that was to be discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// It is set aside. Its record stays, so that a redelivery does not bring it back.
    Discarded,
    /// It no longer waits: it was replayed or discarded before. Nothing was done.
    NotWaiting(DeadLetterState),
    /// There is no dead letter of this revision.
    Unknown,
}

/// Why nothing could be done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The dead letters cannot be read or changed.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// The order cannot be read or stored. Whether it was is not known: replaying it again is safe.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl DeadLetterDesk {
    /// Over these two, which must be on one database.
    pub fn new(letters: Arc<dyn DeadLetters>, repository: Arc<dyn OrderRepository>) -> Self {
        DeadLetterDesk { letters, repository }
    }

    /// The dead letters that match, newest first.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<StoredDeadLetter>, DeskError> {
        Ok(self.letters.list(query).await?)
    }

    /// One dead letter, whole; `Ok(None)` if there is none of this revision.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub async fn find(&self, revision: Revision) -> Result<Option<StoredDeadLetter>, DeskError> {
        Ok(self.letters.find(revision).await?)
    }

    /// Parses the stored bytes again and stores the order under its original revision, in the transaction that marks the letter.
    ///
    /// Safe to do again, and beside the running service.
    ///
    /// # Errors
    ///
    /// The database is out of reach, or the fault is ours. It is not tried again here.
    pub async fn replay(&self, revision: Revision) -> Result<Replayed, DeskError> {
        let Some(StoredDeadLetter { letter, state, .. }) = self.letters.find(revision).await? else {
            return Ok(Replayed::Unknown);
        };
        if state != DeadLetterState::Waiting {
            return Ok(Replayed::NotWaiting(state));
        }
        let order = match parse(&letter.message.payload) {
            Ok(Parsed { order, .. }) => order,
            Err(faults) => return Ok(Replayed::Faulty(faults)),
        };
        // Such a letter must not vanish as superseded, here as little as on its way in.
        if let Some(stored) = self.repository.find(&order.order_uid).await?
            && revision.is_behind_the_clock_of(&stored.revision)
        {
            return Ok(Replayed::BehindTheClock {
                stored: stored.revision,
            });
        }
        self.store(letter, RevisedOrder { revision, order }).await
    }

    async fn store(&self, letter: DeadLetter, order: RevisedOrder) -> Result<Replayed, DeskError> {
        let batch = Batch::new(vec![order], Vec::new()).replaying(vec![letter.revision]);
        match self.repository.store(&batch).await {
            Ok(report) => Ok(match report.outcomes.first() {
                Some(StoreOutcome::Superseded { by }) if *by != letter.revision => {
                    Replayed::Superseded { by: *by }
                }
                // The very same version was there already: stored by the first of two replays, say.
                _ => Replayed::Stored,
            }),
            Err(RepositoryError::Rejected(rejection)) => Ok(Replayed::Rejected(rejection.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets a dead letter aside for good.
    ///
    /// # Errors
    ///
    /// The database is out of reach, or the fault is ours.
    pub async fn discard(&self, revision: Revision) -> Result<Discarded, DeskError> {
        if self.letters.discard(revision).await? {
            return Ok(Discarded::Discarded);
        }
        Ok(match self.letters.find(revision).await? {
            Some(found) => Discarded::NotWaiting(found.state),
            None => Discarded::Unknown,
        })
    }
}
