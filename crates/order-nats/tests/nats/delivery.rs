//! What only JetStream can do to a delivery.

use std::collections::BTreeSet;
use std::time::Duration;

use order_domain::testing::contract::bus::BusFixture;
use order_domain::{AckToken, BusError, OrderBus, Subscription, TakeLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, TestBus, UNLIMITED, eventually, message, settings, take, text, tokens};

#[tokio::test]
async fn a_revision_is_what_jetstream_stamped() {
    let it = TestBus::open(PATIENCE).await;
    let ack = it.publish("a", "x").await;
    let revision = take(&mut *it.subscribe().await).await[0].revision;
    let stream = it
        .jetstream
        .get_stream(it.settings.stream.as_str())
        .await
        .unwrap();
    let stored = stream.get_raw_message(ack.sequence).await.unwrap();
    assert_eq!(revision.sequence, stored.sequence);
    assert_eq!(
        i128::from(revision.published_at),
        stored.time.unix_timestamp_nanos() / 1_000
    );
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_message_the_broker_takes_is_delivered() {
    let mut settings = settings();
    // One pull asks for less than one message, were it not raised.
    settings.pull_bytes = 1_000;
    let it = TestBus::new(settings).await;
    let mut subscription = it.subscribe().await;
    let client = it.jetstream.client();
    // Leaves room for the headers, which count too.
    let largest = client.max_payload() - 200;
    for number in 0..5 {
        it.publish(number, vec![b'0' + number; largest]).await;
    }
    let mut came = Vec::new();
    while came.len() < 5 {
        came.extend(take(&mut *subscription).await);
    }
    for (number, incoming) in (0..).zip(&came) {
        assert_eq!(incoming.message.payload, vec![b'0' + number; largest]);
    }
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_grow_with_the_backlog_and_nothing_is_missing() {
    const COUNT: u32 = 20_000;
    let it = TestBus::open(PATIENCE).await;
    it.publish_numbers(0..COUNT).await;
    let mut subscription = it.subscribe().await;
    let limits = TakeLimits {
        messages: 1_000,
        bytes: usize::MAX,
    };
    let (mut came, mut sizes) = (BTreeSet::new(), Vec::new());
    while came.len() < COUNT as usize {
        let taken = timeout(PATIENCE, subscription.take(limits))
            .await
            .expect("a message")
            .expect("open");
        sizes.push(taken.len());
        assert!(taken.iter().all(|incoming| !incoming.redelivered));
        came.extend(taken.iter().map(text));
        // As if they were stored meanwhile.
        sleep(Duration::from_millis(5)).await;
        subscription.acknowledge(&tokens(&taken), PATIENCE).await;
    }
    // Tokio lets a task do some 128 things at a time, which must not end a batch.
    assert!(sizes.iter().any(|size| *size > 500), "{sizes:?}");
    eventually("all acknowledged", async || {
        let backlog = it.bus.backlog().await.unwrap();
        backlog.undelivered + backlog.unacknowledged == 0
    })
    .await;
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_nobody_takes_from_holds_little() {
    let mut settings = settings();
    settings.pull_messages = 10;
    settings.pull_expires = Duration::from_secs(1);
    settings.heartbeat = Duration::from_millis(500);
    let it = TestBus::new(settings).await;
    let mut subscription = it.subscribe().await;
    it.publish_numbers(0..1_000).await;
    let one = TakeLimits {
        messages: 1,
        bytes: usize::MAX,
    };
    let first = timeout(PATIENCE, subscription.take(one)).await.unwrap().unwrap();
    assert_eq!(first.len(), 1);
    // The driver asks for more by itself 5 seconds after a request has expired.
    sleep(Duration::from_secs(14)).await;
    let backlog = it.bus.backlog().await.unwrap();
    assert!(backlog.unacknowledged <= 40, "{backlog:?}");
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_consumer_ends_the_subscription_and_is_made_again() {
    let it = TestBus::open(PATIENCE).await;
    let mut subscription = it.subscribe().await;
    it.publish_numbers(0..2).await;
    assert!(!take(&mut *subscription).await.is_empty());
    let stream = it
        .jetstream
        .get_stream(it.settings.stream.as_str())
        .await
        .unwrap();
    stream
        .delete_consumer(it.settings.consumer.as_str())
        .await
        .unwrap();
    assert_ends(subscription).await;
    // The new consumer knows of no acknowledgement, so everything comes again.
    let mut subscription = it.subscribe_again().await;
    it.publish_numbers(2..3).await;
    let mut came = BTreeSet::new();
    while came.len() < 3 {
        came.extend(take(&mut *subscription).await.iter().map(text));
    }
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_ends_the_subscription_and_is_made_again() {
    let it = TestBus::open(PATIENCE).await;
    let mut subscription = it.subscribe().await;
    it.publish_numbers(0..2).await;
    assert!(!take(&mut *subscription).await.is_empty());
    it.delete_stream().await;
    let missing = it.bus.publish(message("a", "")).await;
    assert!(matches!(missing, Err(BusError::Unavailable(_))), "{missing:?}");
    assert_ends(subscription).await;
    let mut subscription = it.subscribe_again().await;
    // A new stream counts anew; time makes its revisions newer all the same.
    assert_eq!(it.publish("b", "new").await.sequence, 1);
    assert_eq!(
        take(&mut *subscription)
            .await
            .iter()
            .map(text)
            .collect::<Vec<_>>(),
        ["new"]
    );
    it.close().await;
}

/// Takes what still comes, until the subscription says that it is at its end. It says so within two silences of the broker, at most.
async fn assert_ends(mut subscription: Box<dyn Subscription>) {
    let started = Instant::now();
    while let Ok(taken) = timeout(PATIENCE, subscription.take(UNLIMITED))
        .await
        .expect("an answer")
    {
        assert!(!taken.is_empty() && started.elapsed() < PATIENCE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_under_load_comes_back_soon() {
    const COUNT: u32 = 5_000;
    let mut settings = settings();
    settings.pull_messages = 100;
    settings.ack_wait = Duration::from_secs(5);
    let it = TestBus::new(settings).await;
    let mut leaving = it.subscribe().await;
    it.publish_numbers(0..COUNT).await;
    let taken = take(&mut *leaving).await;
    leaving.release(&tokens(&taken), PATIENCE).await;
    let mut staying = it.subscribe().await;
    let mut came = BTreeSet::new();
    while came.len() < COUNT as usize {
        let taken = take(&mut *staying).await;
        came.extend(taken.iter().map(text));
        staying.acknowledge(&tokens(&taken), PATIENCE).await;
    }
    it.close().await;
}

#[tokio::test]
async fn a_token_that_names_nothing_changes_nothing() {
    let it = TestBus::open(PATIENCE).await;
    let mut subscription = it.subscribe().await;
    it.publish_numbers(0..1).await;
    let taken = take(&mut *subscription).await;
    let nonsense = AckToken(bytes::Bytes::from_static(b"\xff no subject"));
    subscription
        .acknowledge(&[nonsense, taken[0].token.clone()], PATIENCE)
        .await;
    eventually("acknowledged", async || {
        it.bus.backlog().await.unwrap().unacknowledged == 0
    })
    .await;
    it.close().await;
}

/// Publishes as a client does that writes any bytes as headers.
async fn publish_with_headers(it: &TestBus, headers: &[u8], payload: &str) {
    let address = it.settings.url.to_string().replace("nats://", "");
    let mut connection = TcpStream::connect(address).await.unwrap();
    let sizes = format!("{} {}", headers.len(), headers.len() + payload.len());
    let publish = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {} {sizes}\r\n",
        it.settings.subject
    );
    for part in [publish.as_bytes(), headers, payload.as_bytes(), b"\r\nPING\r\n"] {
        connection.write_all(part).await.unwrap();
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"PONG\r\n") {
        assert_ne!(
            timeout(PATIENCE, connection.read_buf(&mut answer))
                .await
                .unwrap()
                .unwrap(),
            0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_cannot_be_read_stop_no_other_message() {
    let mut settings = settings();
    settings.ack_wait = Duration::from_secs(1);
    let it = TestBus::new(settings).await;
    let mut subscription = it.subscribe().await;
    it.publish("before", "before").await;
    let unreadable: [&[u8]; 4] = [
        b"NATS/1.0\r\nName: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\na name: x\r\n\r\n",
        b"nothing of NATS\r\n\r\n",
    ];
    for (number, headers) in unreadable.iter().enumerate() {
        publish_with_headers(&it, headers, &format!("unreadable {number}")).await;
    }
    publish_with_headers(&it, b"NATS/1.0 408 Request Timeout\r\n\r\n", "a status").await;
    it.publish("after", "after").await;

    let mut came = BTreeSet::new();
    while came.len() < unreadable.len() + 3 {
        match timeout(PATIENCE, subscription.take(UNLIMITED))
            .await
            .expect("an answer")
        {
            Ok(taken) => {
                came.extend(taken.iter().map(text));
                subscription.acknowledge(&tokens(&taken), PATIENCE).await;
            }
            Err(_) => {
                drop(subscription);
                subscription = it.subscribe_again().await;
            }
        }
    }
    eventually("all acknowledged", async || {
        let backlog = it.bus.backlog().await.unwrap();
        backlog.undelivered + backlog.unacknowledged == 0
    })
    .await;
    it.close().await;
}
