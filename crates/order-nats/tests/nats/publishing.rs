//! What the broker answers to a publisher, and what that means.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use order_domain::testing::contract::bus::BusFixture;
use order_domain::{BusError, OrderBus, OutgoingMessage};

use crate::support::{PATIENCE, TestBus, message, settings, take};

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let it = TestBus::open(PATIENCE).await;
    let largest = it.jetstream.client().max_payload();
    let error = it
        .bus
        .publish(message("a", vec![b'x'; largest + 1]))
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::Refused(_)), "{error}");
    it.close().await;
}

#[tokio::test]
async fn what_the_stream_finds_too_large_is_refused() {
    let it = TestBus::new(settings()).await;
    it.jetstream
        .create_stream(Config {
            max_message_size: 1_000,
            ..stream(&it)
        })
        .await
        .unwrap();
    it.publish("small", "x").await;
    let error = it
        .bus
        .publish(message("large", vec![b'x'; 2_000]))
        .await
        .unwrap_err();
    assert!(matches!(error, BusError::Refused(_)), "{error}");
    it.close().await;
}

#[tokio::test]
async fn a_full_stream_refuses_for_now_and_drops_nothing() {
    let it = TestBus::new(settings()).await;
    it.jetstream
        .create_stream(Config {
            max_messages: 2,
            ..stream(&it)
        })
        .await
        .unwrap();
    it.publish_numbers(0..2).await;
    let error = it.bus.publish(message("third", "x")).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable(_)), "{error}");
    let mut subscription = it.subscribe().await;
    assert_eq!(take(&mut *subscription).await.len(), 2);
    it.close().await;
}

#[tokio::test]
async fn a_subject_that_another_stream_stores_is_found_out() {
    let it = TestBus::new(settings()).await;
    let other = format!("OTHER-{}", it.settings.stream);
    it.jetstream
        .create_stream(Config {
            name: other.clone(),
            ..stream(&it)
        })
        .await
        .unwrap();
    let error = it.bus.publish(message("a", "x")).await.unwrap_err();
    assert!(
        matches!(&error, BusError::Unsuitable(text) if text.contains(&other)),
        "{error}"
    );
    it.jetstream.delete_stream(other).await.unwrap();
}

#[tokio::test]
async fn without_a_stream_nothing_is_stored() {
    let it = TestBus::new(settings()).await;
    let error = it.bus.publish(message("a", "x")).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn the_id_travels_as_jetstream_expects_it() {
    let it = TestBus::open(PATIENCE).await;
    let headers = vec![
        ("Nats-Msg-Id".to_owned(), "mine".to_owned()),
        ("traceparent".to_owned(), "00-a-b-01".to_owned()),
    ];
    let message = OutgoingMessage {
        headers,
        ..message("theirs", "x")
    };
    it.bus.publish(message).await.unwrap();
    let taken = take(&mut *it.subscribe().await).await;
    let expected = [("Nats-Msg-Id", "theirs"), ("traceparent", "00-a-b-01")];
    let headers: Vec<_> = taken[0]
        .message
        .headers
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(headers, expected);
    it.close().await;
}

/// A stream that would serve.
fn stream(it: &TestBus) -> Config {
    Config {
        name: it.settings.stream.to_string(),
        subjects: vec![it.settings.subject.to_string()],
        discard: DiscardPolicy::New,
        max_age: Duration::ZERO,
        ..Config::default()
    }
}
