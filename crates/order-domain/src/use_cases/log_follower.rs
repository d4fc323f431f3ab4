//! Keeps a replica's cache true by following the commit log.

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::own_commits::OwnCommit;
#[cfg(feature = "failpoints")]
use crate::failpoints::{self, Moment};
use crate::{Backoff, Coherence, CommitLog, CommitLogError, Health, LogChange, LogCursor, LogPage};

/// How the commit log is followed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FollowerSettings {
    /// How long to wait for a notice before looking anyway.
    #[serde(with = "duration")]
    pub poll: Duration,
    /// How long one look may take. Must be less than the lease, or a slow database always hides the cache.
    #[serde(with = "duration")]
    pub look_deadline: Duration,
    /// How many changes to read at once.
    pub page: usize,
    /// How long the log is kept. A replica cut off for longer begins with an empty cache.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// How often what is older is removed.
    #[serde(with = "duration")]
    pub prune_every: Duration,
}

impl Default for FollowerSettings {
    fn default() -> Self {
        FollowerSettings {
            poll: Duration::from_millis(250),
            look_deadline: Duration::from_millis(1_500),
            page: 10_000,
            retention: Duration::from_hours(7 * 24),
            prune_every: Duration::from_hours(1),
        }
    }
}

/// Follows the commit log: applies every change to the cache, in order, and proves the cache by it.
pub struct LogFollower {
    log: Arc<dyn CommitLog>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    settings: FollowerSettings,
}

impl LogFollower {
    /// Follows `log` for `coherence`.
    pub fn new(
        log: Arc<dyn CommitLog>,
        coherence: Arc<Coherence>,
        health: Arc<Health>,
        settings: FollowerSettings,
    ) -> Self {
        LogFollower {
            log,
            coherence,
            health,
            settings,
        }
    }

    /// Follows until told to stop; whatever fails is tried again.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(async { tokio::join!(self.follow(), self.prune()) })
            .await;
    }

    async fn follow(&self) {
        let mut place = Place::default();
        let mut backoff = Backoff::new(Duration::from_millis(50), self.settings.poll);
        loop {
            match self.look(&mut place).await {
                Ok(Look::Complete { at }) => {
                    self.health.database_reached();
                    backoff.reset();
                    place.cursor = Some(self.rest(at).await);
                }
                Ok(Look::MoreToRead) => {}
                Err(error) => {
                    self.health.database_lost(&error);
                    // Who waits for an order is told at once that nothing can be told.
                    self.coherence.arrivals().wake_all();
                    place.was_lost = true;
                    sleep(backoff.step()).await;
                }
            }
        }
    }

    /// Waits until it is time to look again: another replica has committed, or nobody has looked for a while. Meanwhile applies what this one
    /// commits; answers how far that has led.
    async fn rest(&self, mut at: LogCursor) -> LogCursor {
        let until = Instant::now() + self.settings.poll;
        loop {
            tokio::select! {
                biased;
                // A notice only wakes: whether it comes or not, the table is what counts.
                () = sleep_until(until) => return at,
                OwnCommit { logged, changes } = self.coherence.own_commits().next() => {
                    // With another entry between the two, both are read in the log.
                    if logged.previous == at {
                        self.apply(&changes).await;
                        at = logged.cursor;
                    }
                }
                () = self.log.changed(at) => return at,
            }
        }
    }

    /// Reads and applies one page of the log.
    async fn look(&self, place: &mut Place) -> Result<Look, CommitLogError> {
        let began = Instant::now();
        self.coherence.own_commits().forget();
        let Some(after) = place.cursor else {
            // The place to follow from is read first, then everything is forgotten: see `Coherence::reset`.
            let head = self.within_deadline(self.log.head()).await?;
            self.coherence.reset();
            place.cursor = Some(head);
            return Ok(Look::MoreToRead);
        };
        match self
            .within_deadline(self.log.read_after(after, self.settings.page))
            .await?
        {
            LogPage::Gap => {
                tracing::warn!(
                    position = after.position,
                    "the commit log no longer leads on from here (pruned, or the database was restored); the cache begins anew"
                );
                place.cursor = None;
                self.coherence.reset();
                Ok(Look::MoreToRead)
            }
            LogPage::Entries { entries, complete } => {
                if std::mem::take(&mut place.was_lost) {
                    self.coherence.doubt();
                }
                let mut at = after;
                for entry in entries {
                    self.apply(&entry.changes).await;
                    at = entry.cursor;
                }
                place.cursor = Some(at);
                if !complete {
                    return Ok(Look::MoreToRead);
                }
                self.coherence.extend_lease(began);
                Ok(Look::Complete { at })
            }
        }
    }

    async fn apply(&self, changes: &[LogChange]) {
        #[cfg(feature = "failpoints")]
        failpoints::reached(Moment::BeforeApply).await;
        self.coherence.apply(changes);
    }

    async fn within_deadline<T>(
        &self,
        look: impl Future<Output = Result<T, CommitLogError>>,
    ) -> Result<T, CommitLogError> {
        match timeout(self.settings.look_deadline, look).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(CommitLogError::Unavailable(elapsed.into())),
        }
    }

    async fn prune(&self) {
        loop {
            sleep(self.settings.prune_every).await;
            match self.log.prune(self.settings.retention).await {
                Ok(0) => {}
                Ok(entries) => tracing::debug!(entries, "removed old entries of the commit log"),
                Err(error) => tracing::warn!(%error, "failed to remove old entries of the commit log"),
            }
        }
    }
}

/// How far the log was followed.
#[derive(Default)]
struct Place {
    cursor: Option<LogCursor>,
    /// The last look failed: the next one may find another database.
    was_lost: bool,
}

enum Look {
    Complete { at: LogCursor },
    MoreToRead,
}
