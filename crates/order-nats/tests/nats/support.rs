//! A stream of its own for every test.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use bytes::Bytes;
use order_domain::testing::contract::bus::BusFixture;
use order_domain::{
    AckToken, BusError, BusState, IncomingMessage, OrderBus, OutgoingMessage, PublishAck, Subscription,
    TakeLimits,
};
use order_nats::{NatsName, NatsOrderBus, NatsSettings, NatsSubject};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const UNLIMITED: TakeLimits = TakeLimits {
    messages: usize::MAX,
    bytes: usize::MAX,
};

/// What `cargo xtask test` says in the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "a test finds its servers through the environment"
)]
pub(crate) fn given(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask test`"))
}

/// Names that no other test uses, on the server that all share, and times of a tenth.
pub(crate) fn settings() -> NatsSettings {
    settings_for(&given("ORDERS_TEST_NATS_URL"))
}

/// Names that no other test uses, on this server.
pub(crate) fn settings_for(url: &str) -> NatsSettings {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    let unique = format!(
        "{}-{}-{}",
        since_epoch.as_micros(),
        process::id(),
        TESTS.fetch_add(1, Relaxed)
    );
    NatsSettings {
        url: url.parse().expect("a URL"),
        stream: NatsName::new(&format!("TEST-{unique}")).expect("a name"),
        subject: NatsSubject::new(&format!("test.{unique}")).expect("a subject"),
        ..NatsSettings::default()
    }
}

/// A bus on a stream of its own, and what the driver itself can do to that stream.
pub(crate) struct TestBus {
    pub(crate) bus: NatsOrderBus,
    pub(crate) jetstream: Context,
    pub(crate) settings: NatsSettings,
}

impl TestBus {
    pub(crate) async fn new(settings: NatsSettings) -> Self {
        let client = async_nats::connect(settings.url.to_string())
            .await
            .expect("a server that answers");
        let bus = NatsOrderBus::connect(settings.clone())
            .await
            .expect("settings that can be used");
        let this = TestBus {
            bus,
            jetstream: jetstream::new(client),
            settings,
        };
        this.in_reach().await;
        this
    }

    /// Waits until the bus says that it is in reach.
    pub(crate) async fn in_reach(&self) {
        let started = Instant::now();
        while self.bus.state() != BusState::Connected {
            assert!(started.elapsed() < PATIENCE, "still out of reach");
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn subscribe(&self) -> Box<dyn Subscription> {
        timeout(PATIENCE, self.bus.subscribe())
            .await
            .expect("an answer")
            .expect("a subscription")
    }

    /// Subscribes however often it takes, as the ingestor does.
    pub(crate) async fn subscribe_again(&self) -> Box<dyn Subscription> {
        let started = Instant::now();
        loop {
            match self.bus.subscribe().await {
                Ok(subscription) => return subscription,
                Err(error) if started.elapsed() < PATIENCE => {
                    assert!(matches!(error, BusError::Unavailable(_)), "{error}");
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("still {error}"),
            }
        }
    }

    pub(crate) async fn publish(&self, id: impl ToString, payload: impl Into<Bytes>) -> PublishAck {
        let publishing = self.bus.publish(message(id, payload));
        timeout(PATIENCE, publishing)
            .await
            .expect("an answer")
            .expect("stored")
    }

    /// Publishes messages whose ids and payloads are these numbers.
    pub(crate) async fn publish_numbers(&self, numbers: std::ops::Range<u32>) {
        let all = numbers.map(|number| self.publish(number, number.to_string()));
        futures::future::join_all(all).await;
    }

    pub(crate) async fn delete_stream(&self) {
        self.jetstream
            .delete_stream(self.settings.stream.as_str())
            .await
            .expect("a stream to delete");
    }
}

#[async_trait]
impl BusFixture for TestBus {
    async fn open(ack_wait: Duration) -> Self {
        let mut settings = settings();
        settings.ack_wait = ack_wait;
        let this = TestBus::new(settings).await;
        // Publishing needs a stream, which is made by the first subscription.
        this.subscribe().await.release(&[], PATIENCE).await;
        this
    }

    fn bus(&self) -> &dyn OrderBus {
        &self.bus
    }

    async fn close(self) {
        self.delete_stream().await;
    }
}

pub(crate) fn message(id: impl ToString, payload: impl Into<Bytes>) -> OutgoingMessage {
    OutgoingMessage {
        id: id.to_string(),
        headers: Vec::new(),
        payload: payload.into(),
    }
}

pub(crate) async fn take(subscription: &mut dyn Subscription) -> Vec<IncomingMessage> {
    timeout(PATIENCE, subscription.take(UNLIMITED))
        .await
        .expect("a message")
        .expect("open")
}

pub(crate) fn tokens(messages: &[IncomingMessage]) -> Vec<AckToken> {
    messages.iter().map(|incoming| incoming.token.clone()).collect()
}

pub(crate) fn text(incoming: &IncomingMessage) -> String {
    String::from_utf8_lossy(&incoming.message.payload).into_owned()
}

/// Waits until something holds.
pub(crate) async fn eventually(expected: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "expected: {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}
