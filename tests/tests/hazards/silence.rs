//! A database whose wire carries nothing, and says nothing of it.

use std::time::Duration;

use order_domain::testing::orders::sample_order_version;
use order_tests::Shop;
use reqwest::StatusCode;
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_wire_went_silent_serves_nothing_that_is_overtaken() {
    let mut shop = Shop::open().await;
    let writer = shop.replica().await;
    let elsewhere = format!("{}_elsewhere", shop.stream());
    for name in ["NATS__STREAM", "NATS__CONSUMER", "NATS__SUBJECT"] {
        shop.set(name, &elsewhere);
    }
    let mut wire = shop.through_proxy("POSTGRES__URL").await;
    wire.open().await;
    let reader = shop.replica().await;
    for round in 0..2 {
        let (old, new) = (
            sample_order_version("a", 2 * round),
            sample_order_version("a", 2 * round + 1),
        );
        shop.publish_order(&old).await;
        reader.serves("a", old.json()).await;

        wire.silence(true);
        shop.publish_order(&new).await;
        writer.serves("a", new.json()).await;
        let committed = Instant::now();
        sleep(Duration::from_secs(2)).await;
        // Promise 3: from here on the new version, or an old one that says how old it is, or none.
        while committed.elapsed() < Duration::from_secs(6) {
            let answer = reader.get("a").await;
            let overtaken = answer.status == StatusCode::OK && answer.body != new.json();
            assert!(
                !overtaken || !answer.header("age").is_empty(),
                "{:?} after the commit: {answer:?}",
                committed.elapsed()
            );
            // Tests beside this one need the machine, too.
            sleep(Duration::from_millis(5)).await;
        }
        wire.silence(false);
        reader.serves("a", new.json()).await;
    }
    reader.stop().await;
    writer.stop().await;
    shop.delete_stream(&elsewhere).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lease_lost_under_full_load_comes_back_by_itself() {
    const READERS: usize = 16;
    let mut shop = Shop::open().await;
    let mut wire = shop.through_proxy("POSTGRES__URL").await;
    wire.open().await;
    let replica = shop.replica().await;
    for index in 0..50 {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index))
            .await;
    }
    for index in 0..50 {
        replica.get_when_there(&format!("order-{index}")).await;
    }

    let began = Instant::now();
    let stalled = Duration::from_secs(1)..Duration::from_secs(4);
    let read_all = async |reader: usize| {
        let (mut index, mut without_proof) = (reader, 0_u32);
        while began.elapsed() < Duration::from_secs(9) {
            let asked = began.elapsed();
            let answer = replica.get(&format!("order-{}", index % 50)).await;
            index += 1;
            let proven = answer.status == StatusCode::OK && answer.header("age").is_empty();
            without_proof += u32::from(!proven);
            // Some seconds after the stall all is as it was, although nobody ever stopped asking.
            assert!(
                proven || asked < stalled.end + Duration::from_secs(3),
                "asked {:?} after the stall: {answer:?}",
                asked - stalled.end
            );
        }
        without_proof
    };
    let stall = async {
        sleep(stalled.start).await;
        wire.silence(true);
        sleep(stalled.end - stalled.start).await;
        wire.silence(false);
        0
    };
    let readers = futures::future::join_all((0..READERS).map(read_all));
    let (without_proof, _) = tokio::join!(readers, stall);
    assert!(
        without_proof.iter().sum::<u32>() > 0,
        "the stall was long enough to lose the lease"
    );
    assert_eq!(replica.readyz().await.json()["cache"]["proven"], true);
    replica.stop().await;
    shop.close().await;
}
