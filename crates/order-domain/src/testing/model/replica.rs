//! One replica: everything that the service runs, over hostile ports.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bus::BusConnection;
use super::cache::{HostileCache, judge};
use super::database::Connection;
use super::descheduled::{Descheduled, Point};
use super::ledger::{Answer, Shown};
use super::world::{Life, World};
use super::{LEASE, MakeCache};
use crate::{
    Coherence, DatabaseReach, FollowerSettings, Health, IngestSettings, Ingestor, LogFollower, OrderBus,
    OrderService, OrderUid, ReadSettings, TakeLimits, WarmUpSettings, warm_up,
};

/// What the clock is rounded by.
const ROUNDED_BY: Duration = Duration::from_millis(10);
/// No orderly end may take longer.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// A replica at work.
pub(super) struct Replica {
    world: Arc<World>,
    number: usize,
    life: Life,
    service: OrderService,
    coherence: Arc<Coherence>,
    health: Arc<Health>,
    stop: CancellationToken,
}

/// What a replica runs in the background.
pub(super) type Tasks = JoinSet<()>;

impl Replica {
    /// Composes a replica as the service does, and starts it.
    pub(super) fn start(world: &Arc<World>, number: usize, make_cache: &MakeCache) -> (Arc<Self>, Tasks) {
        let plan = &world.plan;
        let life = Life::default();
        let database = Arc::new(Connection {
            world: Arc::clone(world),
            replica: number,
            life: life.clone(),
        });
        let bus: Arc<dyn OrderBus> = Arc::new(BusConnection {
            world: Arc::clone(world),
            replica: number,
            life: life.clone(),
        });
        let cache = Arc::new(HostileCache {
            world: Arc::clone(world),
            replica: number,
            inner: make_cache(),
            coherence: OnceLock::new(),
        });
        let coherence = Arc::new(Coherence::new(Arc::clone(&cache) as _, LEASE));
        let _ = cache.coherence.set(Arc::downgrade(&coherence));
        let health = Arc::new(Health::new(Arc::clone(&bus)));
        let stop = CancellationToken::new();

        let service = OrderService::new(
            Arc::clone(&database) as _,
            Arc::clone(&coherence),
            Arc::clone(&health),
            ReadSettings {
                deadline: plan.read_deadline,
                ..ReadSettings::default()
            },
            Handle::current(),
        );
        let ingestor = Ingestor::new(
            bus,
            Arc::clone(&database) as _,
            Arc::clone(&coherence),
            Arc::clone(&health),
            IngestSettings {
                batch: TakeLimits {
                    messages: plan.batch,
                    ..TakeLimits::default()
                },
                lanes: plan.lanes,
                progress_every: Duration::from_millis(500),
                acknowledge_within: Duration::from_millis(400),
                finish_within: Duration::from_secs(1),
                retry_at_most: Duration::from_millis(500),
                ..IngestSettings::default()
            },
        );
        let follower = LogFollower::new(
            Arc::clone(&database) as _,
            Arc::clone(&coherence),
            Arc::clone(&health),
            FollowerSettings {
                poll: Duration::from_millis(400),
                page: plan.log_page,
                ..FollowerSettings::default()
            },
        );
        let warm = warm_up(
            database,
            Arc::clone(&coherence),
            WarmUpSettings { orders: plan.warm_up },
            stop.clone(),
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(follower.run(stop.clone()));
        tasks.spawn(ingestor.run(stop.clone()));
        tasks.spawn(warm);
        world.note(|| format!("replica {number} started"));
        (
            Arc::new(Replica {
                world: Arc::clone(world),
                number,
                life,
                service,
                coherence,
                health,
                stop,
            }),
            tasks,
        )
    }

    /// Ends at once: nothing that it still had to do is done.
    pub(super) fn kill(&self, mut tasks: Tasks) {
        self.world.note(|| format!("replica {} is killed", self.number));
        self.life.end();
        tasks.abort_all();
    }

    /// Ends as it should.
    pub(super) async fn end(&self, mut tasks: Tasks) {
        self.world.note(|| format!("replica {} is stopped", self.number));
        self.stop.cancel();
        let ending = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    self.violated(format!("replica {} broke down: {error}", self.number));
                }
            }
        };
        if timeout(ENDED_WITHIN, ending).await.is_err() {
            self.violated(format!(
                "replica {} did not end within {ENDED_WITHIN:?}",
                self.number
            ));
        }
        self.life.end();
    }

    /// Asks for an order, and has the answer judged; answers whether it was read, and is proven.
    pub(super) async fn read(&self, uid: &OrderUid, proof_required: bool) -> bool {
        let began = self.world.now();
        let answer = self.service.find(uid, proof_required).await;
        let ended = self.world.now();
        if self.life.is_over() {
            return false;
        }
        if ended - began > self.world.plan.read_deadline + ROUNDED_BY {
            self.violated(format!(
                "replica {} took {:?} to answer",
                self.number,
                ended - began
            ));
        }
        let Ok(found) = answer else {
            self.world.ledger().counts.unavailable += 1;
            return false;
        };
        let age = found.as_ref().and_then(|found| found.age);
        if age.is_some() && (proof_required || self.health.database() != DatabaseReach::Lost) {
            self.violated(format!(
                "replica {} answered {uid} without proof, which nobody may have",
                self.number
            ));
        }
        self.world.ledger().answered(&Answer {
            replica: self.number,
            uid,
            began,
            ended,
            found: found.as_ref().map(|found| &found.document),
            age,
        });
        age.is_none()
    }

    /// When all is calm, a replica answers what the database holds.
    pub(super) async fn agrees(&self, uid: &OrderUid) {
        let found = self.service.find(uid, true).await;
        let stored = self.world.stored(uid).map(|document| document.revision);
        if let Ok(found) = found.map(|found| found.map(|found| found.document.revision))
            && found != stored
        {
            self.violated(format!(
                "replica {} answers {uid} with {}, and the database holds {}",
                self.number,
                Shown(found),
                Shown(stored)
            ));
        }
    }

    /// Looks at the cache only, and loses its processor in the middle of that.
    pub(super) async fn look_descheduled(&self, uid: &OrderUid) {
        let dice = &self.world.dice;
        let began = self.world.now();
        let point = dice.pick(&[Point::BeforeCache, Point::AfterCache]);
        let look = Descheduled::look_up(Arc::clone(&self.coherence), uid.clone(), point);
        sleep(dice.millis(0..3_000)).await;
        let looked = look.wake();
        if !self.life.is_over() {
            judge(&self.world, self.number, uid, began, &looked);
        }
    }

    /// Nothing is on its way any more, so nothing may wait to be seen in the log.
    pub(super) fn judge_offers(&self) {
        let offers = self.coherence.offers();
        if offers > 0 {
            self.violated(format!("replica {} still holds {offers} offers", self.number));
        }
    }

    pub(super) fn violated(&self, what: String) {
        self.world.ledger().violated(self.world.now(), what);
    }
}
