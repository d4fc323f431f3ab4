//! What the stream holds, delivered once more beside the service.

use std::collections::BTreeSet;

use order_domain::testing::contract::bus::BusFixture;
use order_domain::{BusError, OrderBus, TakeLimits};
use order_nats::{NatsReplay, ReplayFrom};

use crate::support::{PATIENCE, TestBus, UNLIMITED, eventually, message, settings, take, text, tokens};

/// Takes and acknowledges until the replay is through, and answers what came.
async fn all_of(replay: &NatsReplay) -> BTreeSet<u32> {
    let mut subscription = replay.subscribe().await.unwrap();
    let mut came = BTreeSet::new();
    while !replay.progress().await.unwrap().done {
        let Ok(taken) = tokio::time::timeout(PATIENCE / 100, subscription.take(UNLIMITED)).await else {
            continue;
        };
        let taken = taken.unwrap();
        came.extend(
            taken
                .iter()
                .map(|incoming| text(incoming).parse::<u32>().unwrap()),
        );
        subscription.acknowledge(&tokens(&taken), PATIENCE).await;
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_from_a_sequence_or_a_time_on_comes_once_more_under_its_revision() {
    let it = TestBus::open(settings().ack_wait).await;
    it.publish_numbers(0..50).await;
    let mut subscription = it.subscribe().await;
    let mut revisions = Vec::new();
    while revisions.len() < 50 {
        let taken = take(subscription.as_mut()).await;
        revisions.extend(taken.iter().map(|incoming| (text(incoming), incoming.revision)));
        subscription.acknowledge(&tokens(&taken), PATIENCE).await;
    }
    let numbers_from = |first: usize| -> BTreeSet<u32> {
        revisions[first..]
            .iter()
            .map(|(number, _)| number.parse().unwrap())
            .collect()
    };

    let time = jiff::Timestamp::from_microsecond(revisions[30].1.published_at).unwrap();
    // Messages may share a microsecond; the first of them is where this time begins.
    let first_of_time = revisions
        .iter()
        .position(|(_, revision)| revision.published_at >= revisions[30].1.published_at)
        .unwrap();
    for (from, first) in [
        (ReplayFrom::Sequence(0), 0),
        (ReplayFrom::Sequence(21), 20),
        (ReplayFrom::Time(time), first_of_time),
    ] {
        let replay = NatsReplay::of(&it.bus, from).await.unwrap();
        assert_eq!(all_of(&replay).await, numbers_from(first), "{from:?}");
        replay.end().await.unwrap();
    }

    let replay = NatsReplay::of(&it.bus, ReplayFrom::Sequence(1)).await.unwrap();
    let mut again = replay.subscribe().await.unwrap();
    let first = TakeLimits {
        messages: 1,
        bytes: usize::MAX,
    };
    let taken = again.take(first).await.unwrap();
    assert_eq!((text(&taken[0]), taken[0].revision), revisions[0]);
    again.release(&[], PATIENCE).await;
    replay.end().await.unwrap();
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_own_consumer_is_not_touched() {
    let it = TestBus::open(settings().ack_wait).await;
    it.publish_numbers(0..20).await;
    let mut subscription = it.subscribe().await;
    let limits = TakeLimits {
        messages: 5,
        bytes: usize::MAX,
    };
    let taken = subscription.take(limits).await.unwrap();
    subscription.acknowledge(&tokens(&taken), PATIENCE).await;
    subscription.release(&[], PATIENCE).await;
    let left = 20 - taken.len() as u64;
    let waiting = async || {
        let backlog = it.bus.backlog().await.unwrap();
        backlog.undelivered + backlog.unacknowledged
    };
    eventually("the acknowledgements are known", async || waiting().await == left).await;

    let replay = NatsReplay::of(&it.bus, ReplayFrom::Sequence(1)).await.unwrap();
    assert_eq!(all_of(&replay).await.len(), 20);
    assert_eq!(waiting().await, left);
    replay.end().await.unwrap();
    let mut stream = it
        .jetstream
        .get_stream(it.settings.stream.as_str())
        .await
        .unwrap();
    assert_eq!(stream.info().await.unwrap().state.consumer_count, 1);
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_through_when_all_is_that_was_there_at_the_start() {
    let it = TestBus::open(settings().ack_wait).await;
    let nothing = NatsReplay::of(&it.bus, ReplayFrom::Sequence(1)).await.unwrap();
    assert_eq!(all_of(&nothing).await.len(), 0);
    nothing.end().await.unwrap();

    it.publish_numbers(0..10).await;
    let beyond = NatsReplay::of(&it.bus, ReplayFrom::Sequence(11)).await.unwrap();
    assert_eq!(all_of(&beyond).await.len(), 0);
    beyond.end().await.unwrap();

    // Publishing goes on meanwhile, and does not keep it from coming to its end.
    let replay = NatsReplay::of(&it.bus, ReplayFrom::Sequence(1)).await.unwrap();
    let mut subscription = replay.subscribe().await.unwrap();
    it.publish_numbers(10..12).await;
    let mut taken = Vec::new();
    while taken.len() < 12 {
        taken.extend(take(subscription.as_mut()).await);
    }
    let old: Vec<_> = taken
        .into_iter()
        .filter(|incoming| incoming.revision.sequence <= 10)
        .collect();
    assert!(!replay.progress().await.unwrap().done, "nothing is acknowledged");
    subscription.acknowledge(&tokens(&old), PATIENCE).await;
    eventually("it is through", async || replay.progress().await.unwrap().done).await;
    subscription.release(&[], PATIENCE).await;
    replay.end().await.unwrap();
    it.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_stream_there_is_nothing_to_replay() {
    let it = TestBus::new(settings()).await;
    let refused = NatsReplay::of(&it.bus, ReplayFrom::Sequence(1)).await;
    assert!(
        matches!(&refused, Err(BusError::Unsuitable(reason)) if reason.contains("there is no stream")),
        "{refused:?}"
    );
    let published = it.bus.publish(message("a", "x")).await;
    assert!(published.is_err(), "none was made: {published:?}");
}
