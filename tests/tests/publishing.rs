//! Publishing orders by HTTP, and reading them back.

use std::time::Duration;

use order_domain::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, sample_order, sample_order_version};
use order_domain::{Order, parse};
use order_tests::{Answer, Client, Servers, Shop, eventually};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

const ORDERS: &str = "/api/v1/orders";

async fn publish(client: &Client, order: &Order) -> Answer {
    client.post(ORDERS, &[], order.json().clone()).await
}

async fn publish_under(client: &Client, key: &str, order: &Order) -> Answer {
    let headers = [("idempotency-key", key)];
    client.post(ORDERS, &headers, order.json().clone()).await
}

/// Waits for an order on this replica.
async fn wait_for(client: &Client, uid: &str, wait: &str) -> Answer {
    let path = format!("{ORDERS}/{uid}?wait={wait}");
    client.request(Method::GET, &path, &[]).await
}

/// The sequence of an accepted order.
fn sequence(answer: &Answer) -> u64 {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    answer.json()["sequence"].as_u64().expect("a sequence")
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

fn assert_problem(answer: &Answer, status: StatusCode, kind: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.json()["type"], format!("/problems/{kind}"), "{answer:?}");
}

fn assert_broker_unavailable(answer: &Answer) {
    assert_problem(answer, StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable");
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn what_was_accepted_can_be_read_back() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for message in [CAMEL_CASE_ORDER, CANONICAL_ORDER] {
        let order = parse(message).expect("a sample is an order").order;
        let accepted = replica.post(ORDERS, &[], message).await;
        let uid = order.order_uid.as_str();
        assert!(sequence(&accepted) > 0);
        assert_eq!(accepted.json()["order_uid"], uid);
        assert_eq!(accepted.header("location"), format!("{ORDERS}/{uid}"));
        assert!(!is_replayed(&accepted));
        assert_eq!(
            wait_for(&replica, uid, "9s").await.status,
            StatusCode::OK,
            "as soon as it is stored"
        );
        replica.serves(uid, order.json()).await;
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("traceparent", trace),
        ("content-type", "Application/JSON; charset=utf-8"),
    ];
    let accepted = replica
        .post(ORDERS, &headers, sample_order("a").json().clone())
        .await;
    assert_eq!(shop.header_of(sequence(&accepted), "traceparent").await, trace);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_not_published() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let order = sample_order("a");

    let answer = replica.post(ORDERS, &[], r#"{"order_uid":"a","#).await;
    assert_problem(&answer, StatusCode::BAD_REQUEST, "bad-json");
    let faulty = String::from_utf8(order.json().to_vec()).expect("JSON is text");
    let faulty = faulty
        .replacen(r#""order_uid":"a""#, r#""orderUid":"a/b""#, 1)
        .replacen(r#""currency":"USD""#, r#""currency":"""#, 1);
    let answer = replica.post(ORDERS, &[], faulty).await;
    assert_problem(&answer, StatusCode::UNPROCESSABLE_ENTITY, "invalid-order");
    let problem = answer.json();
    let faults = problem["errors"].as_array().expect("faults");
    let pointers: Vec<_> = faults.iter().map(|fault| &fault["pointer"]).collect();
    assert_eq!(pointers, ["/order_uid", "/payment/currency"]);
    assert_eq!(faults[1]["detail"], "must not be empty");

    let large = vec![b' '; shop.settings().http.max_body_bytes + 1];
    let answer = replica.post(ORDERS, &[], large).await;
    assert_problem(&answer, StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large");
    let headers = [("content-type", "text/plain")];
    let answer = replica.post(ORDERS, &headers, order.json().clone()).await;
    assert_problem(
        &answer,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
    );
    for bad in ["", "\"\"", "\"a", "\"a\"b", "\"a\\b\"", "a\tb", &"x".repeat(256)] {
        let answer = publish_under(&replica, bad, &order).await;
        assert_problem(&answer, StatusCode::BAD_REQUEST, "bad-header");
    }
    for (query, named) in [
        ("wait=5", "wait"),
        ("wait=-1s", "wait"),
        ("wiat=5s", "wiat"),
        ("wait=1s&wait=2s", "wait"),
    ] {
        let answer = replica
            .request(Method::GET, &format!("{ORDERS}/a?{query}"), &[])
            .await;
        assert_problem(&answer, StatusCode::BAD_REQUEST, "bad-query");
        assert!(answer.json()["detail"].to_string().contains(named), "{answer:?}");
    }
    assert_eq!(shop.messages().await, 0);
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_repeat_under_its_key_is_stored_once_whichever_replica_takes_it() {
    let shop = Shop::open().await;
    let replicas = [shop.replica().await, shop.replica().await];
    let (first, second) = (sample_order_version("a", 0), sample_order_version("a", 1));
    let accepted = publish_under(&replicas[0], "key-1", &first).await;
    assert!(!is_replayed(&accepted));
    // A string of a structured field is the same key as the bare text.
    for (replica, key) in replicas.iter().zip(["\"key-1\"", "key-1"]) {
        let repeated = publish_under(replica, key, &first).await;
        assert_eq!(sequence(&repeated), sequence(&accepted));
        assert!(is_replayed(&repeated));
    }
    assert_eq!(shop.messages().await, 1);

    let other = publish_under(&replicas[1], "key-1", &second).await;
    assert!(sequence(&other) > sequence(&accepted) && !is_replayed(&other));
    for _ in 0..2 {
        assert!(!is_replayed(&publish(&replicas[0], &second).await));
    }
    assert_eq!(shop.messages().await, 4);
    for replica in &replicas {
        replica.serves("a", second.json()).await;
    }
    for replica in replicas {
        replica.stop().await;
    }
    shop.close().await;
}

#[tokio::test]
async fn who_waits_is_answered_by_a_replica_that_did_not_store_the_order() {
    let mut shop = Shop::open().await;
    let writer = shop.replica().await;
    // This one takes no orders itself: its consumer is on a subject that nobody publishes to.
    let elsewhere = format!("{}_elsewhere", shop.stream());
    for name in ["NATS__STREAM", "NATS__CONSUMER", "NATS__SUBJECT"] {
        shop.set(name, &elsewhere);
    }
    let reader = shop.replica().await;
    let order = sample_order("a");
    let publish = async {
        sleep(Duration::from_millis(300)).await;
        publish(&writer, &order).await
    };
    let (waited, accepted) = tokio::join!(wait_for(&reader, "a", "9s"), publish);
    assert!(sequence(&accepted) > 0);
    assert_eq!((waited.status, &waited.body), (StatusCode::OK, order.json()));
    assert_eq!(
        wait_for(&reader, "unknown", "100ms").await.status,
        StatusCode::NOT_FOUND
    );

    // The end of the service ends the waiting.
    let end = async {
        sleep(Duration::from_millis(300)).await;
        writer.begin_stop();
    };
    let (waited, ()) = tokio::join!(wait_for(&writer, "unknown", "9s"), end);
    assert_problem(&waited, StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    writer.stop().await;
    reader.stop().await;
    shop.delete_stream(&elsewhere).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_take_an_order_is_said_and_the_repeat_is_stored_once() {
    let mut servers = Servers::start();
    let mut shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    shop.set("PUBLISH__DEADLINE", "2s");
    shop.set("PUBLISH__ATTEMPT", "500ms");
    let replica = shop.replica().await;

    servers.freeze_nats();
    assert_broker_unavailable(&publish_under(&replica, "frozen", &sample_order("a")).await);
    servers.thaw_nats();
    let accepted = async |key: &str, uid: &str| {
        let order = sample_order(uid);
        eventually(async || publish_under(&replica, key, &order).await.status == StatusCode::ACCEPTED).await
    };
    assert!(accepted("frozen", "a").await);
    replica.serves("a", sample_order("a").json()).await;
    assert_eq!(shop.messages().await, 1);

    servers.kill_nats();
    assert_broker_unavailable(&publish_under(&replica, "killed", &sample_order("b")).await);
    servers.start_nats();
    assert!(accepted("killed", "b").await);
    replica.serves("b", sample_order("b").json()).await;
    assert_eq!(shop.messages().await, 2);

    shop.fill_stream().await;
    assert_broker_unavailable(&publish_under(&replica, "full", &sample_order("c")).await);
    assert_eq!(shop.messages().await, 2);

    servers.freeze_postgres();
    let waited = wait_for(&replica, "unknown", "9s").await;
    assert_problem(&waited, StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    servers.thaw_postgres();
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_acknowledgement_got_lost_with_the_broker_is_stored_once() {
    let mut servers = Servers::start();
    let mut shop = Shop::open_on(&servers.postgres_url(), &servers.nats_url()).await;
    shop.set("PUBLISH__DEADLINE", "2s");
    shop.set("PUBLISH__ATTEMPT", "500ms");
    let mut wire = shop.through_proxy("NATS__URL").await;
    wire.open().await;
    let replica = shop.replica().await;
    let order = sample_order("a");

    wire.lose_answers();
    assert_broker_unavailable(&publish_under(&replica, "key", &order).await);
    assert_eq!(shop.messages().await, 1, "the broker has it and nobody knows");
    servers.kill_nats();
    wire.close();
    servers.start_nats();
    wire.open().await;

    let mut repeated = None;
    let accepted = eventually(async || {
        let answer = publish_under(&replica, "key", &order).await;
        let is_accepted = answer.status == StatusCode::ACCEPTED;
        repeated = Some(answer);
        is_accepted
    });
    assert!(accepted.await, "{repeated:?}");
    let repeated = repeated.expect("it was asked");
    assert!(is_replayed(&repeated));
    assert_eq!(sequence(&repeated), 1);
    replica.serves("a", order.json()).await;
    assert_eq!(shop.messages().await, 1);
    replica.stop().await;
}
