//! How far a run is, told while it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::recorder::Outcome;

/// How far a run is, for others to look at meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// Requests done, those of the warm-up included.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// The longest response time since the last look.
    pub slowest: Duration,
}

/// Tells how far a run is, while it runs and afterwards.
#[derive(Debug, Clone)]
pub struct Gauge(Vec<Arc<Live>>);

impl Gauge {
    pub(super) fn new(live: Vec<Arc<Live>>) -> Gauge {
        Gauge(live)
    }

    /// How far it is.
    pub fn standing(&self) -> Standing {
        let mut standing = Standing::default();
        for live in &self.0 {
            standing.done += live.done.load(Ordering::Relaxed);
            standing.failed += live.failed.load(Ordering::Relaxed);
            let slowest = Duration::from_nanos(live.slowest.swap(0, Ordering::Relaxed));
            standing.slowest = standing.slowest.max(slowest);
        }
        standing
    }
}

/// What one thread tells of itself.
#[derive(Debug, Default)]
pub(super) struct Live {
    done: AtomicU64,
    failed: AtomicU64,
    slowest: AtomicU64,
}

impl Live {
    /// Counts a request that took so long.
    pub(super) fn note(&self, response: Duration, outcome: &Outcome) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if outcome.fault.is_some() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let response = u64::try_from(response.as_nanos()).unwrap_or(u64::MAX);
        if response > self.slowest.load(Ordering::Relaxed) {
            self.slowest.store(response, Ordering::Relaxed);
        }
    }
}
