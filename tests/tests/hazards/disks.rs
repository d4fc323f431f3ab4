//! Disks without room, and a stream that takes no more.

use order_domain::testing::orders::sample_order_version;
use order_tests::{Process, Servers, Shop};
use reqwest::StatusCode;

const MIB: u32 = 1 << 20;

/// Takes all room in a folder but so many MiB, until it is removed.
fn fill(folder: &std::path::Path, leave: u32) -> std::path::PathBuf {
    let ballast = folder.join("ballast");
    let mut file = std::fs::File::create(&ballast).expect("a file on the disk");
    let block = vec![0; MIB as usize];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
    let size = file.metadata().expect("it is open").len();
    file.set_len(size.saturating_sub(u64::from(leave * MIB)))
        .expect("it can be cut");
    ballast
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_database_pauses_ingestion_until_there_is_room() {
    let servers = match Servers::start_on_small_disks(160, 64) {
        Ok(servers) => servers,
        Err(reason) => return skip(&reason),
    };
    let shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    let mut process = Process::start(shop.environment());
    let replica = process.listening().await;
    replica.ready().await;
    shop.publish_order(&sample_order_version("first", 0)).await;
    replica.get_when_there("first").await;

    // What is left holds less than the orders that come, and the log of the database has its next file already.
    let disk = servers.postgres_data().parent().expect("it lies on the disk");
    let ballast = fill(disk, 1);
    let mut published = 0;
    let mut paused = false;
    while !paused {
        assert!(published < 10_000, "{published} orders found room");
        for _ in 0..100 {
            shop.publish_order(&sample_order_version(&format!("order-{published}"), published))
                .await;
            published += 1;
        }
        let troubles = replica.readyz().await.json()["troubles"].to_string();
        paused = troubles.contains("ingestion: ");
    }
    let answer = replica.get("first").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(replica.readyz().await.status, StatusCode::OK);

    std::fs::remove_file(ballast).expect("room can be made");
    shop.count_becomes(i64::from(published) + 1, "SELECT count(*) FROM orders")
        .await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.is_well().await;
    assert!(process.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_publishers_and_drops_nothing() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.limit_stream(200_000).await;
    let mut accepted = 0;
    while accepted < 1_000 {
        let order = sample_order_version(&format!("order-{accepted}"), accepted);
        if shop.try_publish(order.json().clone()).await.is_err() {
            break;
        }
        accepted += 1;
    }
    assert!((50..1_000).contains(&accepted), "{accepted} were accepted");
    shop.count_becomes(i64::from(accepted), "SELECT count(*) FROM orders")
        .await;
    // Consumed or not, an order takes room for as long as the stream keeps it.
    let refused = sample_order_version("refused-one", 2);
    assert!(shop.try_publish(refused.json().clone()).await.is_err());

    shop.limit_stream(400_000).await;
    shop.publish_order(&refused).await;
    replica.serves("refused-one", refused.json()).await;
    replica
        .serves("order-0", sample_order_version("order-0", 0).json())
        .await;
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
    shop.close().await;
}

#[expect(clippy::print_stderr, reason = "a test that tried nothing has to say so")]
fn skip(reason: &str) {
    eprintln!("NOT TRIED: {reason}");
}
