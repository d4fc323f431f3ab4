//! The cache of one replica, which forgets when it wants, and in which another thread looks between two steps of a change.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use super::descheduled::{self, Point};
use super::ledger::Answer;
use super::plan::UIDS;
use super::samples::uid;
use super::world::World;
use crate::{CacheSize, Coherence, Lookup, OrderCache, OrderDocument, OrderUid, Revision};

pub(super) struct HostileCache {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    pub(super) inner: Arc<dyn OrderCache>,
    /// The policy over this cache, as other threads of the replica use it.
    pub(super) coherence: OnceLock<Weak<Coherence>>,
}

impl HostileCache {
    /// Looks as a reader on another thread may at any moment. Not called while the cache holds a lock.
    fn peek(&self) {
        let world = &self.world;
        if !world.chance(world.plan.peeks) {
            return;
        }
        let Some(coherence) = self.coherence.get().and_then(Weak::upgrade) else {
            return;
        };
        let uid = uid(world.dice.within(0..UIDS));
        let now = world.now();
        judge(world, self.replica, &uid, now, &coherence.look_up(&uid));
    }

    /// Any cache may forget anything at any time.
    fn forgets(&self) -> bool {
        self.world.chance(self.world.plan.evictions)
    }
}

/// Has a look at the cache of this replica judged, where it said something that is to be believed.
pub(super) fn judge(world: &World, replica: usize, uid: &OrderUid, began: Duration, looked: &Lookup) {
    let found = match looked {
        Lookup::Proven(document) => Some(document),
        Lookup::Absent => None,
        Lookup::Unproven { .. } | Lookup::Unknown => return,
    };
    world.ledger().answered(&Answer {
        replica,
        uid,
        began,
        ended: world.now(),
        found,
        age: None,
    });
}

impl OrderCache for HostileCache {
    fn get(&self, uid: &str) -> Option<OrderDocument> {
        descheduled::rest(Point::BeforeCache);
        let found = self.inner.get(uid);
        descheduled::rest(Point::AfterCache);
        let found = found?;
        if self.forgets() {
            self.inner.drop_older(&found.uid, Revision::NEWEST);
            return None;
        }
        Some(found)
    }

    fn put_if(&self, document: OrderDocument, allowed: &dyn Fn() -> bool) -> bool {
        self.peek();
        if self.forgets() {
            return false;
        }
        let uid = document.uid.clone();
        let held = |cache: &Self| cache.inner.get(uid.as_str()).map(|document| document.revision);
        let before = held(self);
        let put = self.inner.put_if(document, allowed);
        if held(self).is_some_and(|after| Some(after) < before) {
            let what = format!(
                "the cache of replica {} put an older {uid} over a newer",
                self.replica
            );
            self.world.ledger().violated(self.world.now(), what);
        }
        self.peek();
        put
    }

    fn drop_older(&self, uid: &OrderUid, revision: Revision) {
        self.peek();
        self.inner.drop_older(uid, revision);
        self.peek();
    }

    fn clear(&self) {
        self.peek();
        self.inner.clear();
        self.peek();
    }

    fn size(&self) -> CacheSize {
        self.inner.size()
    }

    fn max_bytes(&self) -> u64 {
        self.inner.max_bytes()
    }
}
