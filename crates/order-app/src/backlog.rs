//! How far consumption is behind, asked of the broker now and then: a broker that is frozen must not hold up who scrapes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use order_domain::{Backlog, OrderBus};
use tokio::time::{sleep, timeout};

/// How often the broker is asked, and how long it may take to answer.
const EVERY: Duration = Duration::from_secs(5);

/// The last that the broker told of its backlog.
pub(crate) struct BacklogWatch {
    bus: Arc<dyn OrderBus>,
    last: Mutex<Option<Sample>>,
}

/// What the broker told, and when.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) backlog: Backlog,
    pub(crate) at: Instant,
}

impl BacklogWatch {
    pub(crate) fn new(bus: Arc<dyn OrderBus>) -> Self {
        BacklogWatch {
            bus,
            last: Mutex::default(),
        }
    }

    /// Asks for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            match timeout(EVERY, self.bus.backlog()).await {
                Ok(Ok(backlog)) => {
                    let at = Instant::now();
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sample { backlog, at });
                }
                // Whether the broker is in reach is told elsewhere; here only the sample grows old.
                Ok(Err(error)) => tracing::debug!(%error, "failed to ask for the backlog"),
                Err(_) => tracing::debug!("asking for the backlog took too long"),
            }
            sleep(EVERY).await;
        }
    }

    /// The last sample; `None` before the first.
    pub(crate) fn last(&self) -> Option<Sample> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
