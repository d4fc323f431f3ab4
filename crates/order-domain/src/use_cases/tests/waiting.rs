//! Waiting for an order until it is stored.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::testing::memory::{MemoryBus, MemoryCache, MemoryStore};
use crate::testing::orders::sample_order_version;
use crate::{
    Batch, Coherence, CommitLog, FindError, FollowerSettings, Found, FoundOrders, Health, LogChange,
    LogFollower, OrderDocument, OrderPage, OrderQuery, OrderRepository, OrderService, OrderStream, OrderUid,
    ReadSettings, RepositoryError, RevisedOrder, Revision, StoreReport,
};

const REVISION: Revision = Revision {
    published_at: 1,
    sequence: 1,
};
const WAIT: Duration = Duration::from_secs(5);

/// A store whose reads look first, and answer only when they are let.
struct LateReads {
    store: Arc<MemoryStore>,
    answers: Semaphore,
}

#[async_trait]
impl OrderRepository for LateReads {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        self.store.store(batch).await
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        let found = self.store.find(uid).await;
        let let_go = self.answers.acquire().await.expect("it is never closed");
        let_go.forget();
        found
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        self.store.find_many(uids, max_bytes).await
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        self.store.page(query).await
    }

    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_> {
        self.store.newest(limit, max_bytes)
    }
}

struct Fixture {
    store: Arc<LateReads>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    service: Arc<OrderService>,
    stop: CancellationToken,
}

impl Fixture {
    /// A service over an empty store in reach.
    fn new(settings: ReadSettings) -> Self {
        let store = Arc::new(LateReads {
            store: Arc::default(),
            answers: Semaphore::new(1_000_000),
        });
        let cache = Arc::new(MemoryCache::default());
        let coherence = Arc::new(Coherence::new(cache, Duration::from_secs(2)));
        let health = Arc::new(Health::new(Arc::new(MemoryBus::default())));
        health.database_reached();
        let service = Arc::new(OrderService::new(
            Arc::clone(&store) as Arc<dyn OrderRepository>,
            Arc::clone(&coherence),
            Arc::clone(&health),
            settings,
            Handle::current(),
        ));
        Fixture {
            store,
            coherence,
            health,
            service,
            stop: CancellationToken::new(),
        }
    }

    /// The same, with a follower of the store's log.
    fn following(settings: ReadSettings) -> Self {
        let fixture = Self::new(settings);
        let follower = LogFollower::new(
            Arc::clone(&fixture.store.store) as Arc<dyn CommitLog>,
            Arc::clone(&fixture.coherence),
            Arc::clone(&fixture.health),
            FollowerSettings::default(),
        );
        tokio::spawn(follower.run(fixture.stop.clone()));
        fixture
    }

    async fn store(&self, uid: &str) {
        let order = RevisedOrder {
            revision: REVISION,
            order: sample_order_version(uid, 0),
        };
        let batch = Batch::new(vec![order], Vec::new());
        self.store.store.store(&batch).await.expect("in memory");
    }

    async fn wait_for(&self, uid: &str) -> Result<Option<Found>, FindError> {
        self.service.find_or_wait(&self::uid(uid), false, WAIT).await
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn uid(text: &str) -> OrderUid {
    OrderUid::new(text).expect("a test gives a good uid")
}

fn found(uid: &str) -> Result<Option<Found>, FindError> {
    let document = sample_order_version(uid, 0).document(REVISION);
    Ok(Some(Found { document, age: None }))
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_as_soon_as_the_order_is_stored() {
    let fixture = Fixture::following(ReadSettings::default());
    let began = Instant::now();
    let store = async {
        sleep(Duration::from_secs(3)).await;
        fixture.store("other").await;
        fixture.store("a").await;
    };
    let (first, second, ()) = tokio::join!(fixture.wait_for("a"), fixture.wait_for("a"), store);
    assert_eq!((first, second), (found("a"), found("a")));
    let poll = FollowerSettings::default().poll;
    assert!(
        began.elapsed() <= Duration::from_secs(3) + poll,
        "after {:?}",
        began.elapsed()
    );
    assert_eq!(fixture.wait_for("a").await, found("a"), "at once");
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_when_the_time_is_up() {
    let settings = ReadSettings {
        max_wait: Duration::from_secs(1),
        ..ReadSettings::default()
    };
    let fixture = Fixture::following(settings);
    let began = Instant::now();
    assert_eq!(fixture.wait_for("a").await, Ok(None));
    assert_eq!(began.elapsed(), Duration::from_secs(1), "no longer than allowed");
}

#[tokio::test(start_paused = true)]
async fn who_waits_does_not_ask_the_database_again_and_again() {
    let fixture = Fixture::following(ReadSettings::default());
    fixture.service.find(&uid("a"), false).await.expect("in reach");
    let before = fixture.store.answers.available_permits();
    assert_eq!(fixture.wait_for("a").await, Ok(None));
    let reads = before - fixture.store.answers.available_permits();
    assert!(reads <= 3, "{reads} reads");
}

#[tokio::test(start_paused = true)]
async fn a_lost_database_ends_the_waiting() {
    let fixture = Fixture::following(ReadSettings::default());
    let began = Instant::now();
    let lose = async {
        sleep(Duration::from_secs(1)).await;
        fixture.store.store.set_reachable(false);
    };
    let (answer, ()) = tokio::join!(fixture.wait_for("a"), lose);
    assert_eq!(answer, Err(FindError::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(2));
    let began = Instant::now();
    assert_eq!(fixture.wait_for("b").await, Err(FindError::Unavailable));
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody begins to wait");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_service_ends_the_waiting() {
    let fixture = Fixture::following(ReadSettings::default());
    let began = Instant::now();
    let end = async {
        sleep(Duration::from_secs(1)).await;
        fixture.coherence.end_waiting();
    };
    let (answer, ()) = tokio::join!(fixture.wait_for("a"), end);
    assert_eq!(answer, Err(FindError::Unavailable));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    fixture.store("b").await;
    assert_eq!(
        fixture.wait_for("b").await,
        found("b"),
        "what is there is still read"
    );
    assert_eq!(fixture.wait_for("c").await, Err(FindError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait() {
    let settings = ReadSettings {
        max_waiters: 2,
        ..ReadSettings::default()
    };
    let fixture = Fixture::following(settings);
    let third = async {
        sleep(Duration::from_secs(1)).await;
        fixture.wait_for("c").await
    };
    let answers = tokio::join!(fixture.wait_for("a"), fixture.wait_for("b"), third);
    assert_eq!(answers, (Ok(None), Ok(None), Err(FindError::Unavailable)));
    let (answer, ()) = tokio::join!(fixture.wait_for("c"), fixture.store("c"));
    assert_eq!(answer, found("c"), "there is room again");
}

#[tokio::test(start_paused = true)]
async fn an_order_stored_just_before_the_waiting_begins_is_not_missed() {
    let fixture = Fixture::new(ReadSettings::default());
    fixture.store.answers.forget_permits(1_000_000);
    // Two reads that look before the order is stored: the first is joined before anyone waits, the second by who waits already.
    let (service, first) = (Arc::clone(&fixture.service), uid("a"));
    tokio::spawn(async move { service.find(&first, false).await });
    let (service, second) = (Arc::clone(&fixture.service), uid("a"));
    tokio::spawn(async move {
        sleep(ReadSettings::default().join_within).await;
        service.find(&second, false).await
    });
    let waits = async {
        sleep(Duration::from_millis(900)).await;
        let began = Instant::now();
        (fixture.wait_for("a").await, began.elapsed())
    };
    let stores = async {
        sleep(Duration::from_millis(1_100)).await;
        fixture.store("a").await;
        fixture.coherence.apply(&[LogChange {
            uid: uid("a"),
            revision: REVISION,
        }]);
        fixture.store.answers.add_permits(1);
        sleep(Duration::from_millis(100)).await;
        fixture.store.answers.add_permits(100);
    };
    let ((answer, waited), ()) = tokio::join!(waits, stores);
    assert_eq!(answer, found("a"));
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}
