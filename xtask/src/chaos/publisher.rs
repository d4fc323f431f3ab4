//! Publishes orders, new versions of them and bad messages, and writes down every acknowledgement.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use order_domain::{BusError, OrderBus, OutgoingMessage};
use order_nats::{NatsOrderBus, NatsSettings};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use xtask::orders::{Dice, Mix, OrderGenerator};

use super::history::{Digest, Place, Published};
use super::recorder::{Recorder, Shop};

/// The most messages that wait for their acknowledgement at once.
const MOST_WAITING: usize = 300;
/// How many of a hundred messages are bad, and how many new orders.
const BAD_PERCENT: f64 = 3.0;
const NEW_PERCENT: f64 = 30.0;

/// Publishes to the broker directly, not through a replica's way to it.
#[derive(Debug)]
pub(super) struct Publisher {
    bus: Arc<NatsOrderBus>,
    recorder: Arc<Recorder>,
    shop: Arc<Shop>,
    bad: OrderGenerator,
    dice: Dice,
    /// Which stream this is: see [`Place`].
    epoch: u32,
    /// Every message has an id of its own.
    ids: Arc<AtomicU64>,
}

impl Publisher {
    /// Begins to connect to the broker.
    ///
    /// # Errors
    ///
    /// Where the URL is none.
    pub(super) async fn connect(
        nats_url: &str,
        seed: u64,
        recorder: Arc<Recorder>,
        shop: Arc<Shop>,
    ) -> Result<Publisher> {
        let second = Duration::from_secs(1);
        let settings = NatsSettings {
            url: nats_url.parse().context("the broker's URL is none")?,
            ping_interval: second / 2,
            publish_timeout: second,
            connect_timeout: second,
            request_timeout: second,
            reconnect_at_most: second / 4,
            ..NatsSettings::default()
        };
        let mix = Mix {
            bad_percent: 100.0,
            ..Mix::default()
        };
        Ok(Publisher {
            bus: Arc::new(NatsOrderBus::connect(settings).await?),
            recorder,
            shop,
            bad: OrderGenerator::new(seed, mix),
            dice: Dice::new(seed, u64::MAX - 1),
            epoch: 0,
            ids: Arc::default(),
        })
    }

    /// The stream was made anew, or set back: it hands out old sequences again.
    pub(super) fn begin_epoch(&mut self) {
        self.epoch += 1;
    }

    /// How many messages the broker has not delivered, or has no acknowledgement of. `None` where it cannot be asked.
    pub(super) async fn backlog(&self) -> Option<u64> {
        let backlog = timeout(Duration::from_secs(2), self.bus.backlog())
            .await
            .ok()?
            .ok()?;
        Some(backlog.undelivered + backlog.unacknowledged)
    }

    /// Publishes until told to stop, then waits until everything is acknowledged, at most `patience`. Answers how many are not.
    pub(super) async fn run(&mut self, stop: CancellationToken, patience: Duration) -> usize {
        let mut waiting = JoinSet::new();
        while !stop.is_cancelled() {
            // Mostly one by one, now and then many at once, so that batches are small and large.
            let burst = if self.dice.percent(2.0) {
                self.dice.between(20, 120)
            } else {
                1
            };
            for _ in 0..burst {
                let message = self.next();
                waiting.spawn(message);
            }
            let pause = Duration::from_millis(self.dice.below(14));
            stop.run_until_cancelled(sleep(pause)).await;
            while waiting.try_join_next().is_some() {}
            while waiting.len() > MOST_WAITING && !stop.is_cancelled() {
                stop.run_until_cancelled(waiting.join_next()).await;
            }
        }
        let all = async { while waiting.join_next().await.is_some() {} };
        let _ = timeout(patience, all).await;
        waiting.len()
    }

    /// Writes the next message down, and answers what publishes it.
    fn next(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (payload, published) = if self.dice.percent(BAD_PERCENT) {
            self.bad_message()
        } else {
            self.order()
        };
        let index = {
            let mut history = self.recorder.history();
            history.published.push(published);
            history.published.len() - 1
        };
        let (bus, recorder, epoch) = (Arc::clone(&self.bus), Arc::clone(&self.recorder), self.epoch);
        let id = format!("chaos-{}", self.ids.fetch_add(1, Ordering::Relaxed));
        async move {
            let message = OutgoingMessage {
                id,
                headers: Vec::new(),
                payload,
            };
            loop {
                match bus.publish(message.clone()).await {
                    Ok(ack) => {
                        let sequence = ack.sequence;
                        recorder.history().published[index].place = Some(Place { epoch, sequence });
                        return;
                    }
                    // It may be stored or not: the same id once more tells.
                    Err(BusError::Unavailable(_)) => sleep(Duration::from_millis(50)).await,
                    // Stays unacknowledged, and is reported as that.
                    Err(BusError::Refused(_) | BusError::Unsuitable(_)) => return,
                }
            }
        }
    }

    fn order(&mut self) -> (Bytes, Published) {
        let new = self.dice.percent(NEW_PERCENT);
        let dice = &mut self.dice;
        let version = (!new).then(|| self.shop.new_version(|count| dice.below(count as u64) as usize));
        let order = version.flatten().unwrap_or_else(|| self.shop.new_order());
        let published = Published {
            uid: Some(order.order_uid.clone()),
            content: Digest::of(order.json()),
            items: order.items.len(),
            place: None,
        };
        (order.json().clone(), published)
    }

    fn bad_message(&mut self) -> (Bytes, Published) {
        let message = self.bad.next().expect("the generator has no end");
        let published = Published {
            uid: None,
            content: Digest::of_letter(&message.payload, message.payload.len()),
            items: 0,
            place: None,
        };
        (message.payload, published)
    }
}
