//! Takes orders from the bus into the repository.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::batch_store::{BatchStore, Read, Taken};
#[cfg(feature = "failpoints")]
use crate::failpoints::{self, Moment};
use crate::{
    AckToken, Backoff, BusError, Coherence, Health, OrderBus, OrderRepository, Subscription, TakeLimits,
};

/// How orders are taken in.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// The most one transaction stores, in messages and in bytes. Each lane holds twice as much: one batch commits while the
    /// next is taken.
    pub batch: TakeLimits,
    /// How many transactions are under way at once, each with the orders whose uids fall to it.
    pub lanes: NonZeroUsize,
    /// How often the bus is told that what is in hand is still being worked on. Must be well under the bus's own time for
    /// an acknowledgement.
    #[serde(with = "duration")]
    pub progress_every: Duration,
    /// How long the bus may take to be told of acknowledgements.
    #[serde(with = "duration")]
    pub acknowledge_within: Duration,
    /// How long the batch in hand may take to finish when the service ends.
    #[serde(with = "duration")]
    pub finish_within: Duration,
    /// The longest wait before a failed batch, or a lost subscription, is tried again.
    #[serde(with = "duration")]
    pub retry_at_most: Duration,
    /// After so many orders rejected one after another the fault is taken for ours: ingestion pauses.
    pub rejections_in_a_row: usize,
}

impl Default for IngestSettings {
    fn default() -> Self {
        IngestSettings {
            batch: TakeLimits::default(),
            lanes: NonZeroUsize::new(2).expect("two is not zero"),
            progress_every: Duration::from_secs(5),
            acknowledge_within: Duration::from_secs(2),
            finish_within: Duration::from_secs(5),
            retry_at_most: Duration::from_secs(5),
            rejections_in_a_row: 20,
        }
    }
}

/// Takes what has arrived, parses it, stores it, and acknowledges it only then.
///
/// One batch commits while the next is taken, so that batches are small when it is quiet and large under load, without any
/// artificial delay. Several lanes do so side by side, the versions of an order always in the same one. Nothing is ever given
/// up: what the database cannot take now is tried until it can, and what can never become an order is recorded as a dead letter
/// before it is acknowledged.
pub struct Ingestor {
    bus: Arc<dyn OrderBus>,
    store: Arc<BatchStore>,
    settings: IngestSettings,
}

impl Ingestor {
    /// Takes orders from `bus` into `repository`.
    pub fn new(
        bus: Arc<dyn OrderBus>,
        repository: Arc<dyn OrderRepository>,
        coherence: Arc<Coherence>,
        health: Arc<Health>,
        settings: IngestSettings,
    ) -> Self {
        let store = Arc::new(BatchStore::new(repository, coherence, health, &settings));
        Ingestor { bus, store, settings }
    }

    /// Takes orders until told to stop; then hands back what is buffered and finishes the batch in hand.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(100), self.settings.retry_at_most);
        let mut work = Work::new(self.settings.lanes);
        while !stop.is_cancelled() {
            let Some(opened) = stop.run_until_cancelled(self.bus.subscribe()).await else {
                break;
            };
            match opened {
                Ok(subscription) => {
                    tracing::info!("taking orders");
                    let Some(ended) = self.consume(subscription, &mut work, &mut backoff, &stop).await else {
                        return;
                    };
                    tracing::warn!(error = %ended, "the subscription ended; opening another");
                }
                Err(error @ BusError::Unsuitable(_)) => {
                    tracing::error!(%error, "cannot take orders; trying again until it is mended");
                }
                Err(error) => tracing::warn!(%error, "failed to subscribe; trying again"),
            }
            // What is in hand will be delivered again, and its tokens may mean other messages by then.
            work.forget_tokens();
            stop.run_until_cancelled(sleep(backoff.step())).await;
        }
        // Without a subscription there is nobody to acknowledge it to; it is delivered again and changes nothing.
        self.finish(&mut work).await;
        work.abort();
    }

    /// Takes orders from one subscription until it ends; `None` if that was because we were told to stop.
    async fn consume(
        &self,
        mut subscription: Box<dyn Subscription>,
        work: &mut Work,
        backoff: &mut Backoff,
        stop: &CancellationToken,
    ) -> Option<BusError> {
        let first = Instant::now() + self.settings.progress_every;
        let mut progress = interval_at(first, self.settings.progress_every);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = work.room(self.settings.batch);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.stop(subscription, work).await;
                    return None;
                }
                tokens = work.committed() => {
                    // The next batch is on its way to the database before the bus hears of the last one.
                    self.commit_what_is_idle(work);
                    #[cfg(feature = "failpoints")]
                    failpoints::reached(Moment::BeforeAcknowledge).await;
                    subscription.acknowledge(&tokens, self.settings.acknowledge_within).await;
                    #[cfg(feature = "failpoints")]
                    failpoints::reached(Moment::AfterAcknowledge).await;
                }
                _ = progress.tick() => {
                    for tokens in work.tokens() {
                        subscription.progress(tokens).await;
                    }
                }
                taken = subscription.take(room), if room.messages > 0 => match taken {
                    Ok(messages) => {
                        #[cfg(feature = "failpoints")]
                        failpoints::reached(Moment::AfterReceive).await;
                        backoff.reset();
                        messages.into_iter().for_each(|message| work.add(Read::new(message)));
                    }
                    Err(error) => return Some(error),
                }
            }
            self.commit_what_is_idle(work);
        }
    }

    fn commit_what_is_idle(&self, work: &mut Work) {
        for lane in &mut work.lanes {
            if lane.committing.is_none() && !lane.taken.is_empty() {
                let mut taken = std::mem::take(&mut lane.taken);
                let tokens = std::mem::take(&mut taken.tokens);
                let store = Arc::clone(&self.store);
                let task = tokio::spawn(async move { store.store(taken).await });
                lane.committing = Some(Committing { task, tokens });
            }
        }
    }

    /// Finishes the batches in hand, and hands back what was taken beyond them.
    async fn stop(&self, subscription: Box<dyn Subscription>, work: &mut Work) {
        let within = self.settings.acknowledge_within;
        let stored = self.finish(work).await;
        subscription.acknowledge(&stored, within).await;
        subscription.release(&work.abort(), within).await;
    }

    /// Finishes the batches in hand, as far as that does not take too long. Answers the tokens of those that are stored.
    async fn finish(&self, work: &mut Work) -> Vec<AckToken> {
        let mut stored = Vec::new();
        let finishing = async {
            while work.is_committing() {
                stored.extend(work.committed().await);
            }
        };
        // What is not stored by then is delivered again.
        let _ = timeout(self.settings.finish_within, finishing).await;
        stored
    }
}

/// What is in hand.
struct Work {
    lanes: Box<[Lane]>,
}

/// The part of the orders that is stored in one transaction after another.
#[derive(Default)]
struct Lane {
    committing: Option<Committing>,
    taken: Taken,
}

struct Committing {
    task: JoinHandle<()>,
    tokens: Vec<AckToken>,
}

impl Work {
    fn new(lanes: NonZeroUsize) -> Self {
        Work {
            lanes: (0..lanes.get()).map(|_| Lane::default()).collect(),
        }
    }

    fn add(&mut self, read: Read) {
        let lane = read.lane(self.lanes.len());
        self.lanes[lane].taken.add(read);
    }

    /// What may still be taken: as much as the fullest lane has room for, since all of it may fall to that one.
    fn room(&self, limits: TakeLimits) -> TakeLimits {
        let rooms = self.lanes.iter().map(|lane| lane.taken.room(limits));
        rooms
            .reduce(|a, b| TakeLimits {
                messages: a.messages.min(b.messages),
                bytes: a.bytes.min(b.bytes),
            })
            .unwrap_or(limits)
    }

    fn is_committing(&self) -> bool {
        self.lanes.iter().any(|lane| lane.committing.is_some())
    }

    /// Waits until one of the batches in hand is stored, and answers what to acknowledge. Waits for ever without one. Safe to
    /// drop.
    async fn committed(&mut self) -> Vec<AckToken> {
        let ended = poll_fn(|context| {
            for lane in &mut self.lanes {
                if let Some(committing) = &mut lane.committing
                    && let Poll::Ready(ended) = Pin::new(&mut committing.task).poll(context)
                {
                    let tokens = std::mem::take(&mut committing.tokens);
                    lane.committing = None;
                    return Poll::Ready((ended, tokens));
                }
            }
            Poll::Pending
        });
        match ended.await {
            (Ok(()), tokens) => tokens,
            (Err(error), _) => {
                // Not stored as far as we know, so not acknowledged: it comes again.
                tracing::error!(%error, "storing a batch broke off");
                Vec::new()
            }
        }
    }

    /// The tokens of all that is in hand.
    fn tokens(&self) -> impl Iterator<Item = &[AckToken]> {
        self.lanes.iter().flat_map(|lane| {
            let committing = lane.committing.iter().map(|committing| &committing.tokens[..]);
            committing.chain([&lane.taken.tokens[..]])
        })
    }

    fn forget_tokens(&mut self) {
        for lane in &mut self.lanes {
            lane.taken.tokens.clear();
            if let Some(committing) = &mut lane.committing {
                committing.tokens.clear();
            }
        }
    }

    /// Breaks off what is not stored yet, and answers the tokens of that and of what was taken beyond it.
    fn abort(&mut self) -> Vec<AckToken> {
        let mut unfinished = Vec::new();
        for lane in &mut self.lanes {
            unfinished.append(&mut lane.taken.tokens);
            if let Some(committing) = lane.committing.take() {
                committing.task.abort();
                unfinished.extend(committing.tokens);
            }
        }
        unfinished
    }
}
