//! How long it takes from publishing an order until it can be read: some are looked for until they are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use order_domain::OrderUid;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use xtask::load::{Endpoint, new_histogram};

use crate::verify::client::Connection;

/// How long an order is looked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where acknowledged orders are offered to whoever looks for one.
#[derive(Debug, Clone)]
pub(super) struct Probes {
    offers: mpsc::UnboundedSender<Offer>,
    idle: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Offer {
    uid: OrderUid,
    json: Bytes,
    published: Instant,
}

impl Probes {
    /// Has the order looked for, if someone has nothing else to look for: an order that waited would seem to be late.
    pub(super) fn offer(&self, uid: OrderUid, json: Bytes, published: Instant) {
        let taken = self
            .idle
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| idle.checked_sub(1));
        if taken.is_ok() {
            let offer = Offer { uid, json, published };
            // Nobody takes it where the run has ended.
            self.offers.send(offer).ok();
        }
    }
}

/// Those who look.
#[derive(Debug)]
pub(super) struct Prober {
    looking: JoinSet<Result<Sightings>>,
}

/// What they have seen.
#[derive(Debug)]
pub(super) struct Sightings {
    /// The time from publishing to the first answer with the order, in nanoseconds.
    pub(super) lag: Histogram<u64>,
    /// What was not as it should be.
    pub(super) faults: Vec<String>,
}

impl Prober {
    /// Starts `count` of them. They end when nobody holds the [`Probes`] any more.
    pub(super) fn start(endpoint: &Endpoint, count: usize) -> (Prober, Option<Probes>) {
        let (offers, taken) = mpsc::unbounded_channel();
        let taken = Arc::new(Mutex::new(taken));
        let idle = Arc::new(AtomicUsize::new(count));
        let mut looking = JoinSet::new();
        for _ in 0..count {
            let (endpoint, taken, idle) = (endpoint.clone(), Arc::clone(&taken), Arc::clone(&idle));
            looking.spawn(async move { look(&endpoint, &taken, &idle).await });
        }
        (Prober { looking }, (count > 0).then_some(Probes { offers, idle }))
    }

    /// Waits until the last has found what it looks for.
    ///
    /// # Errors
    ///
    /// Where one broke down.
    pub(super) async fn finish(mut self) -> Result<Sightings> {
        let mut all = Sightings {
            lag: new_histogram(),
            faults: Vec::new(),
        };
        while let Some(seen) = self.looking.join_next().await {
            let seen = seen.context("looking for orders broke down")??;
            all.lag.add(&seen.lag)?;
            all.faults.extend(seen.faults);
        }
        Ok(all)
    }
}

async fn look(
    endpoint: &Endpoint,
    offers: &Mutex<mpsc::UnboundedReceiver<Offer>>,
    idle: &AtomicUsize,
) -> Result<Sightings> {
    let mut connection = Connection::new(endpoint);
    let mut seen = Sightings {
        lag: new_histogram(),
        faults: Vec::new(),
    };
    loop {
        let offer = offers.lock().await.recv().await;
        let Some(offer) = offer else { return Ok(seen) };
        loop {
            let waited = offer.published.elapsed();
            match connection.order(offer.uid.as_str()).await {
                Ok(Some(json)) => {
                    let nanoseconds = u64::try_from(offer.published.elapsed().as_nanos())?;
                    seen.lag.saturating_record(nanoseconds);
                    if json != offer.json {
                        seen.faults
                            .push(format!("{} is served as other bytes than published", offer.uid));
                    }
                    break;
                }
                _ if waited > PATIENCE => {
                    let seconds = PATIENCE.as_secs();
                    seen.faults
                        .push(format!("{} could not be read within {seconds} s", offer.uid));
                    break;
                }
                // So often that it is found at most an eighth too late, and that looking is no load of its own.
                Ok(None) | Err(_) => sleep((waited / 8).max(Duration::from_millis(1))).await,
            }
        }
        idle.fetch_add(1, Ordering::Relaxed);
    }
}
