//! Taking in once more what the stream still holds, and dead letters after all.

use order_domain::Order;
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_tests::{Shop, eventually, said, xtask};
use reqwest::StatusCode;

fn text(order: &Order) -> String {
    String::from_utf8_lossy(order.json()).into_owned()
}

#[tokio::test]
async fn a_database_restored_from_a_backup_catches_up_from_the_stream() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for index in 0..40 {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index))
            .await;
    }
    shop.publish("no order").await;
    shop.count_becomes(40, "SELECT count(*) FROM orders").await;
    shop.count_becomes(1, "SELECT count(*) FROM dead_letters").await;
    let tables = [
        "orders",
        "delivery",
        "payment",
        "items",
        "dead_letters",
        "commit_log",
    ];
    for table in tables {
        shop.query(&format!("CREATE TABLE backup_{table} AS SELECT * FROM {table}"))
            .await;
    }

    // After the backup: new versions, new orders, and one more that is none.
    for index in 20..60 {
        shop.publish_order(&sample_order_version(&format!("order-{index}"), index + 1))
            .await;
    }
    shop.publish("no order either").await;
    shop.count_becomes(60, "SELECT count(*) FROM orders").await;
    shop.count_becomes(2, "SELECT count(*) FROM dead_letters").await;
    let everything = eventually(async || shop.acknowledged().await == 82).await;
    assert!(everything, "the broker will not deliver them by itself");
    replica
        .serves("order-59", sample_order_version("order-59", 60).json())
        .await;
    let whole = shop.contents().await;

    for table in tables {
        shop.query(&format!("DELETE FROM {table}")).await;
        shop.query(&format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup_{table}"
        ))
        .await;
    }
    assert_ne!(shop.contents().await, whole);
    let gone = eventually(async || replica.get("order-59").await.status == StatusCode::NOT_FOUND).await;
    assert!(gone, "the replica notices that the database was restored");

    let output = xtask(shop.environment(), &["replay", "--from-sequence", "1"]).await;
    let summary = said(&output);
    assert!(summary.contains("40 orders stored"), "{summary}");
    assert_eq!(shop.contents().await, whole, "everything is back");
    for index in [0, 30, 59] {
        let order = sample_order_version(
            &format!("order-{index}"),
            if index < 20 { index } else { index + 1 },
        );
        replica.serves(order.order_uid.as_str(), order.json()).await;
    }

    // Once more it changes nothing, whatever it begins with, and leaves nothing on the broker.
    let output = xtask(shop.environment(), &["replay", "--since", "1h"]).await;
    let summary = said(&output);
    assert!(summary.starts_with("0 orders stored"), "{summary}");
    assert_eq!(shop.contents().await, whole);
    assert_eq!(
        shop.acknowledged().await,
        82,
        "the service's own consumer is as it was"
    );
    assert_eq!(shop.consumers().await, 1);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn dead_letters_are_listed_shown_replayed_and_discarded() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let letters = async |arguments: &[&str]| {
        let all: Vec<&str> = ["dead-letters"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        xtask(shop.environment(), &all).await
    };
    // A rule that this version of the service does not know of, as one that an operator added by hand.
    shop.query("ALTER TABLE orders ADD CONSTRAINT no_poison CHECK (order_uid NOT LIKE 'poison%')")
        .await;
    shop.publish_order(&sample_order_version("poison-old", 1)).await;
    shop.publish_order(&sample_order_version("poison-only", 1)).await;
    let faulty = text(&sample_order("faulty")).replace("\"customer_id\":\"test\",", "");
    shop.publish(faulty.clone()).await;
    shop.publish("unwanted").await;
    shop.count_becomes(4, "SELECT count(*) FROM dead_letters").await;
    shop.query("ALTER TABLE orders DROP CONSTRAINT no_poison").await;
    let newer = sample_order_version("poison-old", 2);
    shop.publish_order(&newer).await;
    replica.get_when_there("poison-old").await;

    let listed = said(&letters(&["list"]).await);
    let revision_of = |text: &str| {
        let line = listed.lines().find(|line| line.contains(text));
        let line = line.unwrap_or_else(|| panic!("{text:?} is not in {listed}"));
        line.split(' ').next().expect("a revision").to_owned()
    };
    let (old, only) = (revision_of(" poison-old "), revision_of(" poison-only "));
    let (missing, unwanted) = (
        revision_of("/customer_id is missing"),
        revision_of("must be JSON"),
    );
    assert_eq!(listed.lines().count(), 4, "{listed}");
    assert!(!listed.contains("unwanted"), "never what is in them: {listed}");
    assert_eq!(
        said(&letters(&["show", &missing]).await),
        faulty,
        "whole, as it came"
    );

    // The newer version stays, what was missing comes, and what is no order is said to be none.
    let told = said(&letters(&["replay", &old, &only]).await);
    assert!(told.contains("the newer version"), "{told}");
    replica.serves("poison-old", newer.json()).await;
    let only_order = sample_order_version("poison-only", 1);
    replica.serves("poison-only", only_order.json()).await;
    let published =
        "SELECT ((extract(epoch FROM published_at) * 1000000)::bigint || '-' || sequence) FROM orders
         WHERE order_uid = 'poison-only'";
    assert_eq!(shop.query(published).await[0].get::<_, String>(0), only);
    let told = said(&letters(&["replay", &only]).await);
    assert!(told.contains("already replayed"), "{told}");
    let output = letters(&["replay", "--all"]).await;
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("/customer_id is missing"), "{told}");

    // A discarded one stays so when its message comes again.
    said(&letters(&["discard", &unwanted]).await);
    assert!(!letters(&["replay", &unwanted]).await.status.success());
    shop.forget_what_was_consumed().await;
    shop.publish_order(&sample_order("last")).await;
    replica.get_when_there("last").await;
    let settled = eventually(async || shop.acknowledged().await == 6).await;
    assert!(settled, "{} acknowledged", shop.acknowledged().await);
    let listed = said(&letters(&["list"]).await);
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert!(listed.starts_with(&missing), "{listed}");
    assert_eq!(
        said(&letters(&["list", "--state", "all"]).await).lines().count(),
        4
    );
    assert!(!letters(&["show", "1-1"]).await.status.success());
    replica.serves("poison-old", newer.json()).await;
    replica.stop().await;
    shop.close().await;
}
