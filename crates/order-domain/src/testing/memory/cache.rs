//! A cache that is a map behind a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{CacheSize, OrderCache, OrderDocument, OrderUid, Revision};

/// An [`OrderCache`] that is a map behind one lock, and forgets what was put first when it is full.
///
/// It decides at once and always the same way, so that seeded models can be built on it. `allowed` runs inside the lock and
/// so must not call the cache.
#[derive(Debug)]
pub struct MemoryCache {
    max_bytes: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    documents: HashMap<OrderUid, (u64, OrderDocument)>,
    /// The uids in the order in which they were put, by the number of their put.
    puts: BTreeMap<u64, OrderUid>,
    next_put: u64,
    bytes: u64,
}

impl MemoryCache {
    /// A cache that holds at most `max_bytes` bytes of documents, as [`OrderDocument::weight`] counts.
    pub fn new(max_bytes: u64) -> Self {
        MemoryCache {
            max_bytes,
            held: Mutex::default(),
        }
    }

    /// Forgets one order, as any cache may at any time.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // An `allowed` that panicked has changed nothing, so what is held is still whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cache with room for everything a test puts.
impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(1 << 30)
    }
}

impl Held {
    fn put(&mut self, document: OrderDocument) {
        self.remove(document.uid.as_str());
        self.next_put += 1;
        self.bytes += document.weight() as u64;
        self.puts.insert(self.next_put, document.uid.clone());
        self.documents
            .insert(document.uid.clone(), (self.next_put, document));
    }

    fn remove(&mut self, uid: &str) {
        if let Some((put, document)) = self.documents.remove(uid) {
            self.puts.remove(&put);
            self.bytes -= document.weight() as u64;
        }
    }

    fn revision(&self, uid: &OrderUid) -> Option<Revision> {
        self.documents.get(uid).map(|(_, document)| document.revision)
    }
}

impl OrderCache for MemoryCache {
    fn get(&self, uid: &str) -> Option<OrderDocument> {
        self.lock()
            .documents
            .get(uid)
            .map(|(_, document)| document.clone())
    }

    fn put_if(&self, document: OrderDocument, allowed: &dyn Fn() -> bool) -> bool {
        let mut held = self.lock();
        let newer_held = held
            .revision(&document.uid)
            .is_some_and(|revision| revision > document.revision);
        if newer_held || document.weight() as u64 > self.max_bytes || !allowed() {
            return false;
        }
        held.put(document);
        while held.bytes > self.max_bytes {
            let Some(oldest) = held.puts.first_key_value().map(|(_, uid)| uid.clone()) else {
                break;
            };
            held.remove(oldest.as_str());
        }
        true
    }

    fn drop_older(&self, uid: &OrderUid, revision: Revision) {
        let mut held = self.lock();
        if held.revision(uid).is_some_and(|kept| kept < revision) {
            held.remove(uid.as_str());
        }
    }

    fn clear(&self) {
        let mut held = self.lock();
        *held = Held {
            next_put: held.next_put,
            ..Held::default()
        };
    }

    fn size(&self) -> CacheSize {
        let held = self.lock();
        CacheSize {
            orders: held.documents.len() as u64,
            bytes: held.bytes,
        }
    }

    fn max_bytes(&self) -> u64 {
        self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    crate::order_cache_contract!(super::MemoryCache::new);
}
