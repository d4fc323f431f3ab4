//! What an entry really costs: fills a cache and compares what it says with what the process has.
//!
//! `cargo run --release -p order-moka --example weigh`

use std::fs;

use order_domain::{OrderCache, OrderDocument, OrderUid, Revision};
use order_moka::MokaOrderCache;

const ORDERS: u64 = 200_000;

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() {
    for json_bytes in [200, 1_000, 4_000] {
        let before = resident();
        let cache = MokaOrderCache::new(u64::from(u32::MAX));
        for number in 0..ORDERS {
            cache.put_if(document(number, json_bytes), &|| true);
        }
        let size = cache.size();
        let (real, said) = ((resident() - before) / size.orders, size.bytes / size.orders);
        let weight = document(0, json_bytes).weight() as u64;
        println!(
            "{json_bytes} bytes of JSON: weight {weight}, said {said}, resident {real} an order, so {} beside the weight",
            real as i64 - weight as i64
        );
    }
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
