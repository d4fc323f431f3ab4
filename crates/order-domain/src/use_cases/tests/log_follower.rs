//! Following the commit log, and the warm-up beside it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::own_commits::OwnCommit;
use crate::testing::memory::{MemoryBus, MemoryCache, MemoryStore};
use crate::testing::orders::sample_order_version;
use crate::{
    Batch, Coherence, CommitLog, CommitLogError, DatabaseReach, FollowerSettings, Health, LogChange,
    LogCursor, LogFollower, LogPage, Logged, Lookup, OrderDocument, OrderRepository, OrderUid, RevisedOrder,
    Revision, WarmUpSettings, warm_up,
};

struct Fixture {
    store: Arc<MemoryStore>,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Fixture {
    fn start() -> Self {
        Self::follow(MemoryStore::default(), FollowerSettings::default())
    }

    fn follow(store: MemoryStore, settings: FollowerSettings) -> Self {
        let store = Arc::new(store);
        Self::follow_log(&store, Arc::clone(&store) as Arc<dyn CommitLog>, settings)
    }

    fn follow_log(store: &Arc<MemoryStore>, log: Arc<dyn CommitLog>, settings: FollowerSettings) -> Self {
        let coherence = Arc::new(Coherence::new(
            Arc::new(MemoryCache::default()),
            Duration::from_secs(2),
        ));
        let health = Arc::new(Health::new(Arc::new(MemoryBus::default())));
        let follower = LogFollower::new(log, Arc::clone(&coherence), Arc::clone(&health), settings);
        let stop = CancellationToken::new();
        tokio::spawn(follower.run(stop.clone()));
        Fixture {
            store: Arc::clone(store),
            coherence,
            health,
            stop,
        }
    }

    fn begin_warm_up(&self, orders: usize) {
        let store = Arc::clone(&self.store) as Arc<dyn OrderRepository>;
        let settings = WarmUpSettings { orders };
        tokio::spawn(warm_up(
            store,
            Arc::clone(&self.coherence),
            settings,
            self.stop.clone(),
        ));
    }

    /// What the cache says of an order, to everyone who asks.
    fn look_up(&self, uid: &str) -> Lookup {
        self.coherence.look_up(&OrderUid::new(uid).expect("a good uid"))
    }

    async fn proven(&self) {
        let proven = async {
            while !self.coherence.is_proven() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_mins(1), proven)
            .await
            .expect("the log can be followed");
    }

    /// Fills the cache as a read would.
    fn cache(&self, uid: &str, version: u32) {
        let ticket = self
            .coherence
            .begin_fill(&OrderUid::new(uid).expect("a good uid"));
        assert!(self.coherence.fill(&ticket, document(uid, version)));
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn revision(version: u32) -> Revision {
    Revision {
        published_at: i64::from(version),
        sequence: u64::from(version),
    }
}

fn document(uid: &str, version: u32) -> OrderDocument {
    sample_order_version(uid, version).document(revision(version))
}

async fn store(store: &MemoryStore, uid: &str, version: u32) -> Logged {
    let order = RevisedOrder {
        revision: revision(version),
        order: sample_order_version(uid, version),
    };
    let report = store.store(&Batch::new(vec![order], Vec::new())).await;
    let logged = report.expect("in memory").logged;
    logged.expect("an order changed")
}

/// A log that announces nothing.
struct Unannounced(Arc<MemoryStore>);

#[async_trait]
impl CommitLog for Unannounced {
    async fn head(&self) -> Result<LogCursor, CommitLogError> {
        self.0.head().await
    }

    async fn read_after(&self, cursor: LogCursor, limit: usize) -> Result<LogPage, CommitLogError> {
        self.0.read_after(cursor, limit).await
    }

    async fn changed(&self, _cursor: LogCursor) {
        std::future::pending().await
    }

    async fn prune(&self, age: Duration) -> Result<u64, CommitLogError> {
        self.0.prune(age).await
    }
}

/// Follows a log that announces nothing, so that all that happens before the next poll was told.
async fn follow_unannounced() -> Fixture {
    let store = Arc::new(MemoryStore::default());
    let log = Arc::new(Unannounced(Arc::clone(&store)));
    let fixture = Fixture::follow_log(&store, log, FollowerSettings::default());
    fixture.proven().await;
    fixture
}

impl Fixture {
    /// Tells the follower of a commit as the ingestor does, and lets it work.
    async fn tell(&self, logged: Logged, uid: &str, version: u32) {
        self.coherence.offer([document(uid, version)].into_iter());
        let change = LogChange {
            uid: OrderUid::new(uid).expect("a good uid"),
            revision: revision(version),
        };
        let changes = vec![change];
        self.coherence.own_commits().tell(OwnCommit { logged, changes });
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_cache_within_a_poll() {
    let fixture = Fixture::start();
    fixture.proven().await;
    fixture.cache("a", 1);
    store(&fixture.store, "a", 2).await;
    sleep(FollowerSettings::default().poll).await;
    assert_eq!(fixture.look_up("a"), Lookup::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_this_replica_commits_is_applied_without_a_look() {
    let fixture = follow_unannounced().await;
    for version in 1..=3 {
        let logged = store(&fixture.store, "a", version).await;
        fixture.tell(logged, "a", version).await;
        assert_eq!(fixture.look_up("a"), Lookup::Proven(document("a", version)));
    }
    sleep(FollowerSettings::default().poll).await;
    assert_eq!(
        fixture.look_up("a"),
        Lookup::Proven(document("a", 3)),
        "and the log leads on from there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_after_one_that_is_not_known_is_left_to_the_log() {
    let fixture = follow_unannounced().await;
    fixture.cache("another", 1);
    store(&fixture.store, "another", 2).await;
    let logged = store(&fixture.store, "a", 3).await;
    fixture.tell(logged, "a", 3).await;
    assert_eq!(fixture.look_up("a"), Lookup::Unknown);

    sleep(FollowerSettings::default().poll).await;
    assert_eq!(fixture.look_up("another"), Lookup::Unknown);
    assert_eq!(fixture.look_up("a"), Lookup::Proven(document("a", 3)));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_the_database_lost_is_not_applied_when_it_comes_back() {
    let fixture = follow_unannounced().await;
    let backup = fixture.store.backup();
    let lost = store(&fixture.store, "a", 1).await;
    fixture.store.set_reachable(false);
    sleep(Duration::from_secs(3)).await;
    fixture.tell(lost, "a", 1).await;
    assert!(!fixture.coherence.is_proven());

    fixture.store.restore(backup);
    fixture.store.set_reachable(true);
    fixture.proven().await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(fixture.look_up("a"), Lookup::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_hides_the_cache_and_is_told_of() {
    let fixture = Fixture::start();
    assert_eq!(fixture.health.database(), DatabaseReach::NotYet);
    fixture.proven().await;
    assert_eq!(fixture.health.database(), DatabaseReach::InReach);
    fixture.cache("a", 1);
    // The follower looks once more, so that nothing that was read is ahead of the log.
    sleep(Duration::from_secs(1)).await;

    fixture.store.set_reachable(false);
    sleep(Duration::from_secs(3)).await;
    assert!(matches!(
        fixture.look_up("a"),
        Lookup::Unproven { age: Some(_), .. }
    ));
    assert_eq!(fixture.health.database(), DatabaseReach::Lost);

    fixture.store.set_reachable(true);
    fixture.proven().await;
    assert_eq!(
        fixture.look_up("a"),
        Lookup::Proven(document("a", 1)),
        "hidden, not emptied"
    );
    assert_eq!(fixture.health.database(), DatabaseReach::InReach);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_lead_on_empties_the_cache() {
    let fixture = Fixture::start();
    fixture.proven().await;
    let backup = fixture.store.backup();
    store(&fixture.store, "a", 2).await;
    sleep(Duration::from_secs(1)).await;
    fixture.cache("a", 2);
    assert_eq!(fixture.look_up("a"), Lookup::Proven(document("a", 2)));

    // The database is restored to before that commit.
    fixture.store.restore(backup);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.look_up("a"), Lookup::Unknown);
    assert!(fixture.coherence.is_proven(), "and goes on from there");
    fixture.cache("a", 1);
    store(&fixture.store, "a", 3).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        fixture.look_up("a"),
        Lookup::Unknown,
        "changes are followed again"
    );
}

#[tokio::test(start_paused = true)]
async fn old_entries_are_removed_in_time() {
    // The age of an entry is by the database's clock, which no test can pause: whatever is there is too old.
    let settings = FollowerSettings {
        retention: Duration::ZERO,
        ..FollowerSettings::default()
    };
    let prune_every = settings.prune_every;
    let fixture = Fixture::follow(MemoryStore::default(), settings);
    let first = fixture.store.head().await.expect("in memory");
    store(&fixture.store, "a", 1).await;
    store(&fixture.store, "a", 2).await;
    assert!(matches!(
        fixture.store.read_after(first, 10).await,
        Ok(LogPage::Entries { .. })
    ));
    sleep(prune_every * 2).await;
    assert!(matches!(
        fixture.store.read_after(first, 10).await,
        Ok(LogPage::Gap)
    ));
    assert!(fixture.coherence.is_proven(), "the follower is beyond it");
}

#[tokio::test(start_paused = true)]
async fn a_warm_up_waits_for_the_log_and_puts_the_newest_orders() {
    let existing = MemoryStore::default();
    for version in 1..=20 {
        store(&existing, &format!("order-{version}"), version).await;
    }
    existing.set_reachable(false);
    let fixture = Fixture::follow(existing, FollowerSettings::default());
    fixture.begin_warm_up(5);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.coherence.cache().size().orders, 0);

    fixture.store.set_reachable(true);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(fixture.coherence.cache().size().orders, 5);
}
