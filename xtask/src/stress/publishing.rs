//! Publishing orders, as work for the generator.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use order_domain::{BusError, OrderBus, OutgoingMessage};
use order_nats::{NatsOrderBus, NatsSettings};
use tokio::time::sleep;
use xtask::load::{Outcome, Work, Worker};

use super::lag::Sample;
use super::stock::Stock;

/// Publishes the orders from one number on, each under a message id of its own.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) stock: Arc<Stock>,
    /// The number of the first order.
    pub(crate) first: u64,
    pub(crate) broker: NatsSettings,
    /// What every message id begins with: differs from run to run, or the broker would take them for repeated attempts.
    pub(crate) run: String,
    /// How long an order is tried, each time under the same id, before it counts as failed.
    pub(crate) timeout: Duration,
    pub(crate) ledger: Arc<Ledger>,
    /// Whose reading is waited for; none where nobody wants to know.
    pub(crate) sample: Option<Sample>,
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    acknowledged: AtomicU64,
    /// Those that were not, which may be stored or not.
    unanswered: Mutex<Vec<u64>>,
}

impl Ledger {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(crate) fn unanswered(&self) -> Vec<u64> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Work for Publish {
    type Worker = Publisher;

    fn classes(&self) -> usize {
        1
    }

    async fn workers(&self, count: usize) -> Result<Vec<Publisher>> {
        // One connection a thread: its workers are messages under way on it.
        let bus = NatsOrderBus::connect(self.broker.clone()).await?;
        let worker = || Publisher {
            bus: bus.clone(),
            publish: self.clone(),
        };
        Ok(std::iter::repeat_with(worker).take(count).collect())
    }
}

/// Publishes one order after another.
#[derive(Debug)]
pub(crate) struct Publisher {
    bus: NatsOrderBus,
    publish: Publish,
}

impl Worker for Publisher {
    async fn perform(&mut self, number: u64) -> Outcome {
        let Publish {
            stock,
            first,
            run,
            timeout,
            ledger,
            sample,
            ..
        } = &self.publish;
        let (uid, payload) = stock.order(first + number);
        let began = Instant::now();
        let message = OutgoingMessage {
            id: format!("{run}-{}", first + number),
            headers: Vec::new(),
            payload: payload.clone(),
        };
        let fault = loop {
            match self.bus.publish(message.clone()).await {
                Ok(_) => break None,
                // It may be stored or not: the same id once more tells.
                Err(BusError::Unavailable(_)) if began.elapsed() < *timeout => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(BusError::Unavailable(_)) => break Some("not acknowledged in time".to_owned()),
                Err(error) => break Some(error.to_string()),
            }
        };
        let outcome = Outcome {
            bytes_out: payload.len() as u64,
            fault,
            ..Outcome::default()
        };
        if outcome.fault.is_none() {
            ledger.acknowledged.fetch_add(1, Ordering::Relaxed);
            if let Some(sample) = sample {
                sample.offer(number, uid, payload, began);
            }
        } else {
            let mut unanswered = ledger.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
            unanswered.push(first + number);
        }
        outcome
    }
}
