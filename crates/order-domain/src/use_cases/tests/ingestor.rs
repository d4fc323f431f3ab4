//! Taking orders in, whatever the repository and the bus do meanwhile.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::batch_store::lane_of;
use super::super::own_commits::OwnCommit;
use super::scripted::{Scripted, our_fault, unavailable};
use crate::testing::memory::{MemoryBus, MemoryCache};
use crate::testing::orders::{sample_order, sample_order_version};
use crate::{
    Batch, Coherence, CommitLog, DeadLetterQuery, DeadLetters, Health, IngestSettings, Ingestor, OrderBus,
    OrderRepository, OrderUid, OutgoingMessage, RepositoryError, RevisedOrder, Revision, Standing,
    StoredDeadLetter,
};

/// A running ingestor between an in-memory bus and a scripted repository.
struct Running {
    bus: MemoryBus,
    repository: Arc<Scripted>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    published: std::cell::Cell<u32>,
}

impl Running {
    /// With one lane, in which what is stored together can be told beforehand.
    fn start() -> Self {
        Running::in_lanes(1)
    }

    fn in_lanes(lanes: usize) -> Self {
        let bus = MemoryBus::default();
        let repository = Scripted::new();
        let health = Arc::new(Health::new(Arc::new(bus.clone())));
        health.database_reached();
        let coherence = Arc::new(Coherence::new(
            Arc::new(MemoryCache::default()),
            Duration::from_secs(2),
        ));
        let ingestor = Ingestor::new(
            Arc::new(bus.clone()),
            Arc::clone(&repository) as Arc<dyn OrderRepository>,
            Arc::clone(&coherence),
            Arc::clone(&health),
            IngestSettings {
                lanes: NonZeroUsize::new(lanes).expect("at least one"),
                ..IngestSettings::default()
            },
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(ingestor.run(stop.clone()));
        Running {
            bus,
            repository,
            coherence,
            health,
            stop,
            task,
            published: 0.into(),
        }
    }

    async fn publish(&self, payload: impl Into<Bytes>) {
        self.published.set(self.published.get() + 1);
        let id = self.published.get().to_string();
        let message = OutgoingMessage {
            id,
            headers: Vec::new(),
            payload: payload.into(),
        };
        self.bus.publish(message).await.expect("the bus is in reach");
    }

    async fn publish_orders(&self, uids: impl IntoIterator<Item = String>) {
        for uid in uids {
            self.publish(sample_order(&uid).json().clone()).await;
        }
    }

    /// Waits until so many messages are acknowledged; the clock is paused, so this takes no time.
    async fn acknowledged(&self, count: usize) {
        let all = async {
            while self.bus.acknowledged().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let told = timeout(Duration::from_secs(600), all).await;
        assert!(
            told.is_ok(),
            "{} of {count} acknowledged",
            self.bus.acknowledged().len()
        );
    }

    async fn has(&self, uid: &str) -> bool {
        let uid = OrderUid::new(uid).expect("a good uid");
        self.repository
            .inner
            .find(&uid)
            .await
            .expect("in memory")
            .is_some()
    }

    async fn dead_letters(&self) -> Vec<StoredDeadLetter> {
        let all = DeadLetterQuery {
            state: None,
            before: None,
            limit: 1_000,
        };
        self.repository.inner.list(&all).await.expect("in memory")
    }

    async fn stop(self) -> MemoryBus {
        self.stop.cancel();
        self.task.await.expect("the ingestor ends by itself");
        self.bus
    }
}

#[tokio::test(start_paused = true)]
async fn the_follower_is_told_what_changed_and_nothing_else() {
    let running = Running::start();
    running.repository.hold(true);
    let newer = RevisedOrder {
        revision: Revision::NEWEST,
        order: sample_order("overtaken"),
    };
    let stored = Batch::new(vec![newer], Vec::new());
    let previous = running
        .repository
        .inner
        .store(&stored)
        .await
        .expect("in memory")
        .logged;
    running
        .publish_orders(["overtaken", "a", "b"].map(str::to_owned))
        .await;
    // All three are taken, the first maybe in a batch of its own.
    sleep(Duration::from_secs(1)).await;
    running.repository.hold(false);
    running.acknowledged(3).await;

    let mut before = previous.expect("it is new").cursor;
    let mut told = Vec::new();
    while told.len() < 2 {
        let OwnCommit { logged, changes } = running.coherence.own_commits().next().await;
        assert_eq!(logged.previous, before);
        before = logged.cursor;
        told.extend(changes.into_iter().map(|change| change.uid.to_string()));
    }
    assert_eq!(told, ["a", "b"]);
    assert_eq!(running.repository.inner.head().await.expect("in memory"), before);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_stored() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["a".to_owned()]).await;
    sleep(Duration::from_secs(60)).await;
    assert!(running.bus.acknowledged().is_empty());

    running.repository.hold(false);
    running.acknowledged(1).await;
    assert!(running.has("a").await);
}

#[tokio::test(start_paused = true)]
async fn what_takes_long_is_not_delivered_again() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["a".to_owned()]).await;
    // While "a" commits, "b" waits in hand; both must be kept from coming again.
    sleep(Duration::from_secs(1)).await;
    running.publish_orders(["b".to_owned()]).await;
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((running.bus.waiting(), running.bus.in_flight()), (0, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_small_when_it_is_quiet_and_grow_with_the_backlog() {
    let running = Running::start();
    running.publish_orders(["first".to_owned()]).await;
    running.acknowledged(1).await;
    running.repository.hold(true);
    running.publish_orders(["second".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    running
        .publish_orders((0..300).map(|index| format!("more-{index}")))
        .await;
    sleep(Duration::from_secs(1)).await;
    running.repository.hold(false);
    running.acknowledged(302).await;
    assert_eq!(running.repository.batches(), [1, 1, 300]);
}

#[tokio::test(start_paused = true)]
async fn lanes_store_side_by_side_and_no_two_of_them_the_same_order() {
    let running = Running::in_lanes(3);
    running.repository.hold(true);
    for _version in 0..3 {
        running
            .publish_orders((0..400).map(|index| format!("order-{index}")))
            .await;
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.repository.under_way().len(), 3);
    for _ in 0..4 {
        let under_way = running.repository.under_way();
        let orders: HashSet<&OrderUid> = under_way.iter().flatten().collect();
        assert_eq!(orders.len(), under_way.iter().flatten().count());
        running.repository.let_one_through();
        sleep(Duration::from_secs(1)).await;
    }
    running.repository.hold(false);
    running.acknowledged(1_200).await;
}

#[tokio::test(start_paused = true)]
async fn lanes_share_a_transaction_when_it_is_quiet() {
    let running = Running::in_lanes(3);
    running.repository.hold(true);
    running.publish_orders(["first".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    running
        .publish_orders((0..40).map(|index| format!("order-{index}")))
        .await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.repository.under_way().len(), 1);
    running.repository.hold(false);
    running.acknowledged(41).await;
    assert_eq!(running.repository.batches(), [1, 40]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_lane_gives_way_to_a_busy_one_only_once() {
    let running = Running::in_lanes(2);
    running.repository.hold(true);
    let of_lane = |lane| {
        (0..)
            .map(|index| format!("order-{index}"))
            .filter(move |uid| lane_of(&OrderUid::new(uid).unwrap(), 2) == lane)
    };
    running.publish_orders(of_lane(0).take(1)).await;
    sleep(Duration::from_secs(1)).await;
    running.publish_orders(of_lane(1).take(1)).await;
    for (round, under_way) in [(1, vec![150]), (2, vec![1, 150])] {
        running
            .publish_orders(of_lane(0).skip(round * 150).take(150))
            .await;
        sleep(Duration::from_secs(1)).await;
        running.repository.let_one_through();
        sleep(Duration::from_secs(1)).await;
        let mut sizes: Vec<usize> = running.repository.under_way().iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, under_way);
    }
    running.repository.hold(false);
    running.acknowledged(302).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_no_order_becomes_a_dead_letter_and_stops_no_other() {
    let running = Running::start();
    running.publish_orders(["a".to_owned()]).await;
    let broken =
        String::from_utf8_lossy(sample_order("b").json()).replace("\"sm_id\":99", "\"sm_id\":\"99\"");
    running.publish(broken.clone()).await;
    running.publish(&b"{\"order_uid\":"[..]).await;
    running.publish_orders(["c".to_owned()]).await;
    running.acknowledged(4).await;

    assert!(running.has("a").await && running.has("c").await && !running.has("b").await);
    let letters = running.dead_letters().await;
    assert_eq!(letters.len(), 2);
    let letter = &letters
        .iter()
        .find(|it| it.letter.order_uid.is_some())
        .expect("its uid can be read")
        .letter;
    assert_eq!(letter.order_uid.as_ref().map(OrderUid::as_str), Some("b"));
    assert!(letter.reason.contains("/sm_id"), "{}", letter.reason);
    assert_eq!(letter.message.payload, broken.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn an_order_that_the_database_rejects_is_found_among_its_neighbours() {
    let running = Running::start();
    running.repository.hold(true);
    running.repository.reject("poison-1");
    running.repository.reject("poison-2");
    running.publish_orders(["first".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    running
        .publish_orders((0..99).map(|index| format!("good-{index}")))
        .await;
    running
        .publish_orders(["poison-1".to_owned(), "poison-2".to_owned()])
        .await;
    sleep(Duration::from_secs(1)).await;
    running.repository.hold(false);
    running.acknowledged(102).await;

    for index in 0..99 {
        assert!(running.has(&format!("good-{index}")).await, "{index}");
    }
    let letters = running.dead_letters().await;
    assert_eq!(letters.len(), 2);
    assert!(
        letters
            .iter()
            .all(|it| it.letter.reason.contains("scripted poison"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_successor_is_rejected_is_stored_after_all() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["first".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    // Three versions in one batch; the database rejects what has the amount of the last one.
    for version in 1..=3 {
        running
            .publish(sample_order_version("a", version).json().clone())
            .await;
    }
    sleep(Duration::from_secs(1)).await;
    let refused = sample_order_version("a", 3).payment.amount;
    running
        .repository
        .inner
        .reject_orders(move |order| order.payment.amount == refused);
    running.repository.hold(false);
    running.acknowledged(4).await;

    let stored = running
        .repository
        .inner
        .find(&OrderUid::new("a").expect("good"))
        .await
        .expect("in memory");
    assert_eq!(
        stored.map(|it| it.json),
        Some(sample_order_version("a", 2).json().clone())
    );
    assert_eq!(running.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_database_out_of_reach_makes_no_dead_letters() {
    no_dead_letters_while(unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_ours_makes_no_dead_letters() {
    no_dead_letters_while(our_fault).await;
}

async fn no_dead_letters_while(failure: fn() -> RepositoryError) {
    let running = Running::start();
    running.repository.always_fail(Some(failure));
    running
        .publish_orders((0..5).map(|index| format!("order-{index}")))
        .await;
    sleep(Duration::from_mins(10)).await;
    assert!(running.dead_letters().await.is_empty() && running.bus.acknowledged().is_empty());
    assert_eq!(running.health.report().standing, Standing::Degraded);

    running.repository.always_fail(None);
    running.acknowledged(5).await;
    assert!(running.dead_letters().await.is_empty());
    assert_eq!(running.health.report().standing, Standing::Ready);
}

#[tokio::test(start_paused = true)]
async fn too_many_rejections_in_a_row_are_taken_for_our_fault() {
    let running = Running::start();
    let uids = || (0..50).map(|index| format!("order-{index}"));
    uids().for_each(|uid| running.repository.reject(&uid));
    running.publish_orders(uids()).await;
    sleep(Duration::from_mins(10)).await;
    assert_eq!(
        running.dead_letters().await.len(),
        IngestSettings::default().rejections_in_a_row
    );
    assert_eq!(running.health.report().standing, Standing::Degraded);

    running.repository.reject_none();
    running.acknowledged(50).await;
    assert_eq!(
        running.dead_letters().await.len(),
        IngestSettings::default().rejections_in_a_row
    );
    assert_eq!(running.health.report().standing, Standing::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_fate_is_unknown_is_stored_again() {
    let running = Running::start();
    running.repository.fail_with([unavailable(), unavailable()]);
    running.publish_orders(["a".to_owned()]).await;
    running.acknowledged(1).await;
    assert!(running.has("a").await);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_much_for_a_slow_database_is_stored_in_parts() {
    let running = Running::start();
    running.repository.store_at_most(3);
    running
        .publish_orders((0..20).map(|index| format!("order-{index}")))
        .await;
    running.acknowledged(20).await;
    let batches = running.repository.batches();
    assert_eq!(batches.iter().sum::<usize>(), 20);
    assert!(batches.iter().all(|orders| *orders <= 3), "{batches:?}");
    assert!(running.dead_letters().await.is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_version_from_a_clock_that_stepped_back_is_kept_as_a_dead_letter() {
    let running = Running::start();
    running.bus.set_clock(1_000_000);
    running.publish(sample_order_version("a", 1).json().clone()).await;
    running.acknowledged(1).await;
    running.bus.set_clock(500_000);
    running.publish(sample_order_version("a", 2).json().clone()).await;
    running.acknowledged(2).await;

    let stored = running
        .repository
        .inner
        .find(&OrderUid::new("a").expect("good"))
        .await
        .expect("in memory");
    assert_eq!(
        stored.map(|it| it.json),
        Some(sample_order_version("a", 1).json().clone())
    );
    let letters = running.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].letter.reason.contains("clock stepped back"));
    assert_eq!(
        letters[0].letter.message.payload,
        *sample_order_version("a", 2).json()
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_holds_for_two_versions_in_one_batch() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["first".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    running.bus.set_clock(1_000_000);
    running.publish(sample_order_version("a", 1).json().clone()).await;
    running.bus.set_clock(500_000);
    running.publish(sample_order_version("a", 2).json().clone()).await;
    sleep(Duration::from_secs(1)).await;
    running.repository.hold(false);
    running.acknowledged(3).await;
    assert_eq!(running.repository.batches(), [1, 1]);
    assert_eq!(running.dead_letters().await.len(), 1);
}

/// Nothing tells these old versions from new ones under a clock that stepped back: they are older by time and ahead by sequence. An alarm
/// too many is better than an order too few.
#[tokio::test(start_paused = true)]
async fn a_store_from_before_the_stream_was_recreated_makes_dead_letters_of_old_versions_and_loses_nothing() {
    let running = Running::start();
    for version in 1..=2 {
        running
            .publish(sample_order_version("a", version).json().clone())
            .await;
        running.acknowledged(version as usize).await;
    }
    running.publish_orders(["untouched".to_owned()]).await;
    running.acknowledged(3).await;
    let store = running.bus.backup();
    running.bus.recreate();
    running.publish(sample_order_version("a", 3).json().clone()).await;
    running.acknowledged(4).await;
    assert!(
        running.dead_letters().await.is_empty(),
        "a recreated stream alone makes none"
    );

    running.bus.restore(store);
    // What it acknowledged was restored with it: three, and the same three again.
    running.acknowledged(6).await;
    let letters = running.dead_letters().await;
    assert_eq!(letters.len(), 1, "only what is ahead by sequence");
    assert_eq!(
        letters[0].letter.message.payload,
        *sample_order_version("a", 2).json()
    );
    assert!(letters[0].letter.reason.contains("clock stepped back"));
    let uid = OrderUid::new("a").expect("good");
    let stored = running.repository.inner.find(&uid).await.expect("in memory");
    assert_eq!(
        stored.map(|it| it.json),
        Some(sample_order_version("a", 3).json().clone())
    );

    // And its next versions are new ones again.
    running.publish(sample_order_version("a", 4).json().clone()).await;
    running.acknowledged(7).await;
    let stored = running.repository.inner.find(&uid).await.expect("in memory");
    assert_eq!(
        stored.map(|it| it.json),
        Some(sample_order_version("a", 4).json().clone())
    );
    assert_eq!(running.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_forgets_acknowledgements_changes_nothing() {
    let running = Running::start();
    running.publish(sample_order_version("a", 1).json().clone()).await;
    running.publish(sample_order_version("a", 2).json().clone()).await;
    running.publish(&b"no order"[..]).await;
    running.acknowledged(3).await;
    let log_before = running.repository.batches().len();
    running.bus.forget_acknowledgements();
    running.acknowledged(6).await;

    assert!(
        running.repository.batches().len() > log_before,
        "they did come again"
    );
    let stored = running
        .repository
        .inner
        .find(&OrderUid::new("a").expect("good"))
        .await
        .expect("in memory");
    assert_eq!(
        stored.map(|it| it.json),
        Some(sample_order_version("a", 2).json().clone())
    );
    assert_eq!(running.dead_letters().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_is_opened_again() {
    let running = Running::start();
    running.publish_orders(["a".to_owned()]).await;
    running.acknowledged(1).await;
    running.bus.set_reachable(false);
    sleep(Duration::from_mins(5)).await;
    running.bus.set_reachable(true);
    running.publish_orders(["b".to_owned()]).await;
    running.acknowledged(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_never_used_beyond_its_subscription() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["a".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    // The stream is recreated while "a" commits: its first message is another one now, and delivered already.
    running.bus.recreate();
    running.published.set(100);
    running.publish_orders(["b".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.bus.in_flight(), 1);
    running.repository.let_one_through();
    sleep(Duration::from_secs(1)).await;
    assert!(running.has("a").await && !running.has("b").await);
    assert!(
        running.bus.acknowledged().is_empty(),
        "the token of a would acknowledge b"
    );

    running.repository.hold(false);
    running.acknowledged(1).await;
    assert!(running.has("b").await);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_batch_in_hand_and_hands_back_the_rest() {
    let running = Running::start();
    running.repository.hold(true);
    running.publish_orders(["a".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    running
        .publish_orders((0..7).map(|index| format!("later-{index}")))
        .await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(running.bus.waiting(), 0, "all are in hand");

    let repository = Arc::clone(&running.repository);
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        repository.hold(false);
    });
    let repository = Arc::clone(&running.repository);
    let bus = running.stop().await;
    assert_eq!(repository.batches(), [1]);
    assert_eq!(bus.acknowledged().len(), 1);
    assert_eq!(
        (bus.waiting(), bus.in_flight()),
        (7, 0),
        "at once, not after ack_wait"
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_database_that_is_away() {
    let running = Running::start();
    running.repository.always_fail(Some(unavailable));
    running.publish_orders(["a".to_owned()]).await;
    sleep(Duration::from_secs(1)).await;
    let bus = timeout(Duration::from_secs(6), running.stop())
        .await
        .expect("within finish_within and a little");
    assert_eq!((bus.acknowledged().len(), bus.waiting()), (0, 1));
}
