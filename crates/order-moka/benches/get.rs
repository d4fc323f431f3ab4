//! What a look into the cache costs, alone and beside another thread that looks too.

use std::cell::Cell;

use divan::{Bencher, black_box};
use order_domain::testing::orders::sample_order;
use order_domain::{OrderCache, Revision};
use order_moka::MokaOrderCache;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ORDERS: usize = 100_000;

fn main() {
    divan::main();
}

fn uids(of: &str) -> Vec<String> {
    (0..ORDERS).map(|number| format!("{of}-{number}")).collect()
}

/// Looks `wanted` up, one after another, in a cache that holds the orders named `held-…`.
fn look_up(bencher: Bencher, wanted: &[String]) {
    let cache = MokaOrderCache::new(1 << 30);
    let revision = Revision {
        published_at: 1,
        sequence: 1,
    };
    for uid in uids("held") {
        cache.put_if(sample_order(&uid).document(revision), &|| true);
    }
    assert_eq!(cache.size().orders, ORDERS as u64);
    thread_local! { static NEXT: Cell<usize> = const { Cell::new(0) } }
    bencher.bench(|| {
        // A step that is no divisor: neighbours in memory are not asked for one after another.
        let at = NEXT.replace((NEXT.get() + 7_919) % ORDERS);
        cache.get(black_box(&wanted[at]))
    });
}

#[divan::bench(threads = [1, 2], sample_size = 1_000)]
fn get_held(bencher: Bencher) {
    look_up(bencher, &uids("held"));
}

#[divan::bench(threads = [1, 2], sample_size = 1_000)]
fn get_absent(bencher: Bencher) {
    look_up(bencher, &uids("absent"));
}
