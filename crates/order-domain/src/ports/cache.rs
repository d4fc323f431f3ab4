//! Where hot orders are kept in memory.

use crate::{OrderDocument, OrderUid, Revision};

/// Where hot orders are kept in memory. It holds whatever it is told; when to believe it is decided in
/// [`Coherence`](crate::Coherence).
///
/// Its methods do not wait: they are called on the path of every request, and `put_if` decides inside the key's own lock.
pub trait OrderCache: Send + Sync {
    /// The document held under `uid`. It may be gone at any time: the cache may forget whatever it wants.
    fn get(&self, uid: &str) -> Option<OrderDocument>;

    /// Holds `document` if nothing newer is held under its uid and `allowed` answers yes; answers whether it did.
    ///
    /// `allowed` MUST be called while no other `put_if` or `drop_older` on the same uid can run, and the document MUST be
    /// visible to those that run after. It may refuse for want of room. What is held MUST weigh no more than the bound,
    /// once pending evictions have run.
    fn put_if(&self, document: OrderDocument, allowed: &dyn Fn() -> bool) -> bool;

    /// Forgets what is held under `uid` if it is older than `revision`.
    fn drop_older(&self, uid: &OrderUid, revision: Revision);

    /// Forgets everything that is held when it is called.
    fn clear(&self);

    /// How much is held. May lag behind.
    fn size(&self) -> CacheSize;

    /// The most bytes that may be held.
    fn max_bytes(&self) -> u64;
}

/// How much a cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheSize {
    /// How many orders.
    pub orders: u64,
    /// What they weigh, in bytes, as [`OrderDocument::weight`] counts plus the cache's own cost an entry.
    pub bytes: u64,
}
