//! The real binary, killed, told to end, and started before its servers.

use std::time::Duration;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Process, Shop, eventually};
use reqwest::StatusCode;

#[tokio::test]
async fn nothing_that_was_acknowledged_is_lost_to_kill_9() {
    const ORDERS: u32 = 3_000;
    let shop = Shop::open().await;
    let mut process = Process::start(shop.environment());
    process.listening().await;
    for index in 0..ORDERS {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index))
            .await;
        // In the middle of its work, wherever that happens to be.
        if index % 500 == 250 {
            process.kill().await;
            process = Process::start(shop.environment());
        }
    }
    let client = process.listening().await;
    // On a busy machine not even the first start may have come as far as making the tables.
    client.ready().await;
    shop.count_becomes(i64::from(ORDERS), "SELECT count(*) FROM orders")
        .await;
    let items: u32 = (0..ORDERS).map(|index| 1 + index % 3).sum();
    for (expected, table) in [(ORDERS, "delivery"), (ORDERS, "payment"), (items, "items")] {
        assert_eq!(
            shop.count(&format!("SELECT count(*) FROM {table}")).await,
            i64::from(expected),
            "{table}"
        );
    }
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    for index in [0, 250, 251, 2_999] {
        let order = sample_order_version(&format!("order-{index}"), index);
        client.serves(order.order_uid.as_str(), order.json()).await;
    }
    assert!(process.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn sigterm_ends_it_in_order() {
    let mut shop = Shop::open().await;
    shop.set("SHUTDOWN__DRAIN_DELAY", "1s");
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    shop.publish_order(&sample_order("a")).await;
    client.get_when_there("a").await;

    let ending = tokio::spawn(process.terminate());
    let unready = eventually(async || client.readyz().await.status == StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(unready);
    assert_eq!(
        client.get("a").await.status,
        StatusCode::OK,
        "it answers while balancers take notice"
    );
    assert!(ending.await.expect("waited for").success());
    shop.close().await;
}

#[tokio::test]
async fn without_the_database_it_starts_says_so_and_serves_as_soon_as_it_comes() {
    let mut shop = Shop::open().await;
    let mut database = shop.through_proxy("POSTGRES__URL").await;
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    process.logged("the database cannot be reached").await;
    assert_eq!(client.manage("/livez").await.status, StatusCode::OK);
    let ready = client.readyz().await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        ready.json()["troubles"][0]
            .as_str()
            .is_some_and(|it| it.starts_with("database: ")),
        "{ready:?}"
    );
    let answer = client.get("a").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(
        !String::from_utf8_lossy(&answer.body).contains("connect"),
        "nothing internal: {answer:?}"
    );

    shop.publish_order(&sample_order("a")).await;
    database.open().await;
    client.ready().await;
    client.serves("a", sample_order("a").json()).await;
    assert!(process.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn without_the_broker_it_starts_says_so_and_takes_orders_as_soon_as_it_comes() {
    let mut shop = Shop::open().await;
    shop.publish_order(&sample_order("a")).await;
    let mut broker = shop.through_proxy("NATS__URL").await;
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    let reads = eventually(async || client.get("a").await.status == StatusCode::NOT_FOUND).await;
    assert!(reads, "what is stored is served: {:?}", client.get("a").await);
    assert_eq!(client.manage("/livez").await.status, StatusCode::OK);
    let ready = client.readyz().await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");
    assert_eq!(ready.json()["troubles"][0], "broker: out of reach");
    let log = process.log();
    assert!(
        log.iter()
            .any(|line| line.contains("broker") || line.contains("NATS")),
        "{log:#?}"
    );

    broker.open().await;
    client.ready().await;
    client.serves("a", sample_order("a").json()).await;

    // Once it was reached, losing it does not take the replica out of the balancer.
    broker.close();
    let degraded = eventually(async || client.readyz().await.json()["status"] == "degraded").await;
    let ready = client.readyz().await;
    assert!(degraded && ready.status == StatusCode::OK, "{ready:?}");
    assert_eq!(client.get("a").await.status, StatusCode::OK);
    broker.open().await;
    let well = eventually(async || client.readyz().await.json()["status"] == "ready").await;
    assert!(well, "{:?}", client.readyz().await);
    assert!(process.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn while_the_database_is_away_cached_orders_are_served_with_their_age_and_nothing_is_lost() {
    let mut shop = Shop::open().await;
    let mut database = shop.through_proxy("POSTGRES__URL").await;
    database.open().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("a")).await;
    replica.get_when_there("a").await;

    database.close();
    let aged = eventually(async || {
        let answer = replica.get("a").await;
        answer.status == StatusCode::OK && !answer.header("age").is_empty()
    });
    assert!(aged.await, "{:?}", replica.get("a").await);
    let no_cache = [("cache-control", "no-cache")];
    let answer = replica
        .request(reqwest::Method::GET, "/api/v1/orders/a", &no_cache)
        .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        replica.get("unknown").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(replica.readyz().await.json()["status"], "degraded");
    shop.publish_order(&sample_order_version("a", 1)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    database.open().await;
    replica.serves("a", sample_order_version("a", 1).json()).await;
    assert!(replica.get("a").await.header("age").is_empty());
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
    shop.close().await;
}
