//! How long it takes from publishing an order until it can be read: one in so many is waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use hdrhistogram::Histogram;
use order_domain::OrderUid;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use xtask::load::{Endpoint, new_histogram};

use crate::verify::client::Connection;

/// How many orders are waited for at once, each over a connection of its own.
///
/// Orders become readable nearly in the order in which they were published: while one is the next of its kind to come, it is being
/// waited for, however many are behind it.
const LOOKERS: usize = 32;

/// Which orders are waited for, and where to say that they were published.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    offers: UnboundedSender<Offer>,
    one_in: u64,
}

#[derive(Debug)]
struct Offer {
    uid: OrderUid,
    json: Bytes,
    published: Instant,
}

impl Sample {
    /// Has an order waited for, if its number is one of the sample. Chosen by nothing but its number: if those were taken for whom
    /// somebody is free, slow ones would keep others from being seen.
    pub(crate) fn offer(&self, number: u64, uid: OrderUid, json: Bytes, published: Instant) {
        if number.is_multiple_of(self.one_in) {
            let offer = Offer { uid, json, published };
            // Nobody takes it where the run has ended.
            self.offers.send(offer).ok();
        }
    }
}

/// Those who wait.
#[derive(Debug)]
pub(crate) struct Prober {
    looking: JoinSet<()>,
    seen: Arc<Mutex<Sightings>>,
}

/// What they have seen.
#[derive(Debug, Clone)]
pub(crate) struct Sightings {
    /// The time from publishing to the first answer with the order, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
    /// What was not as it should be.
    pub(crate) faults: Vec<String>,
}

impl Prober {
    /// Waits for one in `one_in` orders, or for none, until nobody holds the [`Sample`] any more.
    pub(crate) fn start(endpoint: &Endpoint, one_in: Option<u64>) -> (Prober, Option<Sample>) {
        let (offers, taken) = mpsc::unbounded_channel();
        let taken = Arc::new(tokio::sync::Mutex::new(taken));
        let seen = Arc::new(Mutex::new(Sightings {
            lag: new_histogram(),
            faults: Vec::new(),
        }));
        let mut looking = JoinSet::new();
        for _ in 0..LOOKERS {
            let (endpoint, taken, seen) = (endpoint.clone(), Arc::clone(&taken), Arc::clone(&seen));
            looking.spawn(async move { look(&endpoint, &taken, &seen).await });
        }
        let sample = one_in.map(|one_in| Sample { offers, one_in });
        (Prober { looking, seen }, sample)
    }

    /// Waits until all have been found, for at most `patience`. To be called when all are durable: until then they may take any time.
    ///
    /// # Errors
    ///
    /// Where looking broke down.
    pub(crate) async fn finish(mut self, patience: Duration) -> Result<Sightings> {
        let all_found = async {
            while let Some(ended) = self.looking.join_next().await {
                ended.context("looking for orders broke down")?;
            }
            anyhow::Ok(())
        };
        let in_time = timeout(patience, all_found).await;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match in_time {
            Ok(found) => found?,
            Err(_) => seen.faults.push(format!(
                "not all that were looked for could be read {} s after the last was durable",
                patience.as_secs()
            )),
        }
        Ok(seen)
    }
}

async fn look(
    endpoint: &Endpoint,
    offers: &tokio::sync::Mutex<UnboundedReceiver<Offer>>,
    seen: &Mutex<Sightings>,
) {
    let mut connection = Connection::new(endpoint);
    loop {
        let offer = offers.lock().await.recv().await;
        let Some(offer) = offer else { return };
        let json = loop {
            match connection.order_once_stored(offer.uid.as_str()).await {
                Ok(Some(json)) => break json,
                Ok(None) => {}
                // It cannot tell just now, or is not there.
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        };
        let lag = u64::try_from(offer.published.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.lag.saturating_record(lag);
        if json != offer.json {
            seen.faults
                .push(format!("{} is served as other bytes than published", offer.uid));
        }
    }
}
