//! What every [`OrderBus`] and its [`Subscription`]s must do, one function a rule.
//!
//! Acknowledgements, progress and release are hints, which a bus may lose when it fails. Here nothing fails, so they must
//! have their effect.

use std::collections::BTreeSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    AckToken, Backlog, BusState, IncomingMessage, OrderBus, OutgoingMessage, PublishAck, Revision,
    Subscription, TakeLimits,
};

/// Makes the bus that one rule is tested on.
#[async_trait]
pub trait BusFixture: Sized + Send + Sync {
    /// Opens an empty bus that nobody else uses, on which a message that is not answered comes again after `ack_wait`.
    async fn open(ack_wait: Duration) -> Self;

    /// The bus.
    fn bus(&self) -> &dyn OrderBus;

    /// Removes what `open` made, also after the rule has failed.
    async fn close(self);
}

/// Tests that an [`OrderBus`] keeps its contract, one `#[tokio::test]` a rule.
///
/// Takes a type that is a [`BusFixture`]: `order_bus_contract!(MyFixture)`. The crate needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! order_bus_contract {
    ($fixture:ty) => {
        $crate::order_bus_contract! { @rules $fixture;
            a_message_is_delivered_as_it_was_published
            an_id_used_again_is_not_stored_again
            revisions_grow_in_the_order_of_publishing
            a_bus_in_reach_says_so
            thousands_of_publishes_at_once_are_all_answered
            what_was_published_before_anyone_subscribed_is_delivered
            subscriptions_opened_at_once_all_succeed
            subscriptions_share_the_messages
            what_is_not_acknowledged_is_delivered_again_without_end
            what_is_acknowledged_is_not_delivered_again
            take_waits_for_a_message_and_for_no_more
            take_keeps_its_limits
            what_a_dropped_take_saw_is_not_lost
            progress_begins_the_time_anew
            what_is_released_is_delivered_to_others_at_once
            the_backlog_tells_how_much_waits_and_since_when
        }
    };
    (@rules $fixture:ty; $($rule:ident)+) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                use $crate::testing::contract::bus;
                bus::check::<$fixture>(bus::ack_wait_for(stringify!($rule)), |it| ::std::boxed::Box::pin(bus::$rule(it)))
                    .await;
            }
        )+
    };
}

/// How long a rule lets a message go unanswered: short where it waits for a redelivery, and otherwise so long that a redelivery can only
/// be a fault.
pub fn ack_wait_for(rule: &str) -> Duration {
    match rule {
        "what_is_not_acknowledged_is_delivered_again_without_end" => Duration::from_millis(500),
        "what_is_acknowledged_is_not_delivered_again" => Duration::from_millis(500),
        "progress_begins_the_time_anew" => Duration::from_secs(2),
        _ => Duration::from_secs(60),
    }
}

/// Runs a rule on a bus of its own, which is removed even if the rule fails.
pub async fn check<F: BusFixture>(
    ack_wait: Duration,
    rule: impl for<'a> FnOnce(&'a dyn OrderBus) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
) {
    let fixture = F::open(ack_wait).await;
    let outcome = AssertUnwindSafe(rule(fixture.bus())).catch_unwind().await;
    fixture.close().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Longer than any bus needs; what takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(20);
const UNLIMITED: TakeLimits = TakeLimits {
    messages: usize::MAX,
    bytes: usize::MAX,
};

fn message(id: impl ToString, payload: impl Into<Bytes>) -> OutgoingMessage {
    OutgoingMessage {
        id: id.to_string(),
        headers: Vec::new(),
        payload: payload.into(),
    }
}

async fn publish(bus: &dyn OrderBus, message: OutgoingMessage) -> PublishAck {
    timeout(PATIENCE, bus.publish(message))
        .await
        .expect("an answer")
        .expect("stored")
}

/// Publishes messages whose ids and payloads are these numbers.
async fn publish_numbers(bus: &dyn OrderBus, numbers: std::ops::Range<u32>) {
    for number in numbers {
        publish(bus, message(number, number.to_string())).await;
    }
}

async fn subscribe(bus: &dyn OrderBus) -> Box<dyn Subscription> {
    timeout(PATIENCE, bus.subscribe())
        .await
        .expect("an answer")
        .expect("a subscription")
}

async fn take(subscription: &mut dyn Subscription, limits: TakeLimits) -> Vec<IncomingMessage> {
    let taken = timeout(PATIENCE, subscription.take(limits))
        .await
        .expect("a message")
        .expect("open");
    assert!(!taken.is_empty(), "take answered nothing");
    taken
}

/// Takes until this many messages have come.
async fn take_all(subscription: &mut dyn Subscription, count: usize) -> Vec<IncomingMessage> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(take(subscription, UNLIMITED).await);
    }
    assert_eq!(all.len(), count, "more messages than were published");
    all
}

/// Fails if a message comes within `period`.
async fn nothing_comes(subscription: &mut dyn Subscription, period: Duration) {
    if let Ok(taken) = timeout(period, subscription.take(UNLIMITED)).await {
        panic!(
            "{:?} came",
            taken.expect("open").iter().map(text).collect::<Vec<_>>()
        );
    }
}

fn text(incoming: &IncomingMessage) -> String {
    String::from_utf8_lossy(&incoming.message.payload).into_owned()
}

fn tokens(messages: &[IncomingMessage]) -> Vec<AckToken> {
    messages.iter().map(|incoming| incoming.token.clone()).collect()
}

/// Subject, headers and body come as they were published: any bytes, none, and a header that stands twice.
pub async fn a_message_is_delivered_as_it_was_published(bus: &dyn OrderBus) {
    let headers = [
        ("traceparent", "00-1-2-01"),
        ("Twice", "one"),
        ("Twice", "two"),
        ("Empty", ""),
    ];
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let bodies = [
        Bytes::from_static(b"\0\xff not text\r\n"),
        Bytes::new(),
        Bytes::from(vec![b'x'; 100_000]),
    ];
    for (number, payload) in bodies.iter().enumerate() {
        let id = number.to_string();
        publish(
            bus,
            OutgoingMessage {
                id,
                headers: headers.clone(),
                payload: payload.clone(),
            },
        )
        .await;
    }
    publish(bus, message("bare", "no headers")).await;

    let taken = take_all(&mut *subscribe(bus).await, 4).await;
    let delivered: Vec<&Bytes> = taken.iter().map(|incoming| &incoming.message.payload).collect();
    assert_eq!(delivered[..3], bodies.iter().collect::<Vec<_>>());
    for incoming in &taken[..3] {
        for (name, _) in &headers {
            let values = |headers: &[(String, String)]| -> Vec<String> {
                headers
                    .iter()
                    .filter(|(it, _)| it == name)
                    .map(|(_, value)| value.clone())
                    .collect()
            };
            assert_eq!(values(&incoming.message.headers), values(&headers), "{name}");
        }
    }
    assert!(
        taken
            .iter()
            .all(|incoming| incoming.message.subject == taken[0].message.subject)
    );
    assert!(taken.iter().all(|incoming| !incoming.redelivered));
}

/// An id used again is answered with the first message's sequence, and nothing more is stored.
pub async fn an_id_used_again_is_not_stored_again(bus: &dyn OrderBus) {
    let first = publish(bus, message("a", "first")).await;
    assert!(!first.duplicate);
    let again = publish(bus, message("a", "again")).await;
    assert_eq!(
        again,
        PublishAck {
            sequence: first.sequence,
            duplicate: true
        }
    );
    let other = publish(bus, message("b", "other")).await;
    assert!(!other.duplicate && other.sequence > first.sequence);

    let taken = take_all(&mut *subscribe(bus).await, 2).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["first", "other"]);
}

/// Messages published one after another have growing revisions, with the sequences that their publisher was told.
pub async fn revisions_grow_in_the_order_of_publishing(bus: &dyn OrderBus) {
    let mut sequences = Vec::new();
    for number in 0..20 {
        sequences.push(publish(bus, message(number, "")).await.sequence);
    }
    let taken = take_all(&mut *subscribe(bus).await, 20).await;
    let revisions: Vec<Revision> = taken.iter().map(|incoming| incoming.revision).collect();
    assert_eq!(
        revisions
            .iter()
            .map(|revision| revision.sequence)
            .collect::<Vec<_>>(),
        sequences
    );
    assert!(
        revisions.is_sorted_by(|earlier, later| earlier < later),
        "{revisions:?}"
    );
}

/// A bus that has just stored a message is in reach.
pub async fn a_bus_in_reach_says_so(bus: &dyn OrderBus) {
    publish(bus, message("a", "")).await;
    assert_eq!(bus.state(), BusState::Connected);
}

/// However many publish at once, each is answered.
pub async fn thousands_of_publishes_at_once_are_all_answered(bus: &dyn OrderBus) {
    const COUNT: u32 = 10_000;
    let publishes = (0..COUNT).map(|number| bus.publish(message(number, "x")));
    let answers = timeout(PATIENCE * 3, futures::future::join_all(publishes))
        .await
        .expect("an end");
    let sequences: BTreeSet<u64> = answers
        .into_iter()
        .map(|answer| answer.expect("stored").sequence)
        .collect();
    assert_eq!(sequences.len(), COUNT as usize);
}

/// Messages wait for the first subscription there ever is.
pub async fn what_was_published_before_anyone_subscribed_is_delivered(bus: &dyn OrderBus) {
    publish_numbers(bus, 0..3).await;
    let taken = take_all(&mut *subscribe(bus).await, 3).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"]);
}

/// Replicas that start at once do not fail because of each other.
pub async fn subscriptions_opened_at_once_all_succeed(bus: &dyn OrderBus) {
    let opened = timeout(
        PATIENCE,
        futures::future::join_all((0..8).map(|_| bus.subscribe())),
    )
    .await;
    for subscription in opened.expect("an answer") {
        if let Err(error) = subscription {
            panic!("{error}");
        }
    }
}

/// Each message goes to one of the subscriptions.
pub async fn subscriptions_share_the_messages(bus: &dyn OrderBus) {
    let (mut one, mut other) = (subscribe(bus).await, subscribe(bus).await);
    publish_numbers(bus, 0..200).await;
    let mut all = Vec::new();
    while all.len() < 200 {
        let taken = tokio::select! {
            taken = one.take(UNLIMITED) => taken,
            taken = other.take(UNLIMITED) => taken,
            () = sleep(PATIENCE) => panic!("{} of 200 came", all.len()),
        };
        all.extend(taken.expect("open").iter().map(text));
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(all.len(), 200, "some came twice");
}

/// A message nobody answers comes again and again, to this subscription or another, always under the same revision.
pub async fn what_is_not_acknowledged_is_delivered_again_without_end(bus: &dyn OrderBus) {
    publish_numbers(bus, 0..1).await;
    let mut subscription = subscribe(bus).await;
    let first = take_all(&mut *subscription, 1).await.remove(0);
    for round in 0..6 {
        if round % 2 == 1 {
            subscription = subscribe(bus).await;
        }
        let again = take(&mut *subscription, UNLIMITED).await.remove(0);
        assert_eq!(
            (again.revision, &again.message),
            (first.revision, &first.message),
            "round {round}"
        );
        assert!(again.redelivered);
    }
}

/// An acknowledged message does not come again, here or elsewhere; its unacknowledged neighbour does.
pub async fn what_is_acknowledged_is_not_delivered_again(bus: &dyn OrderBus) {
    publish_numbers(bus, 0..3).await;
    let mut subscription = subscribe(bus).await;
    let taken = take_all(&mut *subscription, 3).await;
    subscription
        .acknowledge(&tokens(&[taken[0].clone(), taken[2].clone()]), PATIENCE)
        .await;
    drop(subscription);

    let mut other = subscribe(bus).await;
    let again = take(&mut *other, UNLIMITED).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["1"]);
    other.acknowledge(&tokens(&again), PATIENCE).await;
    nothing_comes(&mut *other, Duration::from_millis(1_500)).await;
}

/// `take` waits while there is nothing, and answers with the first message that comes, not with a full batch.
pub async fn take_waits_for_a_message_and_for_no_more(bus: &dyn OrderBus) {
    let mut subscription = subscribe(bus).await;
    nothing_comes(&mut *subscription, Duration::from_millis(300)).await;
    for number in 0..3 {
        let publishing = async {
            sleep(Duration::from_millis(50)).await;
            publish_numbers(bus, number..number + 1).await;
        };
        let (taken, ()) = tokio::join!(take(&mut *subscription, UNLIMITED), publishing);
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), [number.to_string()]);
    }
}

/// `take` answers at most as many messages as asked for, and none beyond the one that reaches the bytes.
pub async fn take_keeps_its_limits(bus: &dyn OrderBus) {
    for number in 0..20 {
        publish(bus, message(number, vec![b'x'; 600])).await;
    }
    let mut subscription = subscribe(bus).await;
    let mut left = 20;
    for limits in [
        TakeLimits {
            messages: 1,
            bytes: usize::MAX,
        },
        TakeLimits {
            messages: 4,
            bytes: usize::MAX,
        },
        // Two make 1,200 bytes.
        TakeLimits {
            messages: usize::MAX,
            bytes: 1_000,
        },
        TakeLimits {
            messages: usize::MAX,
            bytes: 600,
        },
        // Even one is more than this, and must come all the same, or it would never.
        TakeLimits {
            messages: usize::MAX,
            bytes: 1,
        },
    ] {
        // Time for more to arrive than may be taken.
        sleep(Duration::from_millis(100)).await;
        let taken = take(&mut *subscription, limits).await;
        let most = limits.messages.min(limits.bytes.div_ceil(600));
        assert!(taken.len() <= most, "{limits:?} gave {} messages", taken.len());
        left -= taken.len();
    }
    take_all(&mut *subscription, left).await;
}

/// A `take` that is dropped at any moment takes nothing with it: all messages come for the first time, in their order.
pub async fn what_a_dropped_take_saw_is_not_lost(bus: &dyn OrderBus) {
    const COUNT: u32 = 500;
    let mut subscription = subscribe(bus).await;
    let taking = async {
        let mut all = Vec::new();
        let started = Instant::now();
        let mut patience = 0;
        while all.len() < COUNT as usize {
            assert!(started.elapsed() < PATIENCE, "{} of {COUNT} came", all.len());
            patience = (patience + 1) % 7;
            // Dropped after no poll but the first, and after more and more of them.
            if let Ok(taken) = timeout(
                Duration::from_micros(patience * 150),
                subscription.take(UNLIMITED),
            )
            .await
            {
                all.extend(taken.expect("open"));
            }
        }
        all
    };
    let (all, ()) = tokio::join!(taking, publish_numbers(bus, 0..COUNT));
    assert!(all.iter().all(|incoming| !incoming.redelivered));
    assert_eq!(
        all.iter().map(text).collect::<Vec<_>>(),
        (0..COUNT).map(|it| it.to_string()).collect::<Vec<_>>()
    );
}

/// While its progress is told, a message does not come again; when that ends, it does.
pub async fn progress_begins_the_time_anew(bus: &dyn OrderBus) {
    publish_numbers(bus, 0..2).await;
    let mut holder = subscribe(bus).await;
    let mut taken = take_all(&mut *holder, 2).await;
    let mut other = subscribe(bus).await;
    for _ in 0..10 {
        holder.progress(&tokens(&taken)).await;
        nothing_comes(&mut *other, Duration::from_millis(400)).await;
    }
    drop(holder);
    let again = take_all(&mut *other, 2).await;
    taken.sort_by_key(|incoming| incoming.revision);
    assert_eq!(
        again
            .iter()
            .map(|incoming| incoming.revision)
            .collect::<BTreeSet<_>>(),
        taken
            .iter()
            .map(|incoming| incoming.revision)
            .collect::<BTreeSet<_>>()
    );
}

/// What is handed back, and what was fetched but not taken, comes to others long before its time is up. What was acknowledged does
/// not.
pub async fn what_is_released_is_delivered_to_others_at_once(bus: &dyn OrderBus) {
    publish_numbers(bus, 0..50).await;
    let mut leaving = subscribe(bus).await;
    let taken = take(
        &mut *leaving,
        TakeLimits {
            messages: 4,
            bytes: usize::MAX,
        },
    )
    .await;
    // Time for the others to be fetched.
    sleep(Duration::from_millis(200)).await;
    leaving.acknowledge(&tokens(&taken[..1]), PATIENCE).await;
    leaving.release(&tokens(&taken[1..]), PATIENCE).await;

    let mut other = subscribe(bus).await;
    let came: BTreeSet<String> = take_all(&mut *other, 49).await.iter().map(text).collect();
    assert_eq!(came, (1..50).map(|number| number.to_string()).collect());
}

/// The backlog counts a message from when it is published until it is acknowledged, and tells since when the oldest waits.
pub async fn the_backlog_tells_how_much_waits_and_since_when(bus: &dyn OrderBus) {
    let mut subscription = subscribe(bus).await;
    assert_eq!(backlog_of(bus, 0).await.oldest, None);
    publish_numbers(bus, 0..3).await;
    let waiting = backlog_of(bus, 3).await;
    let taken = take_all(&mut *subscription, 3).await;
    let oldest = |backlog: Backlog| backlog.oldest.map(|it| it.as_microsecond());
    assert_eq!(oldest(waiting), Some(taken[0].revision.published_at));

    subscription.acknowledge(&tokens(&taken[..1]), PATIENCE).await;
    let one_is_done = backlog_of(bus, 2).await;
    assert_eq!((one_is_done.undelivered, one_is_done.unacknowledged), (0, 2));
    assert_eq!(oldest(one_is_done), Some(taken[1].revision.published_at));

    subscription.acknowledge(&tokens(&taken[1..]), PATIENCE).await;
    assert_eq!(backlog_of(bus, 0).await.oldest, None);
}

/// The backlog, once it counts as many messages: acknowledgements take their time.
async fn backlog_of(bus: &dyn OrderBus, messages: u64) -> Backlog {
    let started = Instant::now();
    loop {
        let backlog = timeout(PATIENCE, bus.backlog()).await.expect("an answer");
        let backlog = backlog.expect("in reach");
        if backlog.undelivered + backlog.unacknowledged == messages {
            return backlog;
        }
        assert!(started.elapsed() < PATIENCE, "{backlog:?} instead of {messages}");
        sleep(Duration::from_millis(20)).await;
    }
}
