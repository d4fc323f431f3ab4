//! What an entry really costs: fills a cache and compares what it says with what the process has.
//!
//! `cargo run --release -p order-moka --example weigh -- 1000`, the number being the bytes of JSON an order. One size a run, since what one
//! size leaves free would hide what the next one takes.

use std::fs;

use order_domain::{OrderCache, OrderDocument, OrderUid, Revision};
use order_moka::MokaOrderCache;

/// As in the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ORDERS: u64 = 200_000;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() {
    let json_bytes = std::env::args()
        .nth(1)
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(1_000);
    let before = resident();
    let cache = MokaOrderCache::new(u64::from(u32::MAX));
    for number in 0..ORDERS {
        cache.put_if(document(number, json_bytes), &|| true);
    }
    // Bytes take a little more once they are shared.
    let found = (0..ORDERS)
        .filter(|number| cache.get(document(*number, 0).uid.as_str()).is_some())
        .count();
    let size = cache.size();
    let (real, said) = ((resident() - before) / size.orders, size.bytes / size.orders);
    let weight = document(0, json_bytes).weight() as u64;
    println!(
        "{found} orders of {json_bytes} bytes of JSON; each weighs {weight}, with the entry {said}, and takes {real}"
    );
}

fn document(number: u64, json_bytes: usize) -> OrderDocument {
    OrderDocument {
        uid: OrderUid::new(&format!("{number:019x}")).expect("a uid"),
        revision: Revision {
            published_at: 1,
            sequence: number,
        },
        json: vec![b'x'; json_bytes].into(),
    }
}

/// Resident memory in bytes, as Linux tells it.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        * 1_024
}
