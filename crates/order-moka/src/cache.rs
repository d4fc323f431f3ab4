//! The cache itself.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use moka::sync::Cache;
use order_domain::{CacheSize, OrderCache, OrderDocument, OrderUid, Revision};

/// What moka spends on an entry beside what [`OrderDocument::weight`] counts, in bytes: the entry and its counters, its places
/// in two queues, its slot in the table, and what the allocator rounds up. Measured at 310 to 420, see the example `weigh`; a uid of more
/// than 24 bytes, which the key holds once more, adds its length.
const BYTES_AN_ENTRY: usize = 400;

/// How many locks the keys share. Two that share one only wait for each other.
const LOCKS: usize = 256;

/// An [`OrderCache`] on moka, bounded by bytes.
///
/// Lookups take no lock. `put_if` and `drop_older` hold a lock that their key shares with few others, while they decide and act. Moka's own
/// `and_compute_with` would do as well, but makes a lock for each call and keeps it in a map meanwhile.
#[derive(Debug)]
pub struct MokaOrderCache {
    entries: Cache<OrderUid, Held>,
    /// Counts the calls of `clear`. What was put under an earlier count is forgotten, whether or not it is still in memory.
    generation: AtomicU64,
    locks: Box<[Mutex<()>]>,
    lock_of: RandomState,
    max_bytes: u64,
}

#[derive(Debug, Clone)]
struct Held {
    document: OrderDocument,
    generation: u64,
}

impl MokaOrderCache {
    /// A cache that holds at most `max_bytes` bytes, its own cost an entry included.
    ///
    /// Between an insertion and the eviction that it causes a little more may be held: some hundred entries at most.
    pub fn new(max_bytes: u64) -> Self {
        let entries = Cache::builder()
            .name("orders")
            .max_capacity(max_bytes)
            .weigher(|_, held: &Held| {
                u32::try_from(held.document.weight() + BYTES_AN_ENTRY).unwrap_or(u32::MAX)
            })
            .build();
        MokaOrderCache {
            entries,
            generation: AtomicU64::new(0),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            lock_of: RandomState::new(),
            max_bytes,
        }
    }

    /// Nobody else changes what is held under this key until the guard is dropped.
    fn lock(&self, uid: &OrderUid) -> MutexGuard<'_, ()> {
        let place = self.lock_of.hash_one(uid) as usize % LOCKS;
        self.locks[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OrderCache for MokaOrderCache {
    fn get(&self, uid: &str) -> Option<OrderDocument> {
        let held = self.entries.get(uid)?;
        (held.generation == self.generation.load(SeqCst)).then_some(held.document)
    }

    fn put_if(&self, document: OrderDocument, allowed: &dyn Fn() -> bool) -> bool {
        let _alone = self.lock(&document.uid);
        // Read before `allowed` decides: a `clear` after that hides what is put here.
        let generation = self.generation.load(SeqCst);
        let newer_is_held = self
            .entries
            .get(&document.uid)
            .is_some_and(|held| held.generation == generation && held.document.revision > document.revision);
        if newer_is_held || !allowed() {
            return false;
        }
        let held = Held { document, generation };
        self.entries.insert(held.document.uid.clone(), held);
        true
    }

    fn drop_older(&self, uid: &OrderUid, revision: Revision) {
        // Takes the lock even where nothing is held: a `put_if` may be about to put what this has to drop.
        let _alone = self.lock(uid);
        let is_older = |held: Held| held.document.revision < revision;
        if self.entries.get(uid).is_some_and(is_older) {
            self.entries.invalidate(uid);
        }
    }

    fn clear(&self) {
        // This is what hides everything. `invalidate_all` alone would keep what was put in the same tick of the clock.
        self.generation.fetch_add(1, SeqCst);
        // And this gives the memory back.
        self.entries.invalidate_all();
    }

    fn size(&self) -> CacheSize {
        // Asked for now and then, by metrics, so that a quiet cache does its housekeeping too.
        self.entries.run_pending_tasks();
        CacheSize {
            orders: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
        }
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}
