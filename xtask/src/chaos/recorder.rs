//! What publishers, readers and onlookers share: the history that they write, and the orders that they are about.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use order_domain::{Item, Order, OrderUid, Text};
use xtask::orders::OrderGenerator;

use super::history::History;

/// The history, and the clock that all its moments are taken from.
#[derive(Debug)]
pub(super) struct Recorder {
    origin: Instant,
    history: Mutex<History>,
}

impl Recorder {
    /// Begins a history now.
    pub(super) fn new() -> Recorder {
        Recorder {
            origin: Instant::now(),
            history: Mutex::default(),
        }
    }

    /// This moment.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The history, for as long as this is held.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The orders of a run: any version of any of them can be made again from two numbers.
#[derive(Debug)]
pub(super) struct Shop {
    generator: OrderGenerator,
    /// Which orders get new versions and are asked for most, by number, with their newest version.
    hot: Mutex<Hot>,
}

#[derive(Debug, Default)]
struct Hot {
    orders: Vec<(u64, u32)>,
    next: u64,
}

impl Shop {
    /// How many orders stay hot from one round to the next.
    const KEPT: usize = 60;

    /// The orders that a seed gives; none of them is published yet.
    pub(super) fn new(seed: u64) -> Shop {
        Shop {
            generator: OrderGenerator::new(seed, xtask::orders::Mix::default()),
            hot: Mutex::default(),
        }
    }

    /// A version of an order. All its parts show which version they are of, and versions differ in how many items they have.
    pub(super) fn version(&self, number: u64, version: u32) -> Order {
        let mut parts = self.generator.order(number).into_parts();
        let mark = Text::from(format!("version {version}"));
        let items = 1 + (number as usize + 3 * version as usize) % 7;
        parts.items = (0..items)
            .map(|index| Item {
                rid: format!("{mark}, item {index}").into(),
                ..parts.items[index % parts.items.len()].clone()
            })
            .collect();
        parts.delivery.region.clone_from(&mark);
        parts.payment.request_id.clone_from(&mark);
        parts.internal_signature = mark;
        Order::new(parts).unwrap_or_else(|faults| panic!("the generator made a bad order: {faults}"))
    }

    /// The first version of an order that there was none of before.
    pub(super) fn new_order(&self) -> Order {
        let number = {
            let mut hot = self.hot();
            let number = hot.next;
            hot.next += 1;
            hot.orders.push((number, 0));
            number
        };
        self.version(number, 0)
    }

    /// The next version of a hot order: the one that `pick` chooses out of so many. `None` while there are none.
    pub(super) fn new_version(&self, pick: impl FnOnce(usize) -> usize) -> Option<Order> {
        let (number, version) = {
            let mut hot = self.hot();
            let count = hot.orders.len();
            let order = (count > 0)
                .then(|| pick(count))
                .and_then(|at| hot.orders.get_mut(at))?;
            order.1 += 1;
            *order
        };
        Some(self.version(number, version))
    }

    /// The uids of all hot orders.
    pub(super) fn hot_uids(&self) -> Vec<OrderUid> {
        let numbers: Vec<u64> = self.hot().orders.iter().map(|(number, _)| *number).collect();
        numbers
            .into_iter()
            .map(|number| self.generator.uid(number))
            .collect()
    }

    /// The uid of a hot order: the one that `pick` chooses out of so many. `None` while there are none.
    pub(super) fn hot_uid(&self, pick: impl FnOnce(usize) -> usize) -> Option<OrderUid> {
        let number = {
            let hot = self.hot();
            let count = hot.orders.len();
            hot.orders.get((count > 0).then(|| pick(count))?)?.0
        };
        Some(self.generator.uid(number))
    }

    /// The uid of an order that is not published yet, the `ahead`th from now.
    pub(super) fn coming_uid(&self, ahead: u64) -> OrderUid {
        let next = self.hot().next;
        self.generator.uid(next + ahead)
    }

    /// The uid of any order that was hot once; which one, `pick` chooses. `None` while there are none.
    pub(super) fn any_uid(&self, pick: impl FnOnce(u64) -> u64) -> Option<OrderUid> {
        let next = self.hot().next;
        (next > 0).then(|| self.generator.uid(pick(next)))
    }

    /// Lets most of the hot orders cool down.
    pub(super) fn cool(&self) {
        let mut hot = self.hot();
        let cold = hot.orders.len().saturating_sub(Self::KEPT);
        hot.orders.drain(..cold);
    }

    fn hot(&self) -> MutexGuard<'_, Hot> {
        self.hot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_differs_in_every_part() {
        let shop = Shop::new(1);
        let (one, other) = (shop.version(5, 0), shop.version(5, 1));
        assert_eq!(one.order_uid, other.order_uid);
        assert_eq!(
            one.order_uid,
            shop.any_uid(|_| 5).unwrap_or_else(|| shop.coming_uid(5))
        );
        assert_ne!(one.delivery, other.delivery);
        assert_ne!(one.payment, other.payment);
        assert_ne!(one.items.len(), other.items.len());
        assert_eq!(one, shop.version(5, 0));
    }

    #[test]
    fn versions_are_handed_out_once() {
        let shop = Shop::new(1);
        assert!(shop.new_version(|_| 0).is_none());
        let coming = shop.coming_uid(0);
        assert_eq!(shop.new_order().order_uid, coming);
        let marks: Vec<String> = (0..3)
            .filter_map(|_| shop.new_version(|_| 0))
            .map(|order| order.internal_signature.to_string())
            .collect();
        assert_eq!(marks, ["version 1", "version 2", "version 3"]);
    }
}
