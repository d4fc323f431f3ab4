//! What all replicas of a history share: the database, the bus, the clock, and the dice that decide what befalls them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::database::Connection;
use super::ledger::Ledger;
use super::plan::{Dice, Plan, UIDS};
use super::samples::{REFUSED_CUSTOMER, Sample, uid};
use crate::testing::memory::{MemoryBackup, MemoryBus, MemoryBusBackup, MemoryStore};
use crate::{
    Batch, BusError, DeadLetterDesk, DeadLetterQuery, DeadLetterState, DeadLetters, OrderBus, OrderDocument,
    OrderUid, OutgoingMessage, Replayed, RepositoryError, Revision, StoreReport, StoredDeadLetter,
};

/// Times count from long before the history, so that there is a time before its first two seconds.
const BEFORE: Duration = Duration::from_secs(3_600);
/// The bus's clock when a history begins, in microseconds.
const CLOCK: i64 = 1_700_000_000_000_000;

/// What all replicas share.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) store: MemoryStore,
    pub(super) bus: MemoryBus,
    /// Whether each replica reaches the database.
    pub(super) reach: Vec<watch::Sender<Reach>>,
    /// Which database it is: another one after each restore.
    database: AtomicU64,
    /// How many restores are under way.
    restores: AtomicU64,
    /// No more delays and losses: the history comes to its end.
    calm: AtomicBool,
    ledger: Mutex<Ledger>,
    clock: Mutex<Clock>,
    origin: Instant,
}

/// Whether something is in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Open,
    /// Calls fail.
    Refusing,
    /// Calls get no answer.
    Silent,
}

/// What the bus stamps its messages with. No two are stamped alike, also where the clock goes back.
struct Clock {
    behind: Duration,
    used: BTreeSet<i64>,
}

/// A call that failed, its effect done or not.
#[derive(Debug, thiserror::Error)]
#[error("the model broke the connection")]
pub(super) struct Broken;

impl World {
    pub(super) fn new(plan: Plan, dice: Dice, trace: bool) -> Self {
        let store = MemoryStore::new();
        store.reject_orders(|order| order.customer_id == REFUSED_CUSTOMER);
        let world = World {
            reach: (0..plan.replicas)
                .map(|_| watch::Sender::new(Reach::Open))
                .collect(),
            plan,
            dice,
            store,
            bus: MemoryBus::new(Duration::from_millis(1_500)),
            database: AtomicU64::new(0),
            restores: AtomicU64::new(0),
            calm: AtomicBool::new(false),
            ledger: Mutex::new(Ledger::new(trace)),
            clock: Mutex::new(Clock {
                behind: Duration::ZERO,
                used: BTreeSet::new(),
            }),
            origin: Instant::now(),
        };
        world.ledger().note(BEFORE, || format!("{:?}", world.plan));
        world
    }

    /// What time it is in the history.
    pub(super) fn now(&self) -> Duration {
        BEFORE + self.origin.elapsed()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        self.ledger().note(self.now(), what);
    }

    /// From now on nothing is slow, lost or doubled; or it is again.
    pub(super) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, SeqCst);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(SeqCst)
    }

    /// Whether something happens that does so this often in a thousand times, until all is calm.
    pub(super) fn chance(&self, permille: u32) -> bool {
        !self.is_calm() && self.dice.chance(permille)
    }

    /// Takes the time that a step of a call takes.
    pub(super) async fn linger(&self, slow: u32) {
        let slow = if self.is_calm() { 0 } else { slow };
        match self.dice.wait(slow) {
            None => {}
            Some(Duration::ZERO) => tokio::task::yield_now().await,
            Some(wait) => sleep(wait).await,
        }
    }

    /// Takes the way to the database or back, where it can be cut.
    pub(super) async fn travel(&self, replica: usize, slow: u32) -> Result<(), Broken> {
        let database = self.database.load(SeqCst);
        self.linger(slow).await;
        if self.database.load(SeqCst) != database || self.restores.load(SeqCst) > 0 {
            return Err(Broken);
        }
        let mut reach = self.reach[replica].subscribe();
        if *reach.borrow() == Reach::Silent {
            // The sender lives as long as the world.
            let _ = reach.wait_for(|reach| *reach != Reach::Silent).await;
            return Err(Broken);
        }
        if *reach.borrow() == Reach::Refusing || self.chance(self.plan.failures) {
            return Err(Broken);
        }
        Ok(())
    }

    /// Stores a batch, at this moment or, before the history begins, long ago.
    pub(super) fn store(&self, at: Duration, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let report = crate::OrderRepository::store(&self.store, batch)
            .now_or_never()
            .expect("memory does not wait")?;
        let now: Vec<Option<OrderDocument>> = batch
            .orders()
            .iter()
            .map(|revised| self.stored(&revised.order.order_uid))
            .collect();
        self.ledger().committed(at, batch, &now);
        Ok(report)
    }

    /// What the database holds of an order at this moment.
    pub(super) fn stored(&self, uid: &OrderUid) -> Option<OrderDocument> {
        self.store
            .find(uid)
            .now_or_never()
            .expect("memory does not wait")
            .expect("the memory is in reach")
    }

    /// Publishes a message at this moment; answers its revision, or `None` if it was published before under this id.
    pub(super) fn publish(&self, id: &str, sample: &Sample) -> Result<Option<Revision>, BusError> {
        let published_at = self.clock().tick(self.origin.elapsed());
        self.bus.set_clock(published_at);
        let message = OutgoingMessage {
            id: id.to_owned(),
            headers: Vec::new(),
            payload: sample.payload.clone(),
        };
        let ack = self
            .bus
            .publish(message)
            .now_or_never()
            .expect("memory does not wait")?;
        let revision = Revision {
            published_at,
            sequence: ack.sequence,
        };
        if ack.duplicate {
            return Ok(None);
        }
        self.ledger().published(self.now(), revision, sample.clone());
        Ok(Some(revision))
    }

    pub(super) fn set_clock_back(&self, by: Duration) {
        self.clock().behind += by;
    }

    /// The database is away until it is restored, whatever else comes and goes.
    pub(super) fn begin_restore(&self) {
        self.restores.fetch_add(1, SeqCst);
    }

    /// Sets the database back. No call survives that.
    pub(super) fn restore(&self, backup: MemoryBackup) {
        self.restores.fetch_sub(1, SeqCst);
        self.database.fetch_add(1, SeqCst);
        self.store.restore(backup);
        let now = self.now();
        for uid in (0..UIDS).map(uid) {
            let revision = self.stored(&uid).map(|document| document.revision);
            self.ledger().set_visible(now, &uid, revision);
        }
    }

    /// Deletes the stream and makes it anew.
    pub(super) fn recreate_stream(&self) {
        self.bus.recreate();
        let mut ledger = self.ledger();
        ledger.counts.recreated += 1;
        ledger.stream += 1;
    }

    /// Sets the stream back to what it was before it was recreated.
    pub(super) fn restore_stream(&self, before: MemoryBusBackup) {
        self.bus.restore(before);
        self.ledger().stream += 1;
    }

    /// Replays every dead letter that waits, once.
    pub(super) async fn replay_letters(&self, connection: Connection) {
        let connection = Arc::new(connection);
        let desk = DeadLetterDesk::new(Arc::clone(&connection) as _, connection);
        let waiting = DeadLetterQuery {
            state: Some(DeadLetterState::Waiting),
            before: None,
            limit: usize::MAX,
        };
        for StoredDeadLetter { letter, .. } in desk.list(&waiting).await.unwrap_or_default() {
            let replayed = desk.replay(letter.revision).await;
            if matches!(replayed, Ok(Replayed::Stored)) {
                self.ledger().counts.replayed += 1;
            }
            self.note(|| format!("the dead letter {} was replayed: {replayed:?}", letter.revision));
        }
    }

    /// Whether the bus has nothing left to deliver, nor anything out that is not acknowledged.
    pub(super) fn is_consumed(&self) -> bool {
        self.bus.waiting() == 0 && self.bus.in_flight() == 0
    }

    /// Judges what the database holds, when everything is consumed.
    pub(super) fn judge(&self) {
        let held: HashMap<OrderUid, Revision> = (0..UIDS)
            .filter_map(|number| self.stored(&uid(number)))
            .map(|it| (it.uid, it.revision))
            .collect();
        let query = DeadLetterQuery {
            state: None,
            before: None,
            limit: usize::MAX,
        };
        let letters = self
            .store
            .list(&query)
            .now_or_never()
            .expect("memory does not wait")
            .expect("in reach");
        let letters = letters.into_iter().map(|stored| stored.letter.revision).collect();
        self.ledger().judge(self.now(), &held, &letters);
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock {
    fn tick(&mut self, elapsed: Duration) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let mut now = CLOCK + micros(elapsed) - micros(self.behind);
        while !self.used.insert(now) {
            now += 1;
        }
        now
    }
}

/// Whether a replica lives. What a dead one still does reaches nobody.
#[derive(Clone, Default)]
pub(super) struct Life(Arc<AtomicBool>);

impl Life {
    pub(super) fn end(&self) {
        self.0.store(true, SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Goes no further in a replica that is dead.
    pub(super) async fn go_on(&self) {
        if self.is_over() {
            std::future::pending().await
        }
    }
}
