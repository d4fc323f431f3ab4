//! The real binary, held at each of the six moments around COMMIT, and killed or frozen there.

use std::collections::HashMap;
use std::time::Duration;

use order_domain::failpoints::Moment;
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Process, Shop, eventually};
use tokio::time::{Instant, sleep};

const ORDERS: u32 = 60;

/// A running service that holds at `moment` as soon as it comes to it, in the way that `action` says.
async fn holding(shop: &Shop, moment: Moment, action: &str) -> Process {
    let mut environment = shop.environment().clone();
    environment.insert("FAILPOINTS".to_owned(), format!("{moment}={action}"));
    Process::start(&environment)
}

/// Each stored order and the transaction that wrote it.
async fn written_by(shop: &Shop) -> HashMap<String, String> {
    let rows = shop.query("SELECT order_uid, xmin::text FROM orders").await;
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Publishes orders and a bad message, kills the service at `moment` of its first batch, starts another, and looks at what
/// there is in the end. Answers how many orders were stored, and how many messages acknowledged, when it was killed.
async fn killed_at(moment: Moment) -> (usize, u64) {
    let shop = Shop::open().await;
    for index in 0..ORDERS {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index))
            .await;
    }
    shop.publish("{\"order_uid\": \"broken\"").await;

    let mut process = holding(&shop, moment, "pause").await;
    process.logged("held at a failpoint").await;
    // What others of its tasks do meanwhile is done: one cannot kill at exactly this moment and know what was stored.
    sleep(Duration::from_millis(300)).await;
    process.kill().await;
    let migrated = shop.count("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()");
    assert!(migrated.await > 0);
    let stored = written_by(&shop).await;
    let letters = shop.count("SELECT count(*) FROM dead_letters").await;
    let acknowledged = shop.acknowledged().await;
    assert!(
        acknowledged <= stored.len() as u64 + u64::try_from(letters).expect("a count"),
        "{acknowledged} messages are acknowledged, and {} stored",
        stored.len()
    );

    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    shop.count_becomes(ORDERS.into(), "SELECT count(*) FROM orders")
        .await;
    shop.count_becomes(1, "SELECT count(*) FROM dead_letters").await;
    let all = eventually(async || shop.acknowledged().await == u64::from(ORDERS) + 1).await;
    assert!(all, "{} messages are acknowledged", shop.acknowledged().await);
    // Once: what was stored before the kill was not written again, and each change stands once in the commit log.
    let afterwards = written_by(&shop).await;
    for (uid, transaction) in &stored {
        assert_eq!(afterwards.get(uid), Some(transaction), "{uid} was written again");
    }
    let changes = "SELECT count(*) FROM commit_log, unnest(order_uids)";
    assert_eq!(shop.count(changes).await, i64::from(ORDERS));
    let items: u32 = (0..ORDERS).map(|index| 1 + index % 3).sum();
    assert_eq!(shop.count("SELECT count(*) FROM items").await, i64::from(items));
    for index in [0, ORDERS / 2, ORDERS - 1] {
        let order = sample_order_version(&format!("order-{index}"), index);
        client.serves(order.order_uid.as_str(), order.json()).await;
    }
    assert!(process.terminate().await.success());
    shop.close().await;
    (stored.len(), acknowledged)
}

#[tokio::test]
async fn killed_after_receiving_nothing_is_stored_and_nothing_lost() {
    assert_eq!(killed_at(Moment::AfterReceive).await, (0, 0));
}

#[tokio::test]
async fn killed_before_commit_nothing_is_stored_and_nothing_lost() {
    assert_eq!(killed_at(Moment::BeforeCommit).await, (0, 0));
}

#[tokio::test]
async fn killed_after_commit_it_is_stored_once() {
    let (stored, acknowledged) = killed_at(Moment::AfterCommit).await;
    assert!(stored > 0);
    assert_eq!(acknowledged, 0);
}

#[tokio::test]
async fn killed_before_the_follower_applies_it_is_stored_once() {
    let (stored, _) = killed_at(Moment::BeforeApply).await;
    assert!(stored > 0);
}

#[tokio::test]
async fn killed_before_acknowledging_it_is_stored_once() {
    let (stored, acknowledged) = killed_at(Moment::BeforeAcknowledge).await;
    assert!(stored > 0);
    assert_eq!(acknowledged, 0);
}

#[tokio::test]
async fn killed_after_acknowledging_it_is_not_delivered_again() {
    let (stored, acknowledged) = killed_at(Moment::AfterAcknowledge).await;
    assert!(stored > 0);
    assert!(acknowledged > 0);
}

#[tokio::test]
async fn a_replica_that_froze_before_commit_holds_up_nobody_for_long() {
    let shop = Shop::open().await;
    let mut frozen = holding(&shop, Moment::BeforeCommit, "1*sleep(4000)").await;
    let frozen_client = frozen.listening().await;
    frozen_client.ready().await;
    shop.publish_order(&sample_order("a")).await;
    frozen.logged("held at a failpoint").await;
    // Its transaction holds the row and the lock on the commit log.
    frozen.freeze().await;
    let since = Instant::now();

    let mut other = Process::start(shop.environment());
    let client = other.listening().await;
    client.ready().await;
    shop.publish_order(&sample_order("b")).await;
    client.get_when_there("b").await;
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "the other one went on after {:?}",
        since.elapsed()
    );
    // What the frozen one has in hand is delivered to the other.
    client.serves("a", sample_order("a").json()).await;

    frozen.thaw().await;
    shop.publish_order(&sample_order_version("a", 1)).await;
    for client in [&frozen_client, &client] {
        client.serves("a", sample_order_version("a", 1).json()).await;
    }
    let all = eventually(async || shop.acknowledged().await == 3).await;
    assert!(all, "{} messages are acknowledged", shop.acknowledged().await);
    assert_eq!(
        shop.count("SELECT count(*) FROM commit_log, unnest(order_uids)")
            .await,
        3
    );
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    assert!(frozen.terminate().await.success());
    assert!(other.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn a_follower_that_is_held_up_hides_the_cache_instead_of_serving_what_is_overtaken() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order_version("a", 0)).await;
    replica.get_when_there("a").await;
    replica.stop().await;

    // It has version 0 in its cache by its warm-up, and learns of no change from the log.
    let mut process = holding(&shop, Moment::BeforeApply, "pause").await;
    let client = process.listening().await;
    client.ready().await;
    let warm = eventually(async || client.readyz().await.json()["cache"]["orders"] == 1).await;
    assert!(warm, "{:?}", client.readyz().await);
    let newer = sample_order_version("a", 1);
    shop.publish_order(&newer).await;
    process.logged("held at a failpoint").await;
    // The change was committed before the follower came to it, so that two seconds from here the bound has passed.
    sleep(Duration::from_secs(2)).await;
    let answer = client.get("a").await;
    assert_eq!(answer.body, newer.json());
    assert!(
        answer.header("age").is_empty(),
        "proven by the database: {answer:?}"
    );
    process.kill().await;
    shop.close().await;
}
