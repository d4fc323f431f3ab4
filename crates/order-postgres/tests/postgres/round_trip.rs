//! Any order comes back as the bytes it was, by itself and in bulk.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use order_domain::testing::orders::any_order_with_uid;
use order_domain::{Batch, OrderDocument, OrderRepository, OrderUid, RevisedOrder, Revision};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};

use crate::database::Database;

#[tokio::test]
async fn any_order_is_read_back_as_the_same_bytes() {
    let database = Database::new().await;
    let orders = database.store().orders();
    let mut runner = TestRunner::new(Config::default());
    let mut expected: BTreeMap<OrderUid, OrderDocument> = BTreeMap::new();
    // Later rounds replace the orders of the first ones, by ones that have nothing in common with them.
    for round in 0..6_u32 {
        let mut versions = Vec::new();
        for number in 0..40_u32 {
            let uid = OrderUid::new(&format!("order-{}", (number * 7 + round * 13) % 90)).expect("a uid");
            let tree = any_order_with_uid(uid).new_tree(&mut runner).expect("an order");
            let revision = Revision {
                published_at: i64::from(round) - 2,
                sequence: number.into(),
            };
            versions.push(RevisedOrder {
                revision,
                order: tree.current(),
            });
        }
        let batch = Batch::new(versions, Vec::new());
        orders.store(&batch).await.expect("any order can be stored");
        for version in batch.orders() {
            expected.insert(
                version.order.order_uid.clone(),
                version.order.document(version.revision),
            );
        }
    }
    for (uid, document) in &expected {
        assert_eq!(orders.find(uid).await.expect("read").as_ref(), Some(document));
    }
    for max_bytes in [0, u64::MAX] {
        let read = orders.newest(usize::MAX, max_bytes).try_concat().await;
        let bulk: Vec<OrderDocument> = read.expect("read");
        assert_eq!(bulk.len(), expected.len());
        for document in bulk {
            assert_eq!(expected.get(&document.uid), Some(&document));
        }
    }
}
