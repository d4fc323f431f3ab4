//! Streams that are deleted, recreated and restored, and producers that try again late.

use std::path::Path;
use std::process::Command;

use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Replica, Servers, Shop, eventually};

/// Publishes, however often it takes: the stream may not be there yet.
async fn publish(shop: &Shop, uid: &str, version: u32) -> u64 {
    let order = sample_order_version(uid, version);
    let mut sequence = 0;
    let published = eventually(async || match shop.try_publish(order.json().clone()).await {
        Ok(ack) => {
            sequence = ack.sequence;
            true
        }
        Err(_) => false,
    });
    assert!(published.await, "{uid} cannot be published");
    sequence
}

async fn serves(replica: &Replica, uid: &str, version: u32) {
    replica
        .serves(uid, sample_order_version(uid, version).json())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_and_made_again_loses_no_new_version() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for version in 0..5 {
        publish(&shop, "a", version).await;
    }
    serves(&replica, "a", 4).await;
    let consumed = eventually(async || shop.acknowledged().await == 5).await;
    assert!(consumed, "the publishers are quiet, and all is consumed");

    shop.delete_stream(shop.stream()).await;
    let sequence = publish(&shop, "a", 5).await;
    assert!(sequence < 5, "old sequences are handed out again: {sequence}");
    publish(&shop, "b", 0).await;
    serves(&replica, "a", 5).await;
    serves(&replica, "b", 0).await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
    shop.close().await;
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").args([from, to]).status();
    assert!(copied.expect("cp can be run").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_restored_to_an_older_store_loses_no_new_version_and_brings_none_back() {
    let mut servers = Servers::start();
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let replica = shop.replica().await;
    publish(&shop, "a", 0).await;
    publish(&shop, "b", 0).await;
    serves(&replica, "b", 0).await;
    let (store, older) = (
        servers.nats_store().to_path_buf(),
        servers.nats_store().with_extension("older"),
    );
    servers.kill_nats();
    copy(&store, &older);
    servers.start_nats();
    for version in 1..4 {
        publish(&shop, "a", version).await;
    }
    let last = publish(&shop, "c", 0).await;
    serves(&replica, "a", 3).await;
    serves(&replica, "c", 0).await;

    servers.kill_nats();
    std::fs::remove_dir_all(&store).expect("the store can be removed");
    copy(&older, &store);
    servers.start_nats();
    let sequence = publish(&shop, "c", 1).await;
    assert!(sequence < last, "old sequences are handed out again: {sequence}");
    publish(&shop, "d", 0).await;
    for (uid, version) in [("a", 3), ("b", 0), ("c", 1), ("d", 0)] {
        serves(&replica, uid, version).await;
    }
    // The older store delivers what it takes for unread once more.
    let settled = eventually(async || shop.acknowledged().await == 4).await;
    assert!(settled, "{} acknowledged", shop.acknowledged().await);
    serves(&replica, "a", 3).await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_published_again_late_counts_as_newer_whatever_its_body_says() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let (first, second) = (sample_order_version("a", 1), sample_order_version("a", 2));
    for order in [&first, &second] {
        shop.publish_order(order).await;
        replica.serves("a", order.json()).await;
    }
    // A producer that lost the answer tries again when the broker has forgotten the id. Which one it meant cannot be known here.
    shop.publish_order(&first).await;
    replica.serves("a", first.json()).await;
    shop.publish_order(&sample_order("last")).await;
    replica.get_when_there("last").await;
    assert_eq!(replica.get("a").await.body, first.json());
    replica.stop().await;
    shop.close().await;
}
