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
    /// How many transactions may be under way at once, each with the orders whose uids fall to it. When it is quiet they share one.
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
/// artificial delay. Under load several lanes do so side by side, the versions of an order always in the same one; when it is quiet
/// they share a transaction, since commits wait for one another's place in the log. Nothing is ever given up: what the database
/// cannot take now is tried until it can, and what can never become an order is recorded as a dead letter before it is
/// acknowledged.
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
                    self.commit_what_is_idle(work, true);
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
            self.commit_what_is_idle(work, false);
        }
    }

    /// Sends on what can be: each lane by itself that is worth a transaction, and the others in one where none is under way.
    ///
    /// They give way to others when these come to their end, but only once, or a busy lane would keep them waiting for ever.
    fn commit_what_is_idle(&self, work: &mut Work, after_a_commit: bool) {
        let (alone, together): (Vec<_>, Vec<_>) = work
            .idle()
            .partition(|&lane| work.lanes[lane].is_worth_a_transaction(&self.settings));
        for lane in alone {
            self.commit(work, vec![lane]);
        }
        let gave_way = |lane: &usize| work.lanes[*lane].gave_way;
        if work.committing.is_empty() || (after_a_commit && together.iter().any(gave_way)) {
            self.commit(work, together);
        } else if after_a_commit {
            together.iter().for_each(|&lane| work.lanes[lane].gave_way = true);
        }
    }

    /// Stores in one transaction what was taken into these lanes.
    fn commit(&self, work: &mut Work, lanes: Vec<usize>) {
        let taken = lanes.iter().map(|&lane| std::mem::take(&mut work.lanes[lane]));
        let Some(mut taken) = taken.reduce(Taken::with) else {
            return;
        };
        let tokens = std::mem::take(&mut taken.tokens);
        let store = Arc::clone(&self.store);
        let task = tokio::spawn(async move { store.store(taken).await });
        work.committing.push(Committing { lanes, task, tokens });
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
            while !work.committing.is_empty() {
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
    /// What was taken and is to be stored next, by lane.
    lanes: Box<[Taken]>,
    committing: Vec<Committing>,
}

/// A batch on its way.
struct Committing {
    /// The lanes it is from, which store nothing else meanwhile.
    lanes: Vec<usize>,
    task: JoinHandle<()>,
    tokens: Vec<AckToken>,
}

impl Work {
    fn new(lanes: NonZeroUsize) -> Self {
        Work {
            lanes: (0..lanes.get()).map(|_| Taken::default()).collect(),
            committing: Vec::new(),
        }
    }

    fn add(&mut self, read: Read) {
        let lane = read.lane(self.lanes.len());
        self.lanes[lane].add(read);
    }

    /// What may still be taken: as much as the fullest lane has room for, since all of it may fall to that one.
    fn room(&self, limits: TakeLimits) -> TakeLimits {
        let rooms = self.lanes.iter().map(|taken| taken.room(limits));
        rooms
            .reduce(|a, b| TakeLimits {
                messages: a.messages.min(b.messages),
                bytes: a.bytes.min(b.bytes),
            })
            .unwrap_or(limits)
    }

    /// The lanes that have something to store and are not storing.
    fn idle(&self) -> impl Iterator<Item = usize> {
        let is_storing = |lane| self.committing.iter().any(|batch| batch.lanes.contains(&lane));
        (0..self.lanes.len()).filter(move |&lane| !self.lanes[lane].is_empty() && !is_storing(lane))
    }

    /// Waits until one of the batches in hand is stored, and answers what to acknowledge. Waits for ever without one. Safe to
    /// drop.
    async fn committed(&mut self) -> Vec<AckToken> {
        let (place, ended) = poll_fn(|context| {
            for (place, batch) in self.committing.iter_mut().enumerate() {
                if let Poll::Ready(ended) = Pin::new(&mut batch.task).poll(context) {
                    return Poll::Ready((place, ended));
                }
            }
            Poll::Pending
        })
        .await;
        let batch = self.committing.swap_remove(place);
        match ended {
            Ok(()) => batch.tokens,
            Err(error) => {
                // Not stored as far as we know, so not acknowledged: it comes again.
                tracing::error!(%error, "storing a batch broke off");
                Vec::new()
            }
        }
    }

    /// The tokens of all that is in hand.
    fn tokens(&self) -> impl Iterator<Item = &[AckToken]> {
        let committing = self.committing.iter().map(|batch| &batch.tokens[..]);
        committing.chain(self.lanes.iter().map(|taken| &taken.tokens[..]))
    }

    fn forget_tokens(&mut self) {
        self.committing.iter_mut().for_each(|batch| batch.tokens.clear());
        self.lanes.iter_mut().for_each(|taken| taken.tokens.clear());
    }

    /// Breaks off what is not stored yet, and answers the tokens of that and of what was taken beyond it.
    fn abort(&mut self) -> Vec<AckToken> {
        let mut unfinished = Vec::new();
        for batch in self.committing.drain(..) {
            batch.task.abort();
            unfinished.extend(batch.tokens);
        }
        for taken in &mut self.lanes {
            unfinished.append(&mut taken.tokens);
        }
        unfinished
    }
}
