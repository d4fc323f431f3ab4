//! Servers that die and freeze, and replicas that start all at once.

use std::collections::HashMap;
use std::time::Duration;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Process, Servers, Shop, eventually};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

/// Promised of a peer that freezes: how soon it is noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_right_after_acknowledgements_changes_nothing() {
    const ORDERS: i64 = 200;
    let mut servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    for index in 0..ORDERS {
        shop.publish_order(&sample_order(&format!("order-{index}"))).await;
    }
    shop.count_becomes(ORDERS, "SELECT count(*) FROM orders").await;
    // The broker writes down what was acknowledged every 100 ms, and the last of it is just being told.
    servers.kill_nats();
    let written = async || -> HashMap<String, String> {
        let rows = shop.query("SELECT order_uid, xmin::text FROM orders").await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let before = written().await;
    servers.start_nats();
    let after = sample_order("after");
    let published = eventually(async || shop.try_publish(after.json().clone()).await.is_ok()).await;
    assert!(published, "the broker is back");
    replica.get_when_there("after").await;
    let settled = eventually(async || shop.acknowledged().await == ORDERS as u64 + 1).await;
    assert!(settled, "{} acknowledged", shop.acknowledged().await);
    let mut afterwards = written().await;
    afterwards.remove("after");
    assert_eq!(afterwards, before, "nothing was written again");
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.is_well().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_said_and_reads_go_on() {
    let servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    replica.serves("a", sample_order("a").json()).await;

    servers.freeze_nats();
    let noticed = replica.tells_of("broker: ").await;
    assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
    let answer = replica.get("a").await;
    assert_eq!((answer.status, answer.header("age")), (StatusCode::OK, ""));
    assert_eq!(replica.get("unknown").await.status, StatusCode::NOT_FOUND);

    servers.thaw_nats();
    replica.is_well().await;
    let newer = sample_order_version("a", 1);
    let published = eventually(async || shop.try_publish(newer.json().clone()).await.is_ok()).await;
    assert!(published);
    replica.serves("a", newer.json()).await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_database_is_said_and_cached_orders_are_served_with_their_age() {
    let servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    replica.serves("a", sample_order("a").json()).await;
    let cached = eventually(async || replica.readyz().await.json()["cache"]["orders"] == 1).await;
    assert!(cached, "{:?}", replica.readyz().await);

    servers.freeze_postgres();
    let noticed = replica.tells_of("database: ").await;
    assert!(noticed < NOTICED_WITHIN, "noticed after {noticed:?}");
    // What was proven before it froze is so until the lease ends.
    let aged = eventually(async || !replica.get("a").await.header("age").is_empty()).await;
    assert!(aged, "{:?}", replica.get("a").await);
    assert_eq!(replica.get("a").await.status, StatusCode::OK);
    let no_cache = [("cache-control", "no-cache")];
    let answer = replica.request(Method::GET, "/api/v1/orders/a", &no_cache).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let newer = sample_order_version("a", 1);
    shop.publish_order(&newer).await;
    // Longer than any deadline: what was under way has failed, and been tried again, more than once.
    sleep(Duration::from_secs(12)).await;
    let answer = replica.get("a").await;
    assert_eq!(
        (answer.status, &answer.body),
        (StatusCode::OK, sample_order("a").json())
    );

    servers.thaw_postgres();
    replica.serves("a", newer.json()).await;
    replica.is_well().await;
    assert!(replica.get("a").await.header("age").is_empty());
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_that_start_at_once_on_an_empty_database_all_serve() {
    let shop = Shop::open().await;
    shop.publish_order(&sample_order("a")).await;
    let mut replicas: Vec<Process> = (0..4).map(|_| Process::start(shop.environment())).collect();
    for replica in &mut replicas {
        let client = replica.listening().await;
        client.ready().await;
        client.serves("a", sample_order("a").json()).await;
    }
    shop.count_becomes(1, "SELECT count(*) FROM orders").await;
    for replica in replicas {
        assert!(replica.terminate().await.success());
    }
    shop.close().await;
}
