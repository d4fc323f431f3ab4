//! Those who wait for an order to be stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::{LogChange, OrderUid};

/// Those who wait for an order, by its uid. The log follower wakes them: nobody asks the database again and again.
#[derive(Default)]
pub(crate) struct Arrivals {
    waiting: Mutex<Waiting>,
    /// How many wait, readable without the lock: mostly nobody does, and then applying the log costs nothing more.
    ///
    /// A waiter counts itself before it looks; the follower makes its change seen before it reads the count. Both are
    /// sequentially consistent, so that one of the two sees the other.
    count: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    bells: HashMap<OrderUid, Arc<Notify>>,
    closed: bool,
}

/// One who waits; no longer when dropped.
pub(crate) struct Waiter<'a> {
    arrivals: &'a Arrivals,
    uid: OrderUid,
    bell: Arc<Notify>,
}

impl Arrivals {
    /// Begins to wait for an order; `None` if `most` wait already, or nobody may wait any more.
    pub(crate) fn wait_for(&self, uid: &OrderUid, most: usize) -> Option<Waiter<'_>> {
        let mut waiting = self.lock();
        if waiting.closed || self.count.load(SeqCst) >= most {
            return None;
        }
        self.count.fetch_add(1, SeqCst);
        let bell = Arc::clone(waiting.bells.entry(uid.clone()).or_default());
        Some(Waiter {
            arrivals: self,
            uid: uid.clone(),
            bell,
        })
    }

    /// Wakes those who wait for one of these orders. To be called after the changes can be seen.
    pub(crate) fn announce(&self, changes: &[LogChange]) {
        if self.count.load(SeqCst) == 0 {
            return;
        }
        let waiting = self.lock();
        for change in changes {
            if let Some(bell) = waiting.bells.get(&change.uid) {
                bell.notify_waiters();
            }
        }
    }

    /// Wakes all, to look for themselves.
    pub(crate) fn wake_all(&self) {
        self.lock().bells.values().for_each(|bell| bell.notify_waiters());
    }

    /// From now on nobody waits any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake_all();
    }

    /// Whether waiting is over for everyone.
    pub(crate) fn are_closed(&self) -> bool {
        self.lock().closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Ready when it is woken, from the moment of this call on.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.bell.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.arrivals.lock();
        self.arrivals.count.fetch_sub(1, SeqCst);
        // Beside the map's there is only ours: new ones are made under the lock.
        if Arc::strong_count(&self.bell) == 2 {
            waiting.bells.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Revision;

    fn uid(text: &str) -> OrderUid {
        OrderUid::new(text).expect("a test gives a good uid")
    }

    fn change(text: &str) -> LogChange {
        let revision = Revision {
            published_at: 1,
            sequence: 1,
        };
        LogChange {
            uid: uid(text),
            revision,
        }
    }

    #[tokio::test]
    async fn only_who_waits_for_the_order_is_woken() {
        let arrivals = Arrivals::default();
        let waiters = ["a", "a", "b"].map(|it| arrivals.wait_for(&uid(it), 10).expect("there is room"));
        let [first, second, other] = &waiters;
        let (first, second, other) = (first.woken(), second.woken(), other.woken());
        arrivals.announce(&[change("a"), change("c")]);
        first.await;
        second.await;
        assert_eq!(futures::poll!(Box::pin(other)), std::task::Poll::Pending);
    }

    #[test]
    fn nothing_is_left_of_who_waits_no_more() {
        let arrivals = Arrivals::default();
        let first = arrivals.wait_for(&uid("a"), 2).expect("there is room");
        let second = arrivals.wait_for(&uid("a"), 2).expect("there is room");
        assert!(arrivals.wait_for(&uid("b"), 2).is_none(), "there is no more");
        drop(first);
        assert_eq!(arrivals.lock().bells.len(), 1);
        drop(second);
        assert_eq!(arrivals.lock().bells.len(), 0);
        assert_eq!(arrivals.count.load(SeqCst), 0);
        arrivals.close();
        assert!(arrivals.wait_for(&uid("a"), 2).is_none(), "it is over");
    }
}
