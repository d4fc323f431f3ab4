//! Reading orders.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use metrics::Counter;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer_room::AnswerRoom;
use crate::instruments;
use crate::{
    Coherence, DatabaseReach, Health, Lookup, OrderDocument, OrderRepository, OrderUid, RepositoryError,
};

/// How orders are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadSettings {
    /// How long a database read may take, for everyone who waits for it.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long after its beginning a read may be joined. With the lease this bounds how old an answer can be.
    #[serde(with = "duration")]
    pub join_within: Duration,
    /// For how long an order that cannot be proven is served while the database is out of reach; zero for never.
    #[serde(with = "duration")]
    pub stale_if_error: Duration,
    /// While the database is out of reach, one read in this time tries it.
    #[serde(with = "duration")]
    pub probe_every: Duration,
    /// How long a caller may wait for an order to be stored.
    #[serde(with = "duration")]
    pub max_wait: Duration,
    /// How many callers may wait at once. Further ones are turned away.
    pub max_waiters: usize,
    /// How many bytes of answers of many orders may be in memory together, from before they are read until they are sent.
    pub answers_max_bytes: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        ReadSettings {
            deadline: Duration::from_millis(1_500),
            join_within: Duration::from_secs(1),
            stale_if_error: Duration::from_mins(10),
            probe_every: Duration::from_secs(1),
            max_wait: Duration::from_secs(30),
            max_waiters: 10_000,
            answers_max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// An order that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The order.
    pub document: OrderDocument,
    /// `None` if it is proven; else how long ago it was: the database is out of reach.
    pub age: Option<Duration>,
}

/// Why an order could not be read. The database's own words are logged, not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The database is out of reach or overloaded: ask again.
    #[error("orders cannot be read now")]
    Unavailable,
    /// A fault of ours.
    #[error("the order could not be read")]
    Other,
}

/// Reads orders: from the cache while it is proven, else by one database read for all who wait for the same order.
pub struct OrderService {
    pub(super) repository: Arc<dyn OrderRepository>,
    pub(super) coherence: Arc<Coherence>,
    pub(super) health: Arc<Health>,
    pub(super) settings: ReadSettings,
    pub(super) room: AnswerRoom,
    /// Where reads run. A caller who hangs up, or whose worker ends, must not take a shared read with it.
    runtime: Handle,
    reads: Arc<Mutex<HashMap<OrderUid, SharedRead>>>,
    /// When the database is next tried while it is out of reach: microseconds since `origin`.
    next_probe: AtomicU64,
    origin: Instant,
    pub(super) stale_answers: Counter,
}

type Answer = Result<Option<OrderDocument>, FindError>;

#[derive(Clone)]
struct SharedRead {
    began: Instant,
    answer: Shared<BoxFuture<'static, Answer>>,
}

impl OrderService {
    /// Reads from `repository`, through the cache of `coherence`; database reads run on `runtime`.
    pub fn new(
        repository: Arc<dyn OrderRepository>,
        coherence: Arc<Coherence>,
        health: Arc<Health>,
        settings: ReadSettings,
        runtime: Handle,
    ) -> Self {
        OrderService {
            repository,
            coherence,
            health,
            room: AnswerRoom::new(settings.answers_max_bytes),
            settings,
            runtime,
            reads: Arc::default(),
            next_probe: AtomicU64::new(0),
            origin: Instant::now(),
            stale_answers: instruments::stale_answers(),
        }
    }

    /// The order at least as new as any committed two seconds ago; `Ok(None)` if there is none.
    ///
    /// While the database is out of reach, one that cannot be proven is answered with its age, unless `proof_required`.
    ///
    /// # Errors
    ///
    /// See [`FindError`].
    pub async fn find(&self, uid: &OrderUid, proof_required: bool) -> Result<Option<Found>, FindError> {
        let fallback = match self.coherence.look_up(uid) {
            Lookup::Proven(document) => return Ok(Some(Found { document, age: None })),
            Lookup::Unproven {
                document,
                age: Some(age),
            } if self.may_be_stale(age, proof_required) => Some(Found {
                document,
                age: Some(age),
            }),
            Lookup::Absent => return Ok(None),
            Lookup::Unproven { .. } | Lookup::Unknown => None,
        };
        let is_lost = || self.health.database() == DatabaseReach::Lost;
        // Whoever can be given the order does not wait for a database that does not answer.
        if fallback.is_none() || !is_lost() {
            if !self.may_read() {
                return Err(FindError::Unavailable);
            }
            match self.read(uid).await {
                Ok(document) => return Ok(document.map(|document| Found { document, age: None })),
                // Whatever the error is: a database that is being restored answers, and has no tables yet.
                Err(_) if is_lost() => {}
                Err(error) => return Err(error),
            }
        }
        let stale = fallback.ok_or(FindError::Unavailable)?;
        self.stale_answers.increment(1);
        Ok(Some(stale))
    }

    /// The order as [`find`](Self::find) has it; while there is none, waits until it is stored, on whatever replica, for at most `within` and
    /// [`max_wait`](ReadSettings::max_wait). It waits for the order to exist, not for a version of it.
    ///
    /// # Errors
    ///
    /// See [`FindError`]. [`Unavailable`](FindError::Unavailable) at once where the database is lost meanwhile, too many wait already, or the
    /// service ends.
    pub async fn find_or_wait(
        &self,
        uid: &OrderUid,
        proof_required: bool,
        within: Duration,
    ) -> Result<Option<Found>, FindError> {
        let ends = Instant::now() + within.min(self.settings.max_wait);
        if let Some(found) = self.find(uid, proof_required).await? {
            return Ok(Some(found));
        }
        let arrivals = self.coherence.arrivals();
        let waiter = arrivals.wait_for(uid, self.settings.max_waiters);
        let waiter = waiter.ok_or(FindError::Unavailable)?;
        loop {
            let woken = waiter.woken();
            // Twice, since the first may join a read that was begun too early to see what was announced too early to be heard here. The
            // second cannot, and is mostly answered from memory.
            for _ in 0..2 {
                if let Some(found) = self.find(uid, proof_required).await? {
                    return Ok(Some(found));
                }
            }
            if self.health.database() == DatabaseReach::Lost || arrivals.are_closed() {
                return Err(FindError::Unavailable);
            }
            if timeout_at(ends, woken).await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Whether an order that was last proven so long ago is better than none.
    pub(super) fn may_be_stale(&self, age: Duration, proof_required: bool) -> bool {
        !proof_required && age < self.settings.stale_if_error
    }

    /// Whether the database is to be asked at all.
    pub(super) fn may_read(&self) -> bool {
        match self.health.database() {
            DatabaseReach::InReach => true,
            DatabaseReach::Lost => self.is_probe(),
            DatabaseReach::NotYet => false,
        }
    }

    /// Lets a read run to its end, whatever becomes of its caller and of the caller's own thread.
    pub(super) async fn on_runtime<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T, FindError>> + Send + 'static,
    ) -> Result<T, FindError> {
        self.runtime.spawn(read).await.unwrap_or(Err(FindError::Other))
    }

    /// Whether this read is the one that tries a database out of reach. All others are answered at once instead of each waiting for
    /// its own time-out.
    fn is_probe(&self) -> bool {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let now = micros(self.origin.elapsed());
        let due = self.next_probe.load(SeqCst);
        let next = now.saturating_add(micros(self.settings.probe_every));
        due <= now
            && self
                .next_probe
                .compare_exchange(due, next, SeqCst, SeqCst)
                .is_ok()
    }

    /// Joins a young read of the same order, or begins one.
    async fn read(&self, uid: &OrderUid) -> Answer {
        let answer = {
            let mut reads = lock(&self.reads);
            match reads.get(uid) {
                Some(read) if read.began.elapsed() < self.settings.join_within => read.answer.clone(),
                _ => {
                    let read = self.begin_read(uid.clone());
                    reads.insert(uid.clone(), read.clone());
                    read.answer
                }
            }
        };
        answer.await
    }

    fn begin_read(&self, uid: OrderUid) -> SharedRead {
        let began = Instant::now();
        let (repository, coherence) = (Arc::clone(&self.repository), Arc::clone(&self.coherence));
        let (reads, deadline) = (Arc::clone(&self.reads), self.settings.deadline);
        let task = self.runtime.spawn(async move {
            let ticket = coherence.begin_fill(&uid);
            let answer = within(deadline, repository.find(&uid)).await;
            if let Ok(found) = &answer {
                coherence.keep(&ticket, &uid, found.as_ref());
            }
            // A read begun later, because this one was too old to join, stays.
            let mut reads = lock(&reads);
            if reads.get(&uid).is_some_and(|read| read.began == began) {
                reads.remove(&uid);
            }
            answer
        });
        let answer = task
            .map(|ended| ended.unwrap_or(Err(FindError::Other)))
            .boxed()
            .shared();
        SharedRead { began, answer }
    }
}

/// What a database read answers within its deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    read: impl Future<Output = Result<T, RepositoryError>>,
) -> Result<T, FindError> {
    match timeout(deadline, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(RepositoryError::Unavailable(error))) => {
            tracing::debug!(%error, "failed to read orders");
            Err(FindError::Unavailable)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "failed to read orders");
            Err(FindError::Other)
        }
        Err(_) => Err(FindError::Unavailable),
    }
}

fn lock(reads: &Mutex<HashMap<OrderUid, SharedRead>>) -> MutexGuard<'_, HashMap<OrderUid, SharedRead>> {
    reads.lock().unwrap_or_else(PoisonError::into_inner)
}
