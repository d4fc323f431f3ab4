//! Several replicas, restarts, and warm caches.

use order_domain::testing::orders::{CANONICAL_ORDER, sample_order, sample_order_version};
use order_tests::{Shop, eventually};

#[tokio::test]
async fn what_one_replica_commits_the_other_serves() {
    let shop = Shop::open().await;
    let replicas = [shop.replica().await, shop.replica().await];
    for version in 0..5 {
        let orders = ["a", "b", "c", "d"].map(|uid| sample_order_version(uid, version));
        for order in &orders {
            shop.publish_order(order).await;
        }
        for replica in &replicas {
            for order in &orders {
                replica.serves(order.order_uid.as_str(), order.json()).await;
            }
        }
    }
    for replica in replicas {
        replica.stop().await;
    }
    shop.close().await;
}

#[tokio::test]
async fn a_cached_order_is_not_served_two_seconds_after_another_replica_replaced_it() {
    let mut shop = Shop::open().await;
    let writer = shop.replica().await;
    // This one takes no orders itself: its consumer is on a subject that nobody publishes to.
    let elsewhere = format!("{}_elsewhere", shop.environment()["ORDERS__NATS__STREAM"]);
    for name in ["NATS__STREAM", "NATS__CONSUMER", "NATS__SUBJECT"] {
        shop.set(name, &elsewhere);
    }
    let reader = shop.replica().await;
    shop.publish_order(&sample_order_version("a", 0)).await;
    reader.get_when_there("a").await;
    for version in 1..20 {
        let order = sample_order_version("a", version);
        shop.publish_order(&order).await;
        shop.count_becomes(
            1817 + i64::from(version),
            "SELECT amount::bigint FROM payment WHERE order_uid = 'a'",
        )
        .await;
        let committed = tokio::time::Instant::now();
        let bound = std::time::Duration::from_secs(2);
        let mut seen = reader.get("a").await;
        while seen.body != order.json() && committed.elapsed() < bound {
            seen = reader.get("a").await;
        }
        assert_eq!(
            reader.get("a").await.body,
            order.json(),
            "still stale at the bound"
        );
    }
    writer.stop().await;
    reader.stop().await;
    shop.delete_stream(&elsewhere).await;
    shop.close().await;
}

#[tokio::test]
async fn a_restart_serves_the_same_bytes_as_before() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish(CANONICAL_ORDER).await;
    let before = replica.get_when_there("b563feb7b2b84b6test").await;
    replica.stop().await;

    let replica = shop.replica().await;
    let after = replica.get("b563feb7b2b84b6test").await;
    assert_eq!(
        (&after.body, after.header("etag")),
        (&before.body, before.header("etag"))
    );
    assert_eq!(after.body, CANONICAL_ORDER);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_restarted_replica_warms_its_cache_from_the_database() {
    let mut shop = Shop::open().await;
    let replica = shop.replica().await;
    for index in 0..100 {
        shop.publish_order(&sample_order(&format!("order-{index}"))).await;
    }
    shop.count_becomes(100, "SELECT count(*) FROM orders").await;
    replica.stop().await;

    shop.set("WARM_UP__ORDERS", "40");
    let replica = shop.replica().await;
    let cached = async || {
        replica.readyz().await.json()["cache"]["orders"]
            .as_u64()
            .unwrap_or(0)
    };
    assert!(
        eventually(async || cached().await == 40).await,
        "{} orders are cached",
        cached().await
    );
    replica.stop().await;

    shop.set("WARM_UP__ORDERS", "0");
    let replica = shop.replica().await;
    assert_eq!(replica.get("order-7").await.body, sample_order("order-7").json());
    replica.stop().await;
    shop.close().await;
}
