//! Servers that are late, die, freeze and come back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use order_domain::{BusError, BusState, OrderBus, TakeLimits};
use order_nats::NatsOrderBus;
use tokio::time::{Instant, sleep, timeout};

use crate::server::Server;
use crate::support::{PATIENCE, TestBus, eventually, message, settings_for, take, text, tokens};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_later_is_found() {
    let mut server = Server::prepared("late");
    let mut settings = settings_for(&server.url());
    settings.request_timeout = Duration::from_millis(200);
    let bus = NatsOrderBus::connect(settings).await.unwrap();
    assert_eq!(bus.state(), BusState::Disconnected);
    let started = Instant::now();
    let refused = bus.publish(message("a", "x")).await;
    assert!(matches!(refused, Err(BusError::Unavailable(_))), "{refused:?}");
    assert!(matches!(
        bus.subscribe().await.err(),
        Some(BusError::Unavailable(_))
    ));
    assert!(started.elapsed() < PATIENCE);

    server.start().await;
    eventually("in reach", async || bus.state() == BusState::Connected).await;
    eventually("a subscription", async || bus.subscribe().await.is_ok()).await;
    bus.publish(message("a", "x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_unacknowledged_is_lost_when_the_broker_is_killed() {
    const COUNT: u32 = 2_000;
    let mut server = Server::started("killed").await;
    let mut settings = settings_for(&server.url());
    settings.ack_wait = Duration::from_secs(3);
    settings.pull_messages = 100;
    let it = TestBus::new(settings).await;
    let mut subscription = it.subscribe().await;
    it.publish_numbers(0..COUNT).await;

    let mut came: BTreeMap<String, u32> = BTreeMap::new();
    let limits = TakeLimits {
        messages: 50,
        bytes: usize::MAX,
    };
    let mut killed = 0;
    while came.len() < COUNT as usize {
        // Three times: in the middle of taking, with messages taken, fetched and under way.
        if killed < 3 && came.len() > 500 * killed as usize + 200 {
            killed += 1;
            server.kill();
            server.start().await;
        }
        match timeout(PATIENCE, subscription.take(limits))
            .await
            .expect("an answer")
        {
            Ok(taken) => {
                for incoming in &taken {
                    *came.entry(text(incoming)).or_default() += 1;
                }
                subscription
                    .acknowledge(&tokens(&taken), Duration::from_millis(500))
                    .await;
            }
            Err(error) => {
                assert!(matches!(error, BusError::Unavailable(_)), "{error}");
                subscription = it.subscribe_again().await;
            }
        }
    }
    assert_eq!(killed, 3);
    assert_eq!(came.len(), COUNT as usize);
    it.delete_stream().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_three_replicas_goes_on_after_a_restart() {
    let mut server = Server::started("restarted").await;
    let mut settings = settings_for(&server.url());
    settings.ack_wait = Duration::from_secs(60);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let it = TestBus::new(settings.clone()).await;
        let subscription = it.subscribe().await;
        replicas.push((it, subscription));
    }
    replicas[0].0.publish_numbers(0..30).await;
    for (_, subscription) in &mut replicas {
        let taken = timeout(
            Duration::from_millis(500),
            subscription.take(TakeLimits {
                messages: 100,
                bytes: 1 << 20,
            }),
        )
        .await;
        if let Ok(Ok(taken)) = taken {
            subscription.acknowledge(&tokens(&taken), PATIENCE).await;
        }
    }
    server.kill();
    server.start().await;

    // Every replica hears of the new connection by itself, before any message comes.
    for (it, subscription) in &mut replicas {
        let ended = timeout(PATIENCE, async {
            while subscription
                .take(TakeLimits {
                    messages: 1,
                    bytes: 1,
                })
                .await
                .is_ok()
            {}
        });
        ended.await.expect("the subscription ends with its connection");
        *subscription = it.subscribe_again().await;
    }
    // And each takes its part again, whoever was there first.
    let (publisher, _) = &replicas[0];
    let publisher = publisher.bus.clone();
    let publishing = async {
        for number in 100.. {
            // Slow enough that what is fetched ahead cannot starve a replica.
            sleep(Duration::from_millis(5)).await;
            publisher.publish(message(number, "x")).await.expect("stored");
        }
    };
    let served = async {
        let takes = replicas
            .iter_mut()
            .map(|(_, subscription)| take(&mut **subscription));
        futures::future::join_all(takes).await
    };
    tokio::select! {
        served = served => assert!(served.iter().all(|taken| !taken.is_empty())),
        () = publishing => unreachable!("publishing has no end"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed_and_found_again() {
    let server = Server::started("frozen").await;
    let mut settings = settings_for(&server.url());
    // A third of the default, so that it is noticed within about 3 seconds instead of 9.
    settings.ping_interval = Duration::from_secs(1);
    settings.ack_wait = Duration::from_secs(2);
    settings.publish_timeout = Duration::from_secs(1);
    settings.connect_timeout = Duration::from_secs(1);
    let it = TestBus::new(settings).await;
    let mut subscription = it.subscribe().await;
    it.publish("before", "before").await;
    let taken = take(&mut *subscription).await;

    server.freeze().await;
    // The time-outs hold although the connection still looks whole.
    let unanswered = it.bus.publish(message("during", "during")).await;
    assert!(
        matches!(unanswered, Err(BusError::Unavailable(_))),
        "{unanswered:?}"
    );
    let told = timeout(
        PATIENCE,
        subscription.acknowledge(&tokens(&taken), Duration::from_secs(1)),
    )
    .await;
    assert!(told.is_ok(), "acknowledge must not wait for ever");
    eventually("out of reach", async || it.bus.state() == BusState::Disconnected).await;
    // Still no waiting, though nothing can be flushed now.
    let told = timeout(
        PATIENCE,
        subscription.acknowledge(&tokens(&taken), Duration::from_millis(200)),
    )
    .await;
    assert!(told.is_ok(), "acknowledge must not wait for ever");
    server.thaw();

    it.in_reach().await;
    // One that nobody takes from would still fetch its part.
    drop(subscription);
    it.publish("during", "during").await;
    let mut subscription = it.subscribe_again().await;
    let mut came = BTreeSet::new();
    while !came.contains("during") {
        came.extend(take(&mut *subscription).await.iter().map(text));
    }
}
