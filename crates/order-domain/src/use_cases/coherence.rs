//! When the cache may be believed, and what may be put into it.
//!
//! The cache itself holds whatever it is told. That it never answers something overtaken rests on three things here:
//!
//! - the **lease**: a look at the commit log that found it complete proves the cache for a while from the moment the look
//!   *began*. Without lease the cache is hidden, not emptied;
//! - **stamps**: applying a change bumps the counter of its uid before it touches the cache. A fill notes the counter before
//!   its snapshot begins and puts only if it is unchanged, so that a fill that a commit overtook is never kept, however
//!   late it comes;
//! - **offers**: what this replica is about to commit waits here until the log says that it was committed, and is put then,
//!   in the log's order, by the one task that follows the log.
//!
//! A read may be **ahead** of the log: it finds a version before the follower learns of it. Should the database be lost just then, and
//! come back without that commit, then the log leads on as if nothing had been. So what reads put since the last complete look is
//! dropped when the log was out of reach and is found again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::own_commits::OwnCommits;
use crate::instruments::LookupCounters;
use crate::{LogChange, OrderCache, OrderDocument, OrderUid, Revision};

/// How many counters the uids share. Two that share one only cost each other a fill.
const STRIPES: usize = 4_096;
/// What offers may weigh together, in bytes. Beyond it they are not taken, and a read fills the cache instead.
const OFFERS_BYTES: usize = 32 * 1024 * 1024;
/// How many orders are known to be absent at a time, and for how long each is.
const ABSENCES: usize = 10_000;
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// How many changed uids a warm-up may collect before it gives up.
const COLLECTED_UIDS: usize = 1_000_000;
/// How many orders that may be ahead of the log are told apart. Beyond it the cache is emptied instead.
const AHEAD_UIDS: usize = 1_000_000;

/// The policy over an [`OrderCache`]: when to believe it, and what may be put into it.
pub struct Coherence {
    cache: Arc<dyn OrderCache>,
    lease: Lease,
    stamps: Box<[AtomicU64]>,
    stripes: RandomState,
    offers: Mutex<Offers>,
    ahead: Mutex<Ahead>,
    collecting: Mutex<Option<HashSet<OrderUid>>>,
    absences: Mutex<HashMap<OrderUid, Absence>>,
    arrivals: Arrivals,
    own_commits: OwnCommits,
    lookups: LookupCounters,
}

/// What the cache has to say about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It is there and proven.
    Proven(OrderDocument),
    /// It is there, but the lease is over: good only while the database is out of reach, and only with its age.
    Unproven {
        /// What is there.
        document: OrderDocument,
        /// How long ago it was last proven; `None` if never.
        age: Option<Duration>,
    },
    /// Nothing is known of it.
    Unknown,
    /// There is no such order, and that is proven.
    Absent,
}

/// Noted before a read's snapshot begins; lets the read fill the cache if no commit has overtaken it.
#[derive(Debug)]
pub struct FillTicket {
    stripe: usize,
    stamp: u64,
}

impl Coherence {
    /// Over this cache, with a lease of `lease` from the beginning of each look at the log.
    pub fn new(cache: Arc<dyn OrderCache>, lease: Duration) -> Self {
        Coherence {
            cache,
            lease: Lease::new(lease),
            stamps: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            stripes: RandomState::new(),
            offers: Mutex::default(),
            ahead: Mutex::default(),
            collecting: Mutex::default(),
            absences: Mutex::default(),
            arrivals: Arrivals::default(),
            own_commits: OwnCommits::default(),
            lookups: LookupCounters::new(),
        }
    }

    /// What the cache has to say about an order now.
    pub fn look_up(&self, uid: &OrderUid) -> Lookup {
        let found = self.look(uid);
        self.lookups.count(&found);
        found
    }

    fn look(&self, uid: &OrderUid) -> Lookup {
        // The lease is read before the cache: what is applied in between only makes the answer newer.
        let proof = self.lease.proof();
        match (self.cache.get(uid.as_str()), proof) {
            (None, Proof::Holds) if self.is_absent(uid) => Lookup::Absent,
            (None, _) => Lookup::Unknown,
            (Some(document), Proof::Holds) => Lookup::Proven(document),
            (Some(document), Proof::Over { age }) => Lookup::Unproven { document, age },
        }
    }

    /// Begins a fill. To be called before the read's snapshot can begin.
    pub fn begin_fill(&self, uid: &OrderUid) -> FillTicket {
        let stripe = self.stripe(uid);
        FillTicket {
            stripe,
            stamp: self.stamps[stripe].load(SeqCst),
        }
    }

    /// Keeps what a read answered, be it that there is no such order.
    pub(crate) fn keep(&self, ticket: &FillTicket, uid: &OrderUid, found: Option<&OrderDocument>) {
        match found {
            Some(document) => {
                self.fill(ticket, document.clone());
            }
            None => self.fill_absent(ticket, uid),
        }
    }

    /// Puts what a read found, unless a change of the order was applied since the ticket was taken; answers whether it was put.
    pub fn fill(&self, ticket: &FillTicket, document: OrderDocument) -> bool {
        // Before it is put, so that what `doubt` does not find here it finds out of date by its stamp.
        lock(&self.ahead).add(&document.uid);
        self.cache.put_if(document, &|| {
            self.stamps[ticket.stripe].load(SeqCst) == ticket.stamp
        })
    }

    /// Remembers for a short while that a read found no such order, so that asking for unknown orders again and again does not reach
    /// the database each time. The same stamps guard it: an order that is stored meanwhile is seen.
    pub fn fill_absent(&self, ticket: &FillTicket, uid: &OrderUid) {
        let mut absences = lock(&self.absences);
        if absences.len() >= ABSENCES {
            // Rather forget all than keep track of which is oldest: they are worth one read each.
            absences.clear();
        }
        absences.insert(
            uid.clone(),
            Absence {
                stamp: ticket.stamp,
                since: Instant::now(),
            },
        );
    }

    fn is_absent(&self, uid: &OrderUid) -> bool {
        let mut absences = lock(&self.absences);
        let Some(absence) = absences.get(uid) else {
            return false;
        };
        let holds = absence.since.elapsed() < ABSENT_FOR
            && absence.stamp == self.stamps[self.stripe(uid)].load(SeqCst);
        if !holds {
            absences.remove(uid);
        }
        holds
    }

    /// Remembers what this replica is about to commit, to be put once the log says that it was.
    pub(crate) fn offer(&self, documents: impl Iterator<Item = OrderDocument>) {
        let mut offers = lock(&self.offers);
        documents.for_each(|document| offers.add(document));
    }

    /// Forgets an offer that was not committed after all.
    pub(crate) fn retract(&self, uid: &OrderUid) {
        lock(&self.offers).remove(uid);
    }

    /// How many offers wait to be seen in the log.
    #[cfg(feature = "testing")]
    pub(crate) fn offers(&self) -> usize {
        lock(&self.offers).documents.len()
    }

    /// Applies the changes of one log entry. To be called by one task, in the log's order.
    pub(crate) fn apply(&self, changes: &[LogChange]) {
        for change in changes {
            self.stamps[self.stripe(&change.uid)].fetch_add(1, SeqCst);
            self.collect(&change.uid);
            let offered = lock(&self.offers).take(&change.uid, change.revision);
            let put = offered.is_some_and(|document| self.cache.put_if(document, &|| true));
            if !put {
                self.cache.drop_older(&change.uid, change.revision);
            }
        }
        self.arrivals.announce(changes);
    }

    /// The log was found complete by a look that began at `began`, and all of it was applied.
    pub(crate) fn extend_lease(&self, began: Instant) {
        lock(&self.ahead).confirm(began);
        self.lease.extend(began);
    }

    /// The log was out of reach and is found again: maybe in a database that lost its last commits. Forgets what reads put that
    /// may be ahead of the log, and refuses the reads that are under way.
    pub(crate) fn doubt(&self) {
        self.bump_all_stamps();
        *lock(&self.collecting) = None;
        lock(&self.offers).clear();
        let ahead = std::mem::take(&mut *lock(&self.ahead));
        if ahead.untold.is_some() {
            self.cache.clear();
        }
        for (_, uid) in ahead.uids {
            self.cache.drop_older(&uid, Revision::NEWEST);
        }
    }

    /// Forgets everything: the log does not lead on from what was applied.
    ///
    /// To be called after the place to follow from was read. A fill that was begun before is refused by its stamp; one
    /// begun after sees at least what that place stands for.
    pub(crate) fn reset(&self) {
        self.lease.end();
        self.bump_all_stamps();
        *lock(&self.collecting) = None;
        lock(&self.offers).clear();
        self.cache.clear();
        // What arrived meanwhile is not announced one by one.
        self.arrivals.wake_all();
    }

    /// Those who wait for an order to be applied.
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// What this replica has committed itself.
    pub(crate) fn own_commits(&self) -> &OwnCommits {
        &self.own_commits
    }

    /// Ends all waiting for orders, now and from now on: the service is about to end.
    pub fn end_waiting(&self) {
        self.arrivals.close();
    }

    /// Whether the cache is proven now.
    pub fn is_proven(&self) -> bool {
        matches!(self.lease.proof(), Proof::Holds)
    }

    /// How long ago the look at the log began that last proved the cache; since the start where none has.
    pub fn lease_age(&self) -> Duration {
        self.lease.age().unwrap_or_else(|| self.lease.origin.elapsed())
    }

    /// The cache itself, to ask its size.
    pub fn cache(&self) -> &dyn OrderCache {
        &*self.cache
    }

    /// Begins a warm-up, before its snapshot can begin. Busy ingestion would bump every stamp in the seconds it
    /// takes, so the uids that change meanwhile are collected instead. Only one runs at a time.
    pub fn begin_warm_up(&self) -> WarmUpGuard<'_> {
        *lock(&self.collecting) = Some(HashSet::new());
        WarmUpGuard { coherence: self }
    }

    fn collect(&self, uid: &OrderUid) {
        let mut collecting = lock(&self.collecting);
        if let Some(uids) = collecting.as_mut() {
            uids.insert(uid.clone());
            if uids.len() > COLLECTED_UIDS {
                *collecting = None;
            }
        }
    }

    fn bump_all_stamps(&self) {
        for stamp in &self.stamps {
            stamp.fetch_add(1, SeqCst);
        }
    }

    fn stripe(&self, uid: &OrderUid) -> usize {
        // Truncation is wanted: any bits of the hash will do.
        self.stripes.hash_one(uid) as usize % STRIPES
    }
}

/// A warm-up under way; ends when dropped.
pub struct WarmUpGuard<'a> {
    coherence: &'a Coherence,
}

impl WarmUpGuard<'_> {
    /// Puts what the snapshot holds, unless the order changed since; answers whether it was put.
    pub fn put(&self, document: OrderDocument) -> bool {
        let uid = document.uid.clone();
        let unchanged = || {
            lock(&self.coherence.collecting)
                .as_ref()
                .is_some_and(|changed| !changed.contains(&uid))
        };
        lock(&self.coherence.ahead).add(&uid);
        self.coherence.cache.put_if(document, &unchanged)
    }

    /// Whether the warm-up has lost its ground: the log was broken, or too much has changed.
    pub fn is_void(&self) -> bool {
        lock(&self.coherence.collecting).is_none()
    }
}

impl Drop for WarmUpGuard<'_> {
    fn drop(&mut self) {
        *lock(&self.coherence.collecting) = None;
    }
}

/// That there was no such order, at a stamp and for a while.
struct Absence {
    stamp: u64,
    since: Instant,
}

/// Orders that reads put, and when: their snapshots were taken before.
#[derive(Default)]
struct Ahead {
    uids: Vec<(Instant, OrderUid)>,
    /// When the last one was put that there was no room to write down.
    untold: Option<Instant>,
}

impl Ahead {
    fn add(&mut self, uid: &OrderUid) {
        if self.uids.len() < AHEAD_UIDS {
            self.uids.push((Instant::now(), uid.clone()));
        } else {
            self.untold = Some(Instant::now());
        }
    }

    /// A look that began at `began` found the log complete: what was read before it is not ahead.
    fn confirm(&mut self, began: Instant) {
        self.uids.retain(|(at, _)| *at >= began);
        self.untold = self.untold.filter(|at| *at >= began);
    }
}

/// What is about to be committed, bounded by weight.
#[derive(Default)]
struct Offers {
    documents: HashMap<OrderUid, OrderDocument>,
    bytes: usize,
}

impl Offers {
    fn add(&mut self, document: OrderDocument) {
        self.remove(&document.uid);
        if self.bytes + document.weight() <= OFFERS_BYTES {
            self.bytes += document.weight();
            self.documents.insert(document.uid.clone(), document);
        }
    }

    fn remove(&mut self, uid: &OrderUid) -> Option<OrderDocument> {
        let document = self.documents.remove(uid)?;
        self.bytes -= document.weight();
        Some(document)
    }

    /// What was offered under `uid`, if it is of this revision. An older one is overtaken and forgotten; a newer one waits on.
    fn take(&mut self, uid: &OrderUid, revision: Revision) -> Option<OrderDocument> {
        if self.documents.get(uid)?.revision > revision {
            return None;
        }
        self.remove(uid).filter(|document| document.revision == revision)
    }

    fn clear(&mut self) {
        *self = Offers::default();
    }
}

/// Until when the cache is proven, readable without a lock.
struct Lease {
    duration: Duration,
    origin: Instant,
    /// When the last complete look began: microseconds since `origin`, plus one. 0 for never.
    began: AtomicU64,
}

enum Proof {
    Holds,
    Over { age: Option<Duration> },
}

impl Lease {
    fn new(duration: Duration) -> Self {
        Lease {
            duration,
            origin: Instant::now(),
            began: AtomicU64::new(0),
        }
    }

    fn extend(&self, began: Instant) {
        let micros = u64::try_from((began - self.origin).as_micros()).unwrap_or(u64::MAX - 1);
        self.began.store(micros + 1, SeqCst);
    }

    fn end(&self) {
        self.began.store(0, SeqCst);
    }

    fn proof(&self) -> Proof {
        let Some(age) = self.age() else {
            return Proof::Over { age: None };
        };
        if age < self.duration {
            Proof::Holds
        } else {
            Proof::Over { age: Some(age) }
        }
    }

    /// How long ago the last complete look began; `None` if there was none.
    fn age(&self) -> Option<Duration> {
        let began = self.began.load(SeqCst).checked_sub(1)?;
        Some(self.origin.elapsed().saturating_sub(Duration::from_micros(began)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here panics while it holds a lock; a poisoned one would still be consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
