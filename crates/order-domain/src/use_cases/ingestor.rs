//! Takes orders from the bus into the repository.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "failpoints")]
use crate::failpoints::{self, Moment};
use crate::{
    AckToken, Backoff, Batch, BusError, Coherence, DeadLetter, Health, IncomingMessage, OrderBus,
    OrderRepository, Parsed, RawMessage, Reduced, RepositoryError, RevisedOrder, Revision, StoreOutcome,
    Subscription, TakeLimits, parse,
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
        let store = Arc::new(BatchStore {
            repository,
            coherence,
            health,
            retry_at_most: settings.retry_at_most,
            rejections_in_a_row: settings.rejections_in_a_row,
            rejected: AtomicUsize::new(0),
        });
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

/// Messages that were taken and parsed.
#[derive(Default)]
struct Taken {
    orders: Vec<RevisedOrder>,
    /// The messages of `orders`, for those that the database rejects.
    messages: HashMap<Revision, RawMessage>,
    dead_letters: Vec<DeadLetter>,
    tokens: Vec<AckToken>,
    count: usize,
    bytes: usize,
}

impl Taken {
    fn add(&mut self, incoming: IncomingMessage) {
        let IncomingMessage {
            message,
            revision,
            redelivered,
            token,
        } = incoming;
        self.count += 1;
        self.bytes += message.payload.len();
        self.tokens.push(token);
        metrics::counter!("orders_received_total").increment(1);
        metrics::counter!("orders_redelivered_total").increment(u64::from(redelivered));
        match parse(&message.payload) {
            Ok(Parsed {
                order,
                unknown_fields,
            }) => {
                metrics::counter!("orders_unknown_fields_total").increment(u64::from(unknown_fields));
                self.messages.insert(revision, message);
                self.orders.push(RevisedOrder { revision, order });
            }
            Err(faults) => self.dead_letters.push(DeadLetter {
                revision,
                message,
                reason: faults.to_string(),
                order_uid: faults.order_uid,
            }),
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What may still be taken into one batch; no messages if it is full.
    fn room(&self, limits: TakeLimits) -> TakeLimits {
        let bytes = limits.bytes.saturating_sub(self.bytes);
        let messages = if bytes == 0 {
            0
        } else {
            limits.messages.saturating_sub(self.count)
        };
        TakeLimits { messages, bytes }
    }
}

/// Stores what was taken, whatever it takes.
struct BatchStore {
    repository: Arc<dyn OrderRepository>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    retry_at_most: Duration,
    rejections_in_a_row: usize,
    /// How many orders were rejected since the last one that was stored.
    rejected: AtomicUsize,
}

impl BatchStore {
    /// Returns when everything is in the tables or among the dead letters.
    async fn store(&self, taken: Taken) {
        let Taken {
            orders,
            mut messages,
            mut dead_letters,
            ..
        } = taken;
        let Reduced {
            newest,
            superseded,
            behind_the_clock,
        } = Reduced::from_versions(orders);
        metrics::counter!("orders_superseded_total").increment(superseded as u64);
        dead_letters.extend(behind_the_clock.into_iter().filter_map(|order| {
            let message = messages.remove(&order.revision)?;
            Some(behind_the_clock_letter(&order, message))
        }));
        self.coherence.offer(
            newest
                .iter()
                .map(|revised| revised.order.document(revised.revision)),
        );

        // A batch that is rejected is divided until the order at fault stands alone; its neighbours store.
        let mut left = vec![Batch::new(newest, dead_letters)];
        while let Some(batch) = left.pop() {
            match self.store_or_reject(&batch).await {
                Ok(outcomes) => {
                    let overtaken = self.settle(&batch, &outcomes, &mut messages);
                    if !overtaken.is_empty() {
                        left.push(Batch::new(Vec::new(), overtaken));
                    }
                }
                Err(rejection) => match batch.bisect() {
                    Ok((first, second)) => left.extend([second, first]),
                    Err(single) => left.push(self.bury(single, &rejection, &mut messages)),
                },
            }
        }
    }

    /// Tells what became of a stored batch; answers dead letters for those that only seem to be older.
    fn settle(
        &self,
        batch: &Batch,
        outcomes: &[StoreOutcome],
        messages: &mut HashMap<Revision, RawMessage>,
    ) -> Vec<DeadLetter> {
        let mut overtaken = Vec::new();
        let mut stored = 0;
        for (revised, outcome) in batch.orders().iter().zip(outcomes) {
            match outcome {
                StoreOutcome::Stored => stored += 1,
                StoreOutcome::Superseded { by } => {
                    self.coherence.retract(&revised.order.order_uid);
                    if revised.revision.is_behind_the_clock_of(by) {
                        overtaken.extend(
                            messages
                                .remove(&revised.revision)
                                .map(|message| behind_the_clock_letter(revised, message)),
                        );
                    } else {
                        metrics::counter!("orders_superseded_total").increment(1);
                    }
                }
            }
        }
        for letter in batch.dead_letters() {
            tracing::warn!(revision = %letter.revision, reason = letter.reason, "a message became a dead letter");
        }
        if stored > 0 {
            self.rejected.store(0, SeqCst);
        }
        metrics::counter!("orders_stored_total").increment(stored);
        metrics::counter!("orders_dead_total").increment(batch.dead_letters().len() as u64);
        tracing::debug!(orders = batch.orders().len(), stored, "stored a batch");
        overtaken
    }

    /// Turns a batch whose only order was rejected into one of dead letters.
    fn bury(&self, single: Batch, rejection: &str, messages: &mut HashMap<Revision, RawMessage>) -> Batch {
        self.rejected.fetch_add(1, SeqCst);
        let mut letters = single.dead_letters().to_vec();
        for RevisedOrder { revision, order } in single.orders() {
            self.coherence.retract(&order.order_uid);
            letters.extend(messages.remove(revision).map(|message| DeadLetter {
                revision: *revision,
                message,
                reason: rejection.to_owned(),
                order_uid: Some(order.order_uid.clone()),
            }));
        }
        Batch::new(Vec::new(), letters)
    }

    /// Stores a batch, however often it must be tried.
    ///
    /// # Errors
    ///
    /// The database rejects the data, in its words, and the fault is an order's.
    async fn store_or_reject(&self, batch: &Batch) -> Result<Vec<StoreOutcome>, String> {
        let mut backoff = Backoff::new(Duration::from_millis(50), self.retry_at_most);
        loop {
            let began = Instant::now();
            match self.repository.store(batch).await {
                Ok(report) => {
                    metrics::histogram!("orders_commit_seconds").record(began.elapsed().as_secs_f64());
                    self.health.ingestion_resumed();
                    return Ok(report.outcomes);
                }
                Err(RepositoryError::Rejected(rejection)) if self.is_an_orders_fault(batch) => {
                    return Err(format!("rejected by the database: {rejection}"));
                }
                // Unavailable, or a fault of ours: nothing is the order's fault, and nothing is given up.
                Err(error) => self.health.ingestion_paused(&error),
            }
            sleep(backoff.step()).await;
        }
    }

    fn is_an_orders_fault(&self, batch: &Batch) -> bool {
        !batch.orders().is_empty() && self.rejected.load(SeqCst) < self.rejections_in_a_row
    }
}

/// A version that is older by time yet ahead by sequence may be the newer one in truth. It is kept where someone can look at it.
fn behind_the_clock_letter(revised: &RevisedOrder, message: RawMessage) -> DeadLetter {
    tracing::error!(revision = %revised.revision, "the broker's clock stepped back; a version became a dead letter");
    DeadLetter {
        revision: revised.revision,
        message,
        reason: "older by the broker's clock than the version stored, yet ahead by sequence: the clock stepped back"
            .to_owned(),
        order_uid: Some(revised.order.order_uid.clone()),
    }
}
