//! Reading orders: one read for all, and what is served while the database is away.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, advance, sleep, timeout};

use super::scripted::{Scripted, our_fault, unavailable};
use crate::testing::memory::{MemoryBus, MemoryCache};
use crate::testing::orders::sample_order;
use crate::{
    Batch, Coherence, FindError, Found, Health, OrderDocument, OrderRepository, OrderService, OrderUid,
    ReadSettings, RevisedOrder, Revision,
};

pub(super) const REVISION: Revision = Revision {
    published_at: 1,
    sequence: 1,
};

pub(super) struct Fixture {
    pub(super) repository: Arc<Scripted>,
    pub(super) coherence: Arc<Coherence>,
    health: Arc<Health>,
    pub(super) service: Arc<OrderService>,
}

impl Fixture {
    /// A proven cache without orders over a repository that has the order "a".
    pub(super) async fn new() -> Self {
        let repository = Scripted::new();
        let stored = RevisedOrder {
            revision: REVISION,
            order: sample_order("a"),
        };
        repository
            .inner
            .store(&Batch::new(vec![stored], Vec::new()))
            .await
            .expect("in memory");
        let cache = Arc::new(MemoryCache::default());
        let coherence = Arc::new(Coherence::new(cache, Duration::from_secs(2)));
        let health = Arc::new(Health::new(Arc::new(MemoryBus::default())));
        health.database_reached();
        coherence.extend_lease(Instant::now());
        let service = Arc::new(OrderService::new(
            Arc::clone(&repository) as Arc<dyn OrderRepository>,
            Arc::clone(&coherence),
            Arc::clone(&health),
            ReadSettings::default(),
            Handle::current(),
        ));
        Fixture {
            repository,
            coherence,
            health,
            service,
        }
    }

    pub(super) async fn find(&self, uid: &str) -> Result<Option<Found>, FindError> {
        self.service
            .find(&OrderUid::new(uid).expect("a good uid"), false)
            .await
    }

    async fn find_proven(&self, uid: &str) -> Result<Option<Found>, FindError> {
        self.service
            .find(&OrderUid::new(uid).expect("a good uid"), true)
            .await
    }

    /// The database goes away, and the lease with it.
    pub(super) async fn lose_database(&self) {
        self.repository.always_fail(Some(unavailable));
        advance(Duration::from_secs(3)).await;
        self.health.database_lost(&"scripted");
    }
}

pub(super) fn document() -> OrderDocument {
    sample_order("a").document(REVISION)
}

fn proven() -> Result<Option<Found>, FindError> {
    Ok(Some(Found {
        document: document(),
        age: None,
    }))
}

#[tokio::test(start_paused = true)]
async fn an_order_is_read_once_and_then_answered_from_the_cache() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.find("a").await, proven());
    assert_eq!(fixture.find("a").await, proven());
    assert_eq!(fixture.repository.finds(), 1);
    for _ in 0..100 {
        assert_eq!(fixture.find("unknown").await, Ok(None));
    }
    assert_eq!(fixture.repository.finds(), 2, "once for each order, known or not");
}

#[tokio::test(start_paused = true)]
async fn without_lease_the_database_is_asked() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    advance(Duration::from_secs(2)).await;
    assert_eq!(fixture.find("a").await, proven());
    assert_eq!(fixture.repository.finds(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_miss_the_same_order_share_one_read() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let all = join_all((0..1_000).map(|_| fixture.find("a")));
    let release = async {
        sleep(Duration::from_millis(900)).await;
        fixture.repository.hold(false);
    };
    let (answers, ()) = tokio::join!(all, release);
    assert!(answers.iter().all(|answer| *answer == proven()));
    assert_eq!(fixture.repository.finds(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_database_keeps_nobody_beyond_the_deadline() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let all = join_all((0..1_000).map(|_| fixture.find("a")));
    let answers = timeout(Duration::from_millis(1_501), all)
        .await
        .expect("within the deadline");
    assert!(
        answers
            .iter()
            .all(|answer| *answer == Err(FindError::Unavailable))
    );
    assert_eq!(fixture.repository.finds(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_read_is_not_joined() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let late = async {
        sleep(Duration::from_secs(1)).await;
        fixture.find("a").await
    };
    let release = async {
        sleep(Duration::from_millis(1_200)).await;
        fixture.repository.hold(false);
    };
    let (first, second, ()) = tokio::join!(fixture.find("a"), late, release);
    assert_eq!((first, second), (proven(), proven()));
    assert_eq!(
        fixture.repository.finds(),
        2,
        "its snapshot could be too old for the later caller"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_hangs_up_does_not_take_the_shared_read_along() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let service = Arc::clone(&fixture.service);
    let first = tokio::spawn(async move {
        service
            .find(&OrderUid::new("a").expect("a good uid"), false)
            .await
    });
    sleep(Duration::from_millis(10)).await;
    let release = async {
        sleep(Duration::from_millis(100)).await;
        first.abort();
        fixture.repository.hold(false);
    };
    let (answer, ()) = tokio::join!(fixture.find("a"), release);
    assert_eq!(answer, proven());
    assert_eq!(fixture.repository.finds(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_cached_orders_are_served_with_their_age() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    fixture.lose_database().await;
    let stale = Found {
        document: document(),
        age: Some(Duration::from_secs(3)),
    };
    assert_eq!(fixture.find("a").await, Ok(Some(stale)));
    assert_eq!(fixture.find_proven("a").await, Err(FindError::Unavailable));
    assert_eq!(fixture.find("unknown").await, Err(FindError::Unavailable));

    advance(ReadSettings::default().stale_if_error).await;
    assert_eq!(
        fixture.find("a").await,
        Err(FindError::Unavailable),
        "too old to be of use"
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_database_is_away_one_read_a_second_tries_it() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    fixture.lose_database().await;
    let before = fixture.repository.finds();
    for _ in 0..100 {
        assert!(matches!(
            fixture.find("a").await,
            Ok(Some(Found { age: Some(_), .. }))
        ));
        assert_eq!(fixture.find("b").await, Err(FindError::Unavailable));
        advance(Duration::from_millis(100)).await;
    }
    let tried = fixture.repository.finds() - before;
    assert!((9..=10).contains(&tried), "{tried} in 10 s");

    fixture.repository.always_fail(None);
    advance(Duration::from_secs(1)).await;
    assert_eq!(
        fixture.find_proven("a").await,
        proven(),
        "the probe found it back before the follower did"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_can_be_given_a_cached_order_does_not_wait_for_the_database() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    fixture.lose_database().await;
    fixture.repository.hold(true);
    for _ in 0..100 {
        let began = Instant::now();
        assert!(matches!(
            fixture.find("a").await,
            Ok(Some(Found { age: Some(_), .. }))
        ));
        assert_eq!(began.elapsed(), Duration::ZERO);
        advance(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_without_its_tables_is_as_one_out_of_reach() {
    let fixture = Fixture::new().await;
    fixture.find("a").await.expect("in reach");
    fixture.lose_database().await;
    fixture.repository.always_fail(Some(our_fault));
    assert!(matches!(
        fixture.find("a").await,
        Ok(Some(Found { age: Some(_), .. }))
    ));
    assert_eq!(fixture.find("b").await, Err(FindError::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn before_the_first_contact_nothing_is_read() {
    let fixture = Fixture::new().await;
    let service = OrderService::new(
        Arc::clone(&fixture.repository) as Arc<dyn OrderRepository>,
        Arc::clone(&fixture.coherence),
        Arc::new(Health::new(Arc::new(MemoryBus::default()))),
        ReadSettings::default(),
        Handle::current(),
    );
    let uid = OrderUid::new("a").expect("a good uid");
    assert_eq!(service.find(&uid, false).await, Err(FindError::Unavailable));
    assert_eq!(fixture.repository.finds(), 0, "its tables may not be there yet");
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_ours_is_not_taken_for_an_absent_order() {
    let fixture = Fixture::new().await;
    fixture.repository.always_fail(Some(our_fault));
    assert_eq!(fixture.find("a").await, Err(FindError::Other));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_a_change_overtook_is_answered_but_not_kept() {
    let fixture = Fixture::new().await;
    fixture.repository.hold(true);
    let change = async {
        sleep(Duration::from_millis(10)).await;
        let newer = Revision {
            published_at: 2,
            sequence: 2,
        };
        let uid = OrderUid::new("a").expect("a good uid");
        fixture
            .coherence
            .apply(&[crate::LogChange { uid, revision: newer }]);
        fixture.repository.hold(false);
    };
    let (answer, ()) = tokio::join!(fixture.find("a"), change);
    assert_eq!(answer, proven());
    fixture.find("a").await.expect("in reach");
    assert_eq!(fixture.repository.finds(), 2);
}
