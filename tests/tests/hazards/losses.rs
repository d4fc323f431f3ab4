//! A server that is lost with all its data, as the runbook has it: what is restored, made anew, and taken in once more.

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Replica, Servers, Shop, eventually, said, xtask};
use reqwest::StatusCode;

/// Waits until all these messages are consumed.
async fn consumed(shop: &Shop, messages: u64) {
    let consumed = eventually(async || shop.acknowledged().await == messages).await;
    assert!(consumed, "{} acknowledged", shop.acknowledged().await);
}

async fn answers(replica: &Replica, uid: &str, status: StatusCode, aged: bool) {
    let answers = eventually(async || {
        let answer = replica.get(uid).await;
        answer.status == status && answer.header("age").is_empty() != aged
    });
    assert!(answers.await, "{:?}", replica.get(uid).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_lost_is_restored_from_a_dump_and_catches_up() {
    let mut servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    for index in 0..40 {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index))
            .await;
    }
    shop.publish("no order").await;
    consumed(&shop, 41).await;
    let schema = format!("--schema={}", shop.schema());
    let dump = servers.postgres_client("pg_dump", &["--format=plain", &schema]);

    // After the backup: new versions, new orders, and one more that is none.
    for index in 20..60 {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index + 1))
            .await;
    }
    shop.publish("no order either").await;
    consumed(&shop, 82).await;
    let newest = sample_order_version("order-59", 60);
    replica.serves("order-59", newest.json()).await;
    let cached = eventually(async || replica.readyz().await.json()["cache"]["orders"] == 60).await;
    assert!(cached, "{:?}", replica.readyz().await);
    let whole = shop.contents().await;

    // A server without the tables is no better than none: what is cached is served, and nothing becomes a dead letter.
    servers.lose_postgres();
    answers(&replica, "order-59", StatusCode::OK, true).await;
    answers(&replica, "unknown", StatusCode::SERVICE_UNAVAILABLE, false).await;
    assert_eq!(replica.readyz().await.json()["status"], "degraded");

    let script = std::env::temp_dir().join(format!("{}.sql", shop.schema()));
    std::fs::write(&script, dump).expect("it can be written");
    let path = script.display().to_string();
    let whole_or_not = [
        "--quiet",
        "--single-transaction",
        "--set=ON_ERROR_STOP=1",
        "--file",
    ];
    servers.postgres_client("psql", &[&whole_or_not[..], &[&path]].concat());
    std::fs::remove_file(&script).expect("it is ours");
    answers(&replica, "order-59", StatusCode::NOT_FOUND, false).await;

    let output = xtask(shop.environment(), &["replay", "--since", "1h"]).await;
    let summary = said(&output);
    assert!(summary.contains("40 orders stored"), "{summary}");
    assert_eq!(shop.contents().await, whole, "everything is back");
    replica.serves("order-59", newest.json()).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_store_is_set_up_anew_and_takes_orders() {
    let mut servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    for version in 0..5 {
        shop.publish_order(&sample_order_version("a", version)).await;
    }
    consumed(&shop, 5).await;

    servers.kill_nats();
    std::fs::remove_dir_all(servers.nats_store()).expect("the store can be removed");
    assert_eq!(
        replica.get("a").await.status,
        StatusCode::OK,
        "reads are unaffected"
    );
    servers.start_nats();
    let newer = sample_order_version("a", 5);
    let published = eventually(async || shop.try_publish(newer.json().clone()).await.is_ok()).await;
    assert!(published, "the service made the stream anew");
    let sequence = shop.publish_order(&sample_order("b")).await.sequence;
    assert!(sequence < 5, "old sequences are handed out again: {sequence}");
    replica.serves("a", newer.json()).await;
    replica.serves("b", sample_order("b").json()).await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
}
