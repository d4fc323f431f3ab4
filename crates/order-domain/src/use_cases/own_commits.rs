//! What this replica has committed itself, on its way to the log follower.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{LogChange, Logged};

/// How many wait at most. The follower reads in the log what it was not told.
const MOST: usize = 16;

/// A batch that this replica has committed.
#[derive(Debug)]
pub(crate) struct OwnCommit {
    /// Where it stands in the log.
    pub(crate) logged: Logged,
    /// The orders that changed.
    pub(crate) changes: Vec<LogChange>,
}

/// What this replica has committed itself, told to the log follower so that it need not ask for it.
#[derive(Default)]
pub(crate) struct OwnCommits {
    told: Mutex<VecDeque<OwnCommit>>,
    bell: Notify,
}

impl OwnCommits {
    /// Tells the follower, unless too much waits for it already.
    pub(crate) fn tell(&self, commit: OwnCommit) {
        let mut told = self.told();
        if told.len() < MOST {
            told.push_back(commit);
            self.bell.notify_one();
        }
    }

    /// The next that was told. Safe to drop.
    pub(crate) async fn next(&self) -> OwnCommit {
        loop {
            if let Some(commit) = self.told().pop_front() {
                return commit;
            }
            self.bell.notified().await;
        }
    }

    /// Forgets what was told so far: a look at the log that begins now sees all of it.
    pub(crate) fn forget(&self) {
        self.told().clear();
    }

    fn told(&self) -> MutexGuard<'_, VecDeque<OwnCommit>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
