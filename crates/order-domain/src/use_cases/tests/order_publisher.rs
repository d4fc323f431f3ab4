//! Publishing orders, on a bus that is slow, away, or loses its answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::testing::memory::MemoryBus;
use crate::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, sample_order, sample_order_version};
use crate::{
    Backlog, BusError, BusState, IdempotencyKey, IncomingMessage, Order, OrderBus, OrderPublisher,
    OutgoingMessage, PublishAck, PublishError, PublishSettings, Published, Subscription, TakeLimits,
    TraceParent, parse,
};

/// What a bus does with a message.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Never answers, and has not stored it.
    Nothing,
    /// Stores it, and never answers.
    StoreOnly,
    /// Says that it is not to be had now.
    Fail,
    /// Refuses it for good.
    Refuse,
}

/// A [`MemoryBus`] that first does what it is told, once each.
#[derive(Default)]
struct MoodyBus {
    inner: MemoryBus,
    moods: Mutex<VecDeque<Does>>,
}

#[async_trait]
impl OrderBus for MoodyBus {
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        let mood = self.moods.lock().expect("no test panics here").pop_front();
        match mood {
            None => self.inner.publish(message).await,
            Some(Does::Nothing) => std::future::pending().await,
            Some(Does::StoreOnly) => {
                self.inner.publish(message).await?;
                std::future::pending().await
            }
            Some(Does::Fail) => Err(BusError::Unavailable("scripted".into())),
            Some(Does::Refuse) => Err(BusError::Refused("scripted".into())),
        }
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        self.inner.subscribe().await
    }

    fn state(&self) -> BusState {
        self.inner.state()
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        self.inner.backlog().await
    }
}

struct Fixture {
    bus: Arc<MoodyBus>,
    publisher: OrderPublisher,
}

impl Fixture {
    fn new(moods: &[Does]) -> Self {
        let bus = Arc::new(MoodyBus {
            moods: Mutex::new(moods.iter().copied().collect()),
            ..MoodyBus::default()
        });
        let publisher =
            OrderPublisher::new(Arc::clone(&bus) as Arc<dyn OrderBus>, PublishSettings::default());
        Fixture { bus, publisher }
    }

    async fn publish(&self, order: &Order) -> Result<Published, PublishError> {
        self.publisher.publish(order.json(), None, None).await
    }

    async fn publish_under(&self, key: &str, message: &[u8]) -> Result<Published, PublishError> {
        let key = IdempotencyKey::new(key).expect("a test gives a good key");
        self.publisher.publish(message, Some(&key), None).await
    }

    /// What the bus has stored.
    async fn stored(&self) -> Vec<IncomingMessage> {
        if self.bus.inner.waiting() == 0 {
            return Vec::new();
        }
        let unlimited = TakeLimits {
            messages: usize::MAX,
            bytes: usize::MAX,
        };
        let mut subscription = self.bus.subscribe().await.expect("in reach");
        subscription.take(unlimited).await.expect("in reach")
    }
}

fn published(uid: &str, sequence: u64, replayed: bool) -> Result<Published, PublishError> {
    Ok(Published {
        order_uid: sample_order(uid).order_uid.clone(),
        sequence,
        replayed,
    })
}

#[tokio::test]
async fn either_spelling_is_published_as_canonical_json() {
    let fixture = Fixture::new(&[]);
    for message in [CANONICAL_ORDER, CAMEL_CASE_ORDER] {
        let answer = fixture.publisher.publish(message, None, None).await;
        let expected = parse(message).expect("a sample is an order").order;
        assert_eq!(answer.expect("stored").order_uid, expected.order_uid);
        let stored = fixture.stored().await;
        assert_eq!((stored.len(), &stored[0].message.payload), (1, expected.json()));
    }
}

#[tokio::test]
async fn what_is_no_order_is_not_published() {
    let fixture = Fixture::new(&[]);
    for (message, not_json) in [("{", true), ("{}", false)] {
        let answer = fixture.publisher.publish(message.as_bytes(), None, None).await;
        assert!(
            matches!(&answer, Err(PublishError::Invalid(faults)) if faults.not_json == not_json),
            "{answer:?}"
        );
    }
    assert_eq!(fixture.stored().await.len(), 0);
}

#[tokio::test]
async fn without_a_key_each_call_is_a_message_of_its_own() {
    let fixture = Fixture::new(&[]);
    for sequence in 1..=3 {
        assert_eq!(
            fixture.publish(&sample_order("a")).await,
            published("a", sequence, false)
        );
    }
}

#[tokio::test]
async fn under_a_key_an_order_is_stored_once_and_another_order_is_another_message() {
    let fixture = Fixture::new(&[]);
    let (first, second) = (sample_order_version("a", 0), sample_order_version("a", 1));
    assert_eq!(
        fixture.publish_under("k", first.json()).await,
        published("a", 1, false)
    );
    assert_eq!(
        fixture.publish_under("k", first.json()).await,
        published("a", 1, true)
    );
    assert_eq!(
        fixture.publish_under("k", second.json()).await,
        published("a", 2, false)
    );
    assert_eq!(
        fixture.publish_under("other", first.json()).await,
        published("a", 3, false)
    );
    // The same order, spelled with a space and in another order of its fields.
    let spelled = String::from_utf8(first.json().to_vec()).expect("JSON is text");
    let spelled = spelled.replacen(r#"{"order_uid":"a","#, r#"{ "#, 1);
    let spelled = format!(
        r#"{},"orderUid":"a"}}"#,
        spelled.strip_suffix('}').expect("an object")
    );
    assert_eq!(
        fixture.publish_under("k", spelled.as_bytes()).await,
        published("a", 1, true)
    );
}

#[tokio::test]
async fn the_place_in_the_trace_travels_along() {
    let fixture = Fixture::new(&[]);
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = TraceParent::new(text);
    let answer = fixture.publisher.publish(CANONICAL_ORDER, None, trace.as_ref());
    answer.await.expect("stored");
    let stored = fixture.stored().await;
    assert_eq!(
        stored[0].message.headers,
        [("traceparent".to_owned(), text.to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_is_sent_again_under_the_same_id() {
    for mood in [Does::Nothing, Does::StoreOnly, Does::Fail] {
        let fixture = Fixture::new(&[mood]);
        // Without a key nobody asked before, whatever the bus says of the second attempt.
        assert_eq!(
            fixture.publish(&sample_order("a")).await,
            published("a", 1, false),
            "{mood:?}"
        );
        assert_eq!(fixture.stored().await.len(), 1, "{mood:?}");
    }
    let fixture = Fixture::new(&[Does::StoreOnly]);
    let order = sample_order("a");
    assert_eq!(
        fixture.publish_under("k", order.json()).await,
        published("a", 1, true)
    );
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_never_answers_is_given_up_at_the_deadline() {
    let deadline = PublishSettings::default().deadline;
    for mood in [Does::Nothing, Does::StoreOnly, Does::Fail] {
        let fixture = Fixture::new(&[mood; 100]);
        let began = Instant::now();
        let answer = fixture.publish(&sample_order("a")).await;
        assert_eq!(answer, Err(PublishError::Unacknowledged), "{mood:?}");
        // An attempt is not begun that the deadline would cut off at once.
        let took = began.elapsed();
        assert!(
            took <= deadline && took >= deadline - Duration::from_secs(1),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_known_to_be_away_is_not_waited_for() {
    let fixture = Fixture::new(&[]);
    fixture.bus.inner.set_reachable(false);
    let began = Instant::now();
    let answer = fixture.publish(&sample_order("a")).await;
    assert_eq!(answer, Err(PublishError::Unavailable));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_lost_meanwhile_is_waited_for() {
    let fixture = Fixture::new(&[Does::StoreOnly]);
    let lose = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fixture.bus.inner.set_reachable(false);
        tokio::time::sleep(Duration::from_secs(2)).await;
        fixture.bus.inner.set_reachable(true);
    };
    let order = sample_order("a");
    let (answer, ()) = tokio::join!(fixture.publish_under("k", order.json()), lose);
    assert_eq!(
        answer,
        published("a", 1, true),
        "it might have been stored, and was"
    );
}

#[tokio::test]
async fn what_the_bus_refuses_is_not_sent_again() {
    let fixture = Fixture::new(&[Does::Refuse]);
    assert_eq!(
        fixture.publish(&sample_order("a")).await,
        Err(PublishError::Other)
    );
    assert_eq!(fixture.stored().await.len(), 0);
}
