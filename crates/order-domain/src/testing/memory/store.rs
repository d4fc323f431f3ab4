//! A storage that is maps behind a lock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    Batch, CommitLog, CommitLogError, DeadLetterError, DeadLetterQuery, DeadLetterState, DeadLetters,
    FoundOrders, LogChange, LogCursor, LogEntry, LogPage, Logged, Order, OrderDocument, OrderFilter,
    OrderPage, OrderParts, OrderPlace, OrderQuery, OrderRepository, OrderStream, OrderUid, RepositoryError,
    Revision, SearchText, StoreOutcome, StoreReport, StoredDeadLetter,
};

/// How many orders [`OrderRepository::newest`] answers at once.
const CHUNK: usize = 100;

/// An [`OrderRepository`], its [`CommitLog`] and its [`DeadLetters`], held in memory behind one lock.
///
/// It keeps the parts of an order, not its bytes, so that a read renders them again as a real one does. Tests can put it out of
/// reach, let it refuse orders, lose answers, and set it back to an earlier state.
pub struct MemoryStore {
    data: Mutex<Data>,
    /// The position of the newest entry, for those who wait for another.
    newest: watch::Sender<i64>,
    out_of_reach: AtomicBool,
    answers_to_lose: AtomicUsize,
    refuses: Mutex<Option<Rule>>,
}

/// What a [`MemoryStore`] held when it was backed up.
#[derive(Debug, Clone)]
pub struct MemoryBackup(Data);

#[derive(Debug, Clone)]
struct Data {
    orders: HashMap<OrderUid, (Revision, Arc<OrderParts>)>,
    letters: BTreeMap<Revision, StoredDeadLetter>,
    /// Never empty: the first entry is the place before all others.
    log: VecDeque<LogEntry>,
}

impl MemoryStore {
    /// An empty storage.
    pub fn new() -> Self {
        let first = LogCursor {
            position: 0,
            mark: mark(),
        };
        let data = Data {
            orders: HashMap::new(),
            letters: BTreeMap::new(),
            log: VecDeque::from([entry(first, Vec::new())]),
        };
        MemoryStore {
            data: Mutex::new(data),
            newest: watch::Sender::new(first.position),
            out_of_reach: AtomicBool::new(false),
            answers_to_lose: AtomicUsize::new(0),
            refuses: Mutex::new(None),
        }
    }

    /// Lets every call fail as unavailable, or work again.
    pub fn set_reachable(&self, reachable: bool) {
        self.out_of_reach.store(!reachable, SeqCst);
    }

    /// Lets the next `count` batches be stored and reported as unavailable, as when the wire is cut after COMMIT was sent.
    pub fn lose_answers(&self, count: usize) {
        self.answers_to_lose.store(count, SeqCst);
    }

    /// Rejects every batch that holds an order for which this is true.
    pub fn reject_orders(&self, at_fault: impl Fn(&Order) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(at_fault));
    }

    /// What is held now.
    pub fn backup(&self) -> MemoryBackup {
        MemoryBackup(self.lock().clone())
    }

    /// Sets everything back, as a database is that was restored: later positions of the log are given out again.
    pub fn restore(&self, backup: MemoryBackup) {
        let mut data = self.lock();
        *data = backup.0;
        self.newest.send_replace(data.head().position);
    }

    /// How many orders are stored.
    pub fn order_count(&self) -> usize {
        self.lock().orders.len()
    }

    /// The order of this uid, as [`OrderRepository::find`] answers it: two of the ports have a `find`, this one comes first.
    ///
    /// # Errors
    ///
    /// Those of the port.
    pub async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        OrderRepository::find(self, uid).await
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        // No rule of a test's own runs under this lock, and a panic elsewhere leaves the data whole.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach<E>(&self, unavailable: impl FnOnce(Source) -> E) -> Result<MutexGuard<'_, Data>, E> {
        if self.out_of_reach.load(SeqCst) {
            return Err(unavailable("the memory was put out of reach".into()));
        }
        Ok(self.lock())
    }

    fn check_orders(&self, batch: &Batch) -> Result<(), RepositoryError> {
        let refuses = self.refuses.lock().unwrap_or_else(PoisonError::into_inner);
        match &*refuses {
            Some(at_fault) if batch.orders().iter().any(|version| at_fault(&version.order)) => Err(
                RepositoryError::Rejected("the memory was told to refuse this order".into()),
            ),
            _ => Ok(()),
        }
    }
}

/// Whether an order is at fault.
type Rule = Box<dyn Fn(&Order) -> bool + Send>;

type Source = Box<dyn std::error::Error + Send + Sync>;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    fn store(&mut self, batch: &Batch) -> StoreReport {
        let mut changes = Vec::new();
        let outcomes = batch.orders().iter().map(|version| {
            let (uid, revision) = (&version.order.order_uid, version.revision);
            match self.orders.get(uid) {
                Some((by, _)) if *by >= revision => StoreOutcome::Superseded { by: *by },
                _ => {
                    self.orders.insert(
                        uid.clone(),
                        (revision, Arc::new(OrderParts::clone(&version.order))),
                    );
                    changes.push(LogChange {
                        uid: uid.clone(),
                        revision,
                    });
                    StoreOutcome::Stored
                }
            }
        });
        let outcomes = outcomes.collect();
        for letter in batch.dead_letters() {
            self.letters
                .entry(letter.revision)
                .or_insert_with(|| StoredDeadLetter {
                    letter: letter.clone(),
                    state: DeadLetterState::Waiting,
                    recorded_at: Timestamp::now(),
                });
        }
        for revision in batch.replayed() {
            if let Some(letter) = self.letters.get_mut(revision) {
                letter.state = DeadLetterState::Replayed;
            }
        }
        let logged = (!changes.is_empty()).then(|| self.append(changes));
        StoreReport { outcomes, logged }
    }

    fn head(&self) -> LogCursor {
        self.log.back().expect("the log is never empty").cursor
    }

    fn append(&mut self, changes: Vec<LogChange>) -> Logged {
        let previous = self.head();
        let cursor = LogCursor {
            position: previous.position + 1,
            mark: mark(),
        };
        self.log.push_back(entry(cursor, changes));
        Logged { previous, cursor }
    }

    /// The orders that fit, those created last first.
    fn newest(&self, fits: impl Fn(&OrderParts) -> bool) -> Vec<(Revision, Arc<OrderParts>)> {
        let mut orders: Vec<_> = self
            .orders
            .values()
            .filter(|(_, parts)| fits(parts))
            .cloned()
            .collect();
        orders.sort_by_cached_key(|(_, parts)| Reverse(place(parts)));
        orders
    }

    fn page(&self, query: &OrderQuery) -> OrderPage {
        let after = query.after.as_ref();
        let fits = |parts: &OrderParts| {
            fits(parts, &query.filter) && after.is_none_or(|after| place(parts) < *after)
        };
        let mut page = OrderPage::default();
        let (mut bytes, mut last) = (0, None);
        for (revision, parts) in self.newest(fits) {
            let document = OrderDocument::from_stored(&parts, revision);
            bytes += document.json.len();
            let is_full =
                page.orders.len() == query.limit || (bytes > query.max_bytes && !page.orders.is_empty());
            if is_full {
                page.next = last;
                break;
            }
            last = Some(place(&parts));
            page.orders.push(document);
        }
        page
    }

    fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> FoundOrders {
        let (mut orders, mut bytes) = (Vec::new(), 0);
        for (answered, uid) in uids.iter().enumerate() {
            let Some((revision, parts)) = self.orders.get(uid) else {
                continue;
            };
            let document = OrderDocument::from_stored(parts, *revision);
            bytes += document.json.len();
            if bytes > max_bytes && !orders.is_empty() {
                return FoundOrders { orders, answered };
            }
            orders.push(document);
        }
        FoundOrders {
            orders,
            answered: uids.len(),
        }
    }

    fn read_after(&self, cursor: LogCursor, limit: usize) -> LogPage {
        let Some(at) = self.log.iter().position(|entry| entry.cursor == cursor) else {
            return LogPage::Gap;
        };
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut changes = 0;
        for entry in self.log.iter().skip(at + 1) {
            if changes >= limit.max(1) {
                break;
            }
            changes += entry.changes.len();
            entries.push(entry.clone());
        }
        let complete = at + 1 + entries.len() == self.log.len();
        LogPage::Entries { entries, complete }
    }
}

fn entry(cursor: LogCursor, changes: Vec<LogChange>) -> LogEntry {
    LogEntry {
        cursor,
        committed_at: Timestamp::now(),
        changes,
    }
}

fn mark() -> i64 {
    // Each state of the hasher is seeded at random.
    RandomState::new().build_hasher().finish().cast_signed()
}

fn place(parts: &OrderParts) -> OrderPlace {
    OrderPlace {
        date_created: parts.date_created,
        order_uid: parts.order_uid.clone(),
    }
}

fn fits(parts: &OrderParts, filter: &OrderFilter) -> bool {
    let fits = |wanted: &Option<SearchText>, has: &str| wanted.as_ref().is_none_or(|it| it.as_str() == has);
    fits(&filter.track_number, &parts.track_number)
        && fits(&filter.customer_id, &parts.customer_id)
        && fits(&filter.transaction, &parts.payment.transaction)
}

#[async_trait]
impl OrderRepository for MemoryStore {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        self.check_orders(batch)?;
        let report = {
            let mut data = self.reach(RepositoryError::Unavailable)?;
            let report = data.store(batch);
            self.newest.send_replace(data.head().position);
            report
        };
        let lose = self
            .answers_to_lose
            .fetch_update(SeqCst, SeqCst, |count| count.checked_sub(1));
        if lose.is_ok() {
            return Err(RepositoryError::Unavailable("the answer was lost".into()));
        }
        Ok(report)
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        let stored = self.reach(RepositoryError::Unavailable)?.orders.get(uid).cloned();
        Ok(stored.map(|(revision, parts)| OrderDocument::from_stored(&parts, revision)))
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        Ok(self
            .reach(RepositoryError::Unavailable)?
            .find_many(uids, max_bytes))
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        Ok(self.reach(RepositoryError::Unavailable)?.page(query))
    }

    fn newest(&self, limit: usize, _max_bytes: u64) -> OrderStream<'_> {
        let snapshot =
            stream::once(async move { Ok(self.reach(RepositoryError::Unavailable)?.newest(|_| true)) });
        let chunks = snapshot.flat_map(move |read: Result<Vec<_>, RepositoryError>| match read {
            Err(error) => stream::iter(vec![Err(error)]).boxed(),
            Ok(orders) => stream::iter(orders)
                .take(limit)
                .map(|(revision, parts): (Revision, Arc<OrderParts>)| {
                    OrderDocument::from_stored(&parts, revision)
                })
                .chunks(CHUNK)
                .map(Ok)
                .boxed(),
        });
        chunks.boxed()
    }
}

#[async_trait]
impl CommitLog for MemoryStore {
    async fn head(&self) -> Result<LogCursor, CommitLogError> {
        Ok(self.reach(CommitLogError::Unavailable)?.head())
    }

    async fn read_after(&self, cursor: LogCursor, limit: usize) -> Result<LogPage, CommitLogError> {
        Ok(self.reach(CommitLogError::Unavailable)?.read_after(cursor, limit))
    }

    async fn changed(&self, cursor: LogCursor) {
        let mut newest = self.newest.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = newest.wait_for(|&newest| newest > cursor.position).await;
    }

    async fn prune(&self, age: Duration) -> Result<u64, CommitLogError> {
        let mut data = self.reach(CommitLogError::Unavailable)?;
        let now = Timestamp::now();
        let mut removed = 0;
        while data.log.len() > 1 && data.log[0].committed_at.duration_until(now).unsigned_abs() >= age {
            data.log.pop_front();
            removed += 1;
        }
        Ok(removed)
    }
}

#[async_trait]
impl DeadLetters for MemoryStore {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let data = self.reach(DeadLetterError::Unavailable)?;
        let matching = data.letters.values().rev().filter(|stored| {
            query.state.is_none_or(|state| stored.state == state)
                && query.before.is_none_or(|before| stored.letter.revision < before)
        });
        Ok(matching.take(query.limit).cloned().collect())
    }

    async fn find(&self, revision: Revision) -> Result<Option<StoredDeadLetter>, DeadLetterError> {
        Ok(self
            .reach(DeadLetterError::Unavailable)?
            .letters
            .get(&revision)
            .cloned())
    }

    async fn discard(&self, revision: Revision) -> Result<bool, DeadLetterError> {
        let mut data = self.reach(DeadLetterError::Unavailable)?;
        match data.letters.get_mut(&revision) {
            Some(stored) if stored.state == DeadLetterState::Waiting => {
                stored.state = DeadLetterState::Discarded;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract::storage::{Storage, StorageFixture};

    struct InMemory(Arc<MemoryStore>);

    #[async_trait]
    impl StorageFixture for InMemory {
        async fn open() -> Self {
            InMemory(Arc::default())
        }

        fn storage(&self) -> Storage {
            let store = || Arc::clone(&self.0);
            Storage {
                orders: store(),
                log: store(),
                letters: store(),
            }
        }

        async fn close(self) {}
    }

    crate::order_storage_contract!(InMemory);
}
