//! What answers of many orders may hold in memory, together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted as one: a semaphore counts to 2³² at most.
const UNIT: usize = 1024;

/// What answers of many orders may hold in memory, from before they are read until they are sent. Whoever finds no room waits.
pub(super) struct AnswerRoom {
    units: Arc<Semaphore>,
    most: usize,
}

/// Room for one answer, given back when dropped: keep it until the answer is sent.
#[derive(Debug)]
pub struct ReservedRoom {
    units: OwnedSemaphorePermit,
}

impl AnswerRoom {
    pub(super) fn new(bytes: usize) -> Self {
        let most = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        AnswerRoom {
            units: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// Reserves `bytes`, or all there is if that is less.
    pub(super) fn reserve(&self, bytes: usize) -> impl Future<Output = ReservedRoom> + use<> {
        let units = u32::try_from(units(bytes).min(self.most)).unwrap_or(u32::MAX);
        let reserved = Arc::clone(&self.units).acquire_many_owned(units);
        async move {
            ReservedRoom {
                units: reserved.await.expect("the semaphore is never closed"),
            }
        }
    }
}

impl ReservedRoom {
    /// Gives back what is more than `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let spare = self.units.num_permits().saturating_sub(units(bytes));
        drop(self.units.split(spare));
    }
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}
