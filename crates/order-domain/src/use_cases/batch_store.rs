//! One batch on its way into the repository, however often and in however many parts it must be tried.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::ingestor::IngestSettings;
use super::own_commits::OwnCommit;
use crate::instruments::BatchInstruments;
use crate::{
    AckToken, Backoff, Batch, Coherence, DeadLetter, Faults, Health, IncomingMessage, LogChange,
    OrderRepository, OrderUid, Parsed, RawMessage, Reduced, RepositoryError, RevisedOrder, Revision,
    StoreOutcome, StoreReport, TakeLimits, parse,
};

/// A message, and the order that was read in it.
pub(super) struct Read {
    incoming: IncomingMessage,
    parsed: Result<Parsed, Faults>,
}

impl Read {
    /// Parses what came.
    pub(super) fn new(incoming: IncomingMessage) -> Self {
        let parsed = parse(&incoming.message.payload);
        Read { incoming, parsed }
    }

    /// Which of so many lanes it belongs to.
    pub(super) fn lane(&self, lanes: usize) -> usize {
        let order = self.parsed.as_ref().ok();
        order.map_or(0, |Parsed { order, .. }| lane_of(&order.order_uid, lanes))
    }
}

/// All versions of an order are of the same lane, so that no two transactions at a time are about the same order.
pub(super) fn lane_of(uid: &OrderUid, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    (hasher.finish() % lanes as u64) as usize
}

/// Messages that were taken and read, for one transaction.
#[derive(Default)]
pub(super) struct Taken {
    orders: Vec<RevisedOrder>,
    /// The messages of `orders`, for those that the database rejects.
    messages: HashMap<Revision, RawMessage>,
    dead_letters: Vec<DeadLetter>,
    pub(super) tokens: Vec<AckToken>,
    count: usize,
    bytes: usize,
    /// When the first of them was.
    began: Option<Instant>,
    redelivered: u64,
    unknown_fields: u64,
    /// Whether other lanes were let go first.
    pub(super) gave_way: bool,
}

impl Taken {
    /// Takes in a message that was read.
    pub(super) fn add(&mut self, read: Read) {
        let IncomingMessage {
            message,
            revision,
            redelivered,
            token,
        } = read.incoming;
        self.began.get_or_insert_with(Instant::now);
        self.count += 1;
        self.bytes += message.payload.len();
        self.tokens.push(token);
        self.redelivered += u64::from(redelivered);
        match read.parsed {
            Ok(Parsed {
                order,
                unknown_fields,
            }) => {
                self.unknown_fields += u64::from(unknown_fields);
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

    /// Together with what another lane has taken.
    pub(super) fn with(mut self, other: Taken) -> Taken {
        self.orders.extend(other.orders);
        self.messages.extend(other.messages);
        self.dead_letters.extend(other.dead_letters);
        self.tokens.extend(other.tokens);
        self.count += other.count;
        self.bytes += other.bytes;
        self.began = self.began.min(other.began);
        self.redelivered += other.redelivered;
        self.unknown_fields += other.unknown_fields;
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it is so much that it is stored beside other lanes, and not with them. What is less fits into one batch with all others
    /// that are.
    pub(super) fn is_worth_a_transaction(&self, settings: &IngestSettings) -> bool {
        let (limits, lanes) = (settings.batch, settings.lanes.get());
        self.count >= WORTH_A_TRANSACTION.min(limits.messages / lanes) || self.bytes >= limits.bytes / lanes
    }

    /// What may still be taken into one batch; no messages if it is full.
    pub(super) fn room(&self, limits: TakeLimits) -> TakeLimits {
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
pub(super) struct BatchStore {
    repository: Arc<dyn OrderRepository>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    retry_at_most: Duration,
    rejections_in_a_row: usize,
    /// How many orders were rejected since the last one that was stored.
    rejected: AtomicUsize,
    instruments: BatchInstruments,
}

/// From how many messages on a lane stores while another does: what they cost is more by then than a commit of their own.
const WORTH_A_TRANSACTION: usize = 100;

/// How often a batch of several orders may fail before it is stored in parts.
const FAILURES_AT_ONCE: u32 = 5;

/// Why a batch is not to be tried again as it is.
enum Refusal {
    /// The database rejects the data, in these words, and the fault is an order's.
    Rejected(String),
    /// It failed again and again, and is of more than one order.
    TooMuch,
}

/// What is kept of a batch, beside the orders being stored, until all of it is.
struct Aside {
    /// The messages of its orders.
    messages: HashMap<Revision, RawMessage>,
    /// Versions that a newer one in the same batch replaces, if that can be stored.
    superseded: Vec<RevisedOrder>,
}

impl BatchStore {
    pub(super) fn new(
        repository: Arc<dyn OrderRepository>,
        coherence: Arc<Coherence>,
        health: Arc<Health>,
        settings: &IngestSettings,
    ) -> Self {
        BatchStore {
            repository,
            coherence,
            health,
            retry_at_most: settings.retry_at_most,
            rejections_in_a_row: settings.rejections_in_a_row,
            rejected: AtomicUsize::new(0),
            instruments: BatchInstruments::new(),
        }
    }

    /// Returns when everything is in the tables or among the dead letters.
    pub(super) async fn store(&self, taken: Taken) {
        let Taken {
            orders,
            messages,
            dead_letters,
            ..
        } = taken;
        self.instruments.messages.record(taken.count as f64);
        self.instruments.redelivered.increment(taken.redelivered);
        self.instruments.unknown_fields.increment(taken.unknown_fields);
        let mut aside = Aside {
            messages,
            superseded: Vec::new(),
        };
        // A batch that is rejected is divided until the order at fault stands alone; its neighbours store. One that fails again and
        // again is divided too: a database that is slow, and not away, takes it in parts.
        let mut left = vec![self.newest_of(orders, dead_letters, &mut aside)];
        while let Some(batch) = left.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.store_or_reject(&batch).await {
                Ok(report) => {
                    self.tell_follower(&batch, &report);
                    let overtaken = self.settle(&batch, &report.outcomes, &mut aside.messages);
                    left.push(Batch::new(Vec::new(), overtaken));
                }
                Err(refusal) => match (batch.bisect(), refusal) {
                    (Ok((first, second)), _) => left.extend([second, first]),
                    (Err(single), Refusal::TooMuch) => left.push(single),
                    (Err(single), Refusal::Rejected(rejection)) => {
                        // What the rejected version was to replace is the newest that can be stored now.
                        let is_older = |older: &mut RevisedOrder| {
                            single
                                .orders()
                                .iter()
                                .any(|it| it.order.order_uid == older.order.order_uid)
                        };
                        let older = aside.superseded.extract_if(.., is_older).collect();
                        // Its offer is retracted first, or that of the older one would be.
                        let buried = self.bury(single, &rejection, &mut aside.messages);
                        left.push(self.newest_of(older, Vec::new(), &mut aside));
                        left.push(buried);
                    }
                },
            }
        }
        if let Some(began) = taken.began {
            self.instruments.process_duration.record(began.elapsed());
        }
    }

    /// A batch of the newest of these versions, offered to the cache; the others are laid aside.
    fn newest_of(
        &self,
        versions: Vec<RevisedOrder>,
        mut letters: Vec<DeadLetter>,
        aside: &mut Aside,
    ) -> Batch {
        let Reduced {
            newest,
            superseded,
            behind_the_clock,
        } = Reduced::from_versions(versions);
        self.instruments.superseded.increment(superseded.len() as u64);
        aside.superseded.extend(superseded);
        letters.extend(behind_the_clock.into_iter().filter_map(|order| {
            let message = aside.messages.remove(&order.revision)?;
            Some(self.behind_the_clock_letter(&order, message))
        }));
        self.coherence.offer(
            newest
                .iter()
                .map(|revised| revised.order.document(revised.revision)),
        );
        Batch::new(newest, letters)
    }

    /// Tells the log follower what was committed, so that it need not ask for it.
    fn tell_follower(&self, batch: &Batch, report: &StoreReport) {
        let Some(logged) = report.logged else { return };
        let outcomes = batch.orders().iter().zip(&report.outcomes);
        let changes = outcomes
            .filter(|(_, outcome)| **outcome == StoreOutcome::Stored)
            .map(|(version, _)| LogChange {
                uid: version.order.order_uid.clone(),
                revision: version.revision,
            })
            .collect();
        self.coherence.own_commits().tell(OwnCommit { logged, changes });
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
                                .map(|message| self.behind_the_clock_letter(revised, message)),
                        );
                    } else {
                        self.instruments.superseded.increment(1);
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
        self.measure_delays(batch, outcomes);
        self.instruments.stored.increment(stored);
        self.instruments
            .dead_letters
            .increment(batch.dead_letters().len() as u64);
        tracing::debug!(orders = batch.orders().len(), stored, "stored a batch");
        overtaken
    }

    /// Measures how long ago the broker stored each order that is in the database now.
    fn measure_delays(&self, batch: &Batch, outcomes: &[StoreOutcome]) {
        let now = Timestamp::now().as_microsecond();
        for (revised, outcome) in batch.orders().iter().zip(outcomes) {
            if *outcome == StoreOutcome::Stored {
                // The broker's clock may be ahead of ours.
                let delay = (now - revised.revision.published_at).max(0);
                self.instruments.store_delay.record(delay as f64 / 1e6);
            }
        }
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
    /// See [`Refusal`].
    async fn store_or_reject(&self, batch: &Batch) -> Result<StoreReport, Refusal> {
        let mut backoff = Backoff::new(Duration::from_millis(50), self.retry_at_most);
        let mut failures = 0;
        while failures < FAILURES_AT_ONCE || batch.orders().len() < 2 {
            let began = Instant::now();
            match self.repository.store(batch).await {
                Ok(report) => {
                    let took = began.elapsed();
                    self.instruments.commit_duration.record(took);
                    tracing::debug!(seconds = took.as_secs_f64(), "committed a batch");
                    self.health.ingestion_resumed();
                    return Ok(report);
                }
                Err(RepositoryError::Rejected(rejection)) if self.is_an_orders_fault(batch) => {
                    let rejection = format!("rejected by the database: {rejection}");
                    return Err(Refusal::Rejected(rejection));
                }
                // Unavailable, or a fault of ours: nothing is the order's fault, and nothing is given up.
                Err(error) => self.health.ingestion_paused(&error),
            }
            self.instruments.commit_failures.increment(1);
            failures += 1;
            sleep(backoff.step()).await;
        }
        Err(Refusal::TooMuch)
    }

    fn is_an_orders_fault(&self, batch: &Batch) -> bool {
        !batch.orders().is_empty() && self.rejected.load(SeqCst) < self.rejections_in_a_row
    }

    /// A version that is older by time yet ahead by sequence may be the newer one in truth. It is kept where someone can look at it.
    fn behind_the_clock_letter(&self, revised: &RevisedOrder, message: RawMessage) -> DeadLetter {
        tracing::error!(revision = %revised.revision, "the broker's clock stepped back; a version became a dead letter");
        self.instruments.clock_stepped_back.increment(1);
        DeadLetter {
            revision: revised.revision,
            message,
            reason: "older by the broker's clock than the version stored, yet ahead by sequence: the clock stepped back"
                .to_owned(),
            order_uid: Some(revised.order.order_uid.clone()),
        }
    }
}
