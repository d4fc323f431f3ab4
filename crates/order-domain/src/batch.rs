//! What one transaction stores.

use crate::{DeadLetter, Order, Revision};

/// One version of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisedOrder {
    /// Which version it is.
    pub revision: Revision,
    /// The order.
    pub order: Order,
}

/// What one transaction stores: orders, dead letters, and the dead letters that these orders replay.
///
/// The orders are sorted by uid and each uid stands once, whoever built the batch: unsorted writers deadlock, and one
/// `INSERT … ON CONFLICT` may not touch a row twice.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    orders: Vec<RevisedOrder>,
    dead_letters: Vec<DeadLetter>,
    replayed: Vec<Revision>,
}

/// Many versions of many orders, reduced to the newest of each.
#[derive(Debug, Default)]
pub struct Reduced {
    /// The newest version of each order, sorted by uid.
    pub newest: Vec<RevisedOrder>,
    /// Older versions. One of them is the newest after all if the one that is kept cannot be stored.
    pub superseded: Vec<RevisedOrder>,
    /// Versions older by time yet ahead by sequence of the newest: the broker's clock stepped back.
    pub behind_the_clock: Vec<RevisedOrder>,
}

impl Reduced {
    /// Keeps the newest version of each order, in any order of delivery. The same version given twice counts once.
    pub fn from_versions(mut versions: Vec<RevisedOrder>) -> Self {
        // The newest version of a uid comes first, so that those after it are compared with what is kept.
        versions.sort_by(|a, b| {
            a.order
                .order_uid
                .cmp(&b.order.order_uid)
                .then_with(|| b.revision.cmp(&a.revision))
        });
        let mut reduced = Reduced::default();
        for version in versions {
            match reduced.newest.last() {
                Some(kept) if kept.order.order_uid == version.order.order_uid => {
                    if version.revision.is_behind_the_clock_of(&kept.revision) {
                        reduced.behind_the_clock.push(version);
                    } else {
                        reduced.superseded.push(version);
                    }
                }
                _ => reduced.newest.push(version),
            }
        }
        reduced
    }
}

impl Batch {
    /// A batch of the newest of these versions; what else there was is left out. Use [`Reduced`] to learn what.
    pub fn new(versions: Vec<RevisedOrder>, dead_letters: Vec<DeadLetter>) -> Self {
        Batch {
            orders: Reduced::from_versions(versions).newest,
            dead_letters,
            replayed: Vec::new(),
        }
    }

    /// Also marks these dead letters as replayed, in the same transaction.
    #[must_use]
    pub fn replaying(mut self, dead_letters: Vec<Revision>) -> Self {
        self.replayed = dead_letters;
        self
    }

    /// The orders, sorted by uid, each uid once.
    pub fn orders(&self) -> &[RevisedOrder] {
        &self.orders
    }

    /// The messages that can never become orders.
    pub fn dead_letters(&self) -> &[DeadLetter] {
        &self.dead_letters
    }

    /// The dead letters to mark as replayed.
    pub fn replayed(&self) -> &[Revision] {
        &self.replayed
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty() && self.dead_letters.is_empty() && self.replayed.is_empty()
    }

    /// Divides a batch the database rejected, to find the order at fault.
    ///
    /// Dead letters and marks stay with the first half.
    ///
    /// # Errors
    ///
    /// The batch itself, where it has fewer than two orders.
    pub fn bisect(mut self) -> Result<(Batch, Batch), Batch> {
        if self.orders.len() < 2 {
            return Err(self);
        }
        let second = self.orders.split_off(self.orders.len() / 2);
        Ok((
            self,
            Batch {
                orders: second,
                ..Batch::default()
            },
        ))
    }
}
