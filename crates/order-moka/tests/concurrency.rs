//! Everything at once, under a bound that is too small, against what must hold for every reader.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread;

use bytes::Bytes;
use order_domain::{OrderCache, OrderDocument, OrderUid, Revision};
use order_moka::MokaOrderCache;

/// One order as the database would have it, and what its readers may rely on.
struct Order {
    uid: OrderUid,
    /// The newest version that was committed.
    committed: AtomicI64,
    /// Counts the changes that were applied to the cache.
    stamp: AtomicU64,
    /// A change to this version has been applied: nothing older may be found any more.
    floor: AtomicI64,
}

fn revision(version: i64) -> Revision {
    Revision {
        published_at: version,
        sequence: 1,
    }
}

impl Order {
    fn document(&self, version: i64) -> OrderDocument {
        // Bytes that only fit this version, so that a mixture would show.
        let json = Bytes::from(format!("{version}").repeat(40));
        OrderDocument {
            uid: self.uid.clone(),
            revision: revision(version),
            json,
        }
    }

    /// As the log follower does: first the stamp, then the drop.
    fn change(&self, cache: &MokaOrderCache) {
        let version = self.committed.fetch_add(1, SeqCst) + 1;
        self.stamp.fetch_add(1, SeqCst);
        cache.drop_older(&self.uid, revision(version));
        self.floor.fetch_max(version, SeqCst);
    }

    /// As a read does that missed: notes the stamp, reads the database, and puts if nothing changed meanwhile.
    fn fill(&self, cache: &MokaOrderCache, slow: bool) {
        let noted = self.stamp.load(SeqCst);
        let version = self.committed.load(SeqCst);
        if slow {
            thread::yield_now();
        }
        cache.put_if(self.document(version), &|| self.stamp.load(SeqCst) == noted);
    }

    fn check(&self, cache: &MokaOrderCache) {
        let floor = self.floor.load(SeqCst);
        if let Some(found) = cache.get(self.uid.as_str()) {
            let version = found.revision.published_at;
            assert!(
                version >= floor,
                "{} at {version}, though {floor} was applied",
                self.uid
            );
            assert_eq!(found, self.document(version));
        }
    }
}

/// Numbers that look random and are the same in every run.
fn dice(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |sides| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    }
}

#[test]
fn no_reader_ever_finds_what_a_change_overtook() {
    const WRITERS: u64 = 4;
    const TURNS: u64 = 40_000;
    // Room for a third of the orders, so that evictions go on all the time.
    let cache = MokaOrderCache::new(20_000);
    let orders: Vec<Order> = (0..100)
        .map(|number| Order {
            uid: OrderUid::new(&format!("order-{number}")).unwrap(),
            committed: AtomicI64::new(0),
            stamp: AtomicU64::new(0),
            floor: AtomicI64::new(0),
        })
        .collect();
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                let (cache, orders) = (&cache, &orders);
                scope.spawn(move || {
                    let mut roll = dice(seed + 1);
                    for _ in 0..TURNS {
                        let order = &orders[roll(orders.len() as u64) as usize];
                        match roll(10_000) {
                            0 => cache.clear(),
                            1..3_000 => order.change(cache),
                            roll => order.fill(cache, roll % 2 == 0),
                        }
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut roll = dice(99);
            while writing.load(SeqCst) {
                orders[roll(orders.len() as u64) as usize].check(&cache);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        writing.store(false, SeqCst);
        reader.join().unwrap();
    });
    for order in &orders {
        order.check(&cache);
    }
    let size = cache.size();
    assert!(size.bytes <= cache.max_bytes(), "{size:?}");
    assert!(size.orders > 0, "nothing was ever put, so nothing was tested");
}
