//! From a published message to the answer: both spellings, updates, shared articles.

use order_domain::Order;
use order_domain::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, sample_order, sample_order_version};
use order_tests::Shop;
use reqwest::StatusCode;

#[tokio::test]
async fn what_is_published_is_served_byte_for_byte() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish(CANONICAL_ORDER).await;
    let answer = replica.get_when_there("b563feb7b2b84b6test").await;
    assert_eq!(answer.body, CANONICAL_ORDER);
    assert_eq!(answer.header("content-type"), "application/json");
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn the_camel_case_spelling_is_served_canonically() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish(CAMEL_CASE_ORDER).await;
    let answer = replica.get_when_there("orderUID0").await;
    let order = answer.json();
    assert_eq!(
        order["date_created"], "2024-06-11T11:02:33.482913Z",
        "in UTC, cut to microseconds"
    );
    assert_eq!(order["payment"]["payment_dt"], 1_718_103_753);
    assert_eq!(order["payment"]["amount"].to_string(), "5417.25");
    assert_eq!(
        order["items"][0]["chrt_id"], order["items"][1]["chrt_id"],
        "an article may stand in it twice"
    );
    assert_eq!(order["items"][1]["name"], "Test Item 2");
    assert!(
        order["items"][0].get("order_uid").is_none(),
        "the parent's uid holds"
    );
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn an_update_wins_and_drops_the_items_it_does_not_have() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let versions: Vec<Order> = [2, 0].map(|version| sample_order_version("a", version)).into();
    assert_eq!(
        versions.iter().map(|order| order.items.len()).collect::<Vec<_>>(),
        [3, 1]
    );
    for order in &versions {
        shop.publish_order(order).await;
        replica.serves("a", order.json()).await;
    }
    assert_eq!(shop.count("SELECT count(*) FROM items").await, 1);
    for table in ["orders", "delivery", "payment"] {
        assert_eq!(
            shop.count(&format!("SELECT count(*) FROM {table}")).await,
            1,
            "{table}"
        );
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn orders_that_share_an_article_keep_their_items() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let orders = ["a", "b"].map(|uid| sample_order_version(uid, 2));
    assert_eq!(orders[0].items[0].chrt_id, orders[1].items[0].chrt_id);
    for order in &orders {
        shop.publish_order(order).await;
    }
    for order in &orders {
        replica.serves(order.order_uid.as_str(), order.json()).await;
    }
    assert_eq!(shop.count("SELECT count(*) FROM items").await, 6);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn of_many_versions_published_at_once_the_last_one_wins() {
    let shop = Shop::open().await;
    // They wait in the stream before anyone takes them, so that many versions of one order stand in one batch.
    for version in 0..200 {
        for uid in ["a", "b", "c"] {
            shop.publish_order(&sample_order_version(uid, version)).await;
        }
    }
    let replica = shop.replica().await;
    for uid in ["a", "b", "c"] {
        replica.serves(uid, sample_order_version(uid, 199).json()).await;
    }
    assert_eq!(shop.count("SELECT count(*) FROM orders").await, 3);
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 0);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn an_order_without_items_and_one_with_a_thousand_are_served() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for count in [0, 1_000] {
        let mut parts = sample_order("a").into_parts();
        parts.items = vec![parts.items[0].clone(); count];
        let order = Order::new(parts).expect("within the limits");
        shop.publish_order(&order).await;
        replica.serves("a", order.json()).await;
        assert_eq!(shop.count("SELECT count(*) FROM items").await, count as i64);
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_message_delivered_again_changes_nothing() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order_version("a", 1)).await;
    shop.publish_order(&sample_order_version("a", 2)).await;
    shop.publish(&b"no order"[..]).await;
    replica.serves("a", sample_order_version("a", 2).json()).await;
    shop.count_becomes(1, "SELECT count(*) FROM dead_letters").await;
    let entries = shop.count("SELECT count(*) FROM commit_log").await;
    let xmin = "SELECT xmin::text::bigint FROM orders";
    let written_by = shop.count(xmin).await;
    replica.stop().await;

    // A consumer that begins anew delivers all that the stream holds.
    shop.forget_what_was_consumed().await;
    let replica = shop.replica().await;
    shop.publish_order(&sample_order("sentinel")).await;
    replica.get_when_there("sentinel").await;
    assert_eq!(replica.get("a").await.body, sample_order_version("a", 2).json());
    assert_eq!(shop.count("SELECT count(*) FROM dead_letters").await, 1);
    assert_eq!(
        shop.count("SELECT count(*) FROM commit_log").await,
        entries + 1,
        "the sentinel's"
    );
    assert_eq!(
        shop.count(&format!("{xmin} WHERE order_uid = 'a'")).await,
        written_by
    );
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn every_answer_has_its_revision_as_etag() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let ack = shop.publish_order(&sample_order("a")).await;
    let answer = replica.get_when_there("a").await;
    let tag = answer.header("etag").to_owned();
    assert!(
        tag.starts_with("W/\"") && tag.ends_with(&format!("-{}\"", ack.sequence)),
        "{tag}"
    );

    let known = [("if-none-match", tag.as_str())];
    let answer = replica
        .request(reqwest::Method::GET, "/api/v1/orders/a", &known)
        .await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::NOT_MODIFIED, 0));
    shop.publish_order(&sample_order_version("a", 1)).await;
    replica.serves("a", sample_order_version("a", 1).json()).await;
    let answer = replica
        .request(reqwest::Method::GET, "/api/v1/orders/a", &known)
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    replica.stop().await;
    shop.close().await;
}
