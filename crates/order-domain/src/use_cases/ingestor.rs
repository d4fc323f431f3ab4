//! Takes orders from the bus into the repository.

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::batch_store::{BatchStore, Taken};
#[cfg(feature = "failpoints")]
use crate::failpoints::{self, Moment};
use crate::{
    AckToken, Backoff, BusError, Coherence, Health, OrderBus, OrderRepository, Subscription, TakeLimits,
};

/// How orders are taken in.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// The most one transaction stores, in messages and in bytes. Twice as much is held: one batch commits while the next is taken.
    pub batch: TakeLimits,
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
/// artificial delay. Nothing is ever given up: what the database cannot take now is tried until it can, and what can never
/// become an order is recorded as a dead letter before it is acknowledged.
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
        let mut work = Work::default();
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
        let _ = self.finish(&mut work).await;
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
            let room = work.taken.room(self.settings.batch);
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.stop(subscription, work).await;
                    return None;
                }
                tokens = work.committed() => {
                    // The next batch is on its way to the database before the bus hears of the last one.
                    self.commit_if_idle(work);
                    #[cfg(feature = "failpoints")]
                    failpoints::reached(Moment::BeforeAcknowledge).await;
                    subscription.acknowledge(&tokens, self.settings.acknowledge_within).await;
                    #[cfg(feature = "failpoints")]
                    failpoints::reached(Moment::AfterAcknowledge).await;
                }
                _ = progress.tick() => {
                    subscription.progress(work.committing_tokens()).await;
                    subscription.progress(&work.taken.tokens).await;
                }
                taken = subscription.take(room), if room.messages > 0 => match taken {
                    Ok(messages) => {
                        #[cfg(feature = "failpoints")]
                        failpoints::reached(Moment::AfterReceive).await;
                        backoff.reset();
                        messages.into_iter().for_each(|message| work.taken.add(message));
                    }
                    Err(error) => return Some(error),
                }
            }
            self.commit_if_idle(work);
        }
    }

    fn commit_if_idle(&self, work: &mut Work) {
        if work.committing.is_none() && !work.taken.is_empty() {
            let mut taken = std::mem::take(&mut work.taken);
            let tokens = std::mem::take(&mut taken.tokens);
            let store = Arc::clone(&self.store);
            let task = tokio::spawn(async move { store.store(taken).await });
            work.committing = Some(Committing { task, tokens });
        }
    }

    /// Finishes the batch in hand, and hands back what was taken beyond it.
    async fn stop(&self, subscription: Box<dyn Subscription>, work: &mut Work) {
        let within = self.settings.acknowledge_within;
        let mut unfinished = std::mem::take(&mut work.taken).tokens;
        match self.finish(work).await {
            Ok(stored) => subscription.acknowledge(&stored, within).await,
            Err(tokens) => unfinished.extend(tokens),
        }
        subscription.release(&unfinished, within).await;
    }

    /// Finishes the batch in hand, or breaks it off when that takes too long. Answers its tokens either way.
    async fn finish(&self, work: &mut Work) -> Result<Vec<AckToken>, Vec<AckToken>> {
        if work.committing.is_none() {
            return Ok(Vec::new());
        }
        match timeout(self.settings.finish_within, work.committed()).await {
            Ok(tokens) => Ok(tokens),
            Err(_) => Err(work.abort()),
        }
    }
}

/// What is in hand.
#[derive(Default)]
struct Work {
    committing: Option<Committing>,
    taken: Taken,
}

struct Committing {
    task: JoinHandle<()>,
    tokens: Vec<AckToken>,
}

impl Work {
    /// Waits until the batch in hand is stored, and answers what to acknowledge. Waits for ever without one. Safe to drop.
    async fn committed(&mut self) -> Vec<AckToken> {
        let Some(committing) = &mut self.committing else {
            return std::future::pending().await;
        };
        let ended = (&mut committing.task).await;
        let tokens = self
            .committing
            .take()
            .map(|committing| committing.tokens)
            .unwrap_or_default();
        match ended {
            Ok(()) => tokens,
            Err(error) => {
                // Not stored as far as we know, so not acknowledged: it comes again.
                tracing::error!(%error, "storing a batch broke off");
                Vec::new()
            }
        }
    }

    fn committing_tokens(&self) -> &[AckToken] {
        self.committing
            .as_ref()
            .map_or(&[], |committing| &committing.tokens)
    }

    fn forget_tokens(&mut self) {
        self.taken.tokens.clear();
        if let Some(committing) = &mut self.committing {
            committing.tokens.clear();
        }
    }

    fn abort(&mut self) -> Vec<AckToken> {
        let Some(committing) = self.committing.take() else {
            return Vec::new();
        };
        committing.task.abort();
        committing.tokens
    }
}
