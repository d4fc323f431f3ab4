//! What turning a batch of orders into rows costs, up to the bytes that go over the wire.

use divan::Bencher;
use divan::counter::ItemsCount;
use order_domain::testing::orders::sample_order_version;
use order_domain::{RevisedOrder, Revision};
use order_postgres::encoding::encode;

fn main() {
    divan::main();
}

/// Orders with three items each.
#[divan::bench(args = [1, 500])]
fn rows_of_orders(bencher: Bencher, orders: u64) {
    let batch: Vec<RevisedOrder> = (0..orders)
        .map(|number| RevisedOrder {
            revision: Revision {
                published_at: 1_795_638_344_000_000,
                sequence: number,
            },
            order: sample_order_version(&format!("order-{number}"), 2),
        })
        .collect();
    bencher.counter(ItemsCount::new(orders)).bench(|| encode(&batch));
}
