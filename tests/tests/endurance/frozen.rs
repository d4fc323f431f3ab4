//! A server that freezes for longer than any deadline.

use std::time::Duration;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Answer, Client, Process, Servers, Shop, eventually};
use reqwest::{Method, StatusCode};
use tokio::time::{Instant, sleep};

const FROZEN_FOR: Duration = Duration::from_secs(50);
/// How many orders are in the cache, and asked for in turn.
const ORDERS: u32 = 50;

/// Asks for cached orders until this moment, each within the time of a cache and not of a database; answers what came.
async fn read_until(client: &Client, end: Instant) -> Vec<Answer> {
    let (mut answers, mut slowest) = (Vec::new(), Duration::ZERO);
    while Instant::now() < end {
        let began = Instant::now();
        answers.push(
            client
                .get(&format!("order-{}", answers.len() as u32 % ORDERS))
                .await,
        );
        slowest = slowest.max(began.elapsed());
        sleep(Duration::from_millis(20)).await;
    }
    eprintln!(
        "{} reads of cached orders, the slowest in {slowest:.1?}",
        answers.len()
    );
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some two minutes"]
async fn each_server_frozen_for_fifty_seconds_is_said_and_found_again() {
    let servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let mut process = Process::start(shop.environment());
    let client = process.listening().await;
    client.ready().await;
    for index in 0..ORDERS {
        shop.publish_order(&sample_order(&format!("order-{index}"))).await;
    }
    let cached = async || client.readyz().await.json()["cache"]["orders"] == ORDERS;
    assert!(eventually(cached).await, "{:?}", client.readyz().await);

    servers.freeze_nats();
    let frozen = Instant::now();
    eprintln!(
        "a frozen broker was said after {:.1?}",
        client.tells_of("broker: ").await
    );
    let answers = read_until(&client, frozen + FROZEN_FOR).await;
    assert!(answers.iter().all(|answer| answer.header("age").is_empty()));
    servers.thaw_nats();
    let (thawed, newer) = (Instant::now(), sample_order_version("order-0", 1));
    let published = eventually(async || shop.try_publish(newer.json().clone()).await.is_ok()).await;
    assert!(published);
    client.serves("order-0", newer.json()).await;
    client.is_well().await;
    eprintln!("and all was well {:.1?} after it thawed", thawed.elapsed());

    servers.freeze_postgres();
    let frozen = Instant::now();
    eprintln!(
        "a frozen database was said after {:.1?}",
        client.tells_of("database: ").await
    );
    let newest = sample_order_version("order-0", 2);
    shop.publish_order(&newest).await;
    sleep(Duration::from_secs(2)).await;
    let answers = read_until(&client, frozen + FROZEN_FOR).await;
    assert!(answers.iter().all(|answer| !answer.header("age").is_empty()));
    let no_cache = [("cache-control", "no-cache")];
    for (path, headers) in [("order-1", &no_cache[..]), ("unknown", &[])] {
        let answer = client
            .request(Method::GET, &format!("/api/v1/orders/{path}"), headers)
            .await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    servers.thaw_postgres();
    let thawed = Instant::now();
    client.serves("order-0", newest.json()).await;
    client.is_well().await;
    eprintln!("and all was well {:.1?} after it thawed", thawed.elapsed());
    assert!(client.get("order-1").await.header("age").is_empty());
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    assert!(process.terminate().await.success());
}
