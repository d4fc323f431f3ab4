//! One history from its beginning to its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::database::Connection;
use super::plan::{Fault, UIDS};
use super::replica::{Replica, Tasks};
use super::samples::{self, Kind, sample};
use super::world::{Reach, World};
use super::{LEASE, MakeCache};
use crate::testing::memory::MemoryBackup;
use crate::{Batch, CommitLog, OrderUid, RevisedOrder, Revision, parse};

/// Everything must be consumed so long after the last fault.
const CONSUMED_WITHIN: Duration = Duration::from_mins(2);
/// Whatever was slow has come through by then: longer than any single wait.
const SETTLED: Duration = Duration::from_secs(5);

/// A history under way.
pub(super) struct History {
    world: Arc<World>,
    make_cache: MakeCache,
    /// Each replica that lives, and what it runs.
    replicas: Vec<Mutex<(Arc<Replica>, Tasks)>>,
    versions: Mutex<[usize; UIDS]>,
    backup: Mutex<Option<MemoryBackup>>,
    readers: Mutex<JoinSet<()>>,
}

impl History {
    /// Runs everything that the plan holds, and has it judged.
    pub(super) async fn run(world: Arc<World>, make_cache: MakeCache) {
        store_what_was_there_before(&world);
        let replicas = (0..world.plan.replicas)
            .map(|number| Mutex::new(Replica::start(&world, number, &make_cache)))
            .collect();
        let history = Arc::new(History {
            replicas,
            make_cache,
            versions: Mutex::new([1; UIDS]),
            backup: Mutex::new(Some(world.store.backup())),
            readers: Mutex::default(),
            world,
        });
        for _ in 0..history.world.plan.readers * history.world.plan.replicas {
            lock(&history.readers).spawn(Arc::clone(&history).read_on());
        }
        history.round(&history.world.plan.faults).await;
        if history.world.plan.recreate_stream && history.settle().await {
            history.world.note(|| "the stream is recreated".to_owned());
            let before = history.world.bus.backup();
            history.world.recreate_stream();
            history.world.set_calm(false);
            history.round(&[]).await;
            if history.world.plan.restore_stream && history.settle().await {
                history
                    .world
                    .note(|| "the stream is what it was before it was recreated".to_owned());
                history.world.restore_stream(before);
                history.world.set_calm(false);
                history.round(&[]).await;
            }
        }
        history.conclude().await;
        let mut readers = std::mem::take(&mut *lock(&history.readers));
        readers.abort_all();
        while let Some(ended) = readers.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                history.violated(format!("a reader broke down: {error}"));
            }
        }
    }

    /// Publishers and faults, until both are through.
    async fn round(self: &Arc<Self>, faults: &[(Duration, Fault)]) {
        let began = Instant::now();
        let publishers = join_all((0..self.world.plan.publishers).map(|_| self.publish_all()));
        let faults = join_all(faults.iter().map(|(at, fault)| async move {
            sleep_until(began + *at).await;
            self.befall(*fault).await;
        }));
        tokio::join!(publishers, faults);
    }

    async fn publish_all(self: &Arc<Self>) {
        let (world, plan) = (&self.world, &self.world.plan);
        for _ in 0..plan.messages {
            sleep(world.dice.millis(0..1_000)).await;
            let number = world.dice.within(0..plan.uids);
            let version = {
                let mut versions = lock(&self.versions);
                versions[number] += 1;
                versions[number]
            };
            let kind = if world.chance(plan.bad_messages) {
                Kind::Bad
            } else if world.chance(plan.refused_orders) {
                Kind::Refused
            } else {
                Kind::Order
            };
            if world.chance(plan.awaited) {
                lock(&self.readers).spawn(Arc::clone(self).wait_for(number));
            }
            self.publish_until_acknowledged(&format!("{number}-{version}"), &sample(number, version, kind))
                .await;
        }
    }

    async fn publish_until_acknowledged(&self, id: &str, sample: &samples::Sample) {
        let (world, slow) = (&self.world, self.world.plan.slow_bus);
        let mut stored = None;
        loop {
            world.linger(slow).await;
            let answer = world.publish(id, sample);
            world.linger(slow).await;
            if let Ok(revision) = answer {
                stored = revision.or(stored);
                if !world.chance(world.plan.failures) {
                    break;
                }
            } else {
                sleep(Duration::from_millis(100)).await;
            }
        }
        if let Some(revision) = stored {
            world.ledger().publish_acknowledged(revision);
        }
    }

    /// Asks for any order of any replica, again and again.
    async fn read_on(self: Arc<Self>) {
        let dice = &self.world.dice;
        loop {
            // When all is calm there is less to find.
            let pause = if self.world.is_calm() { 300..1_500 } else { 0..600 };
            sleep(dice.millis(pause)).await;
            let replica = self.replica(dice.within(0..self.replicas.len()));
            // One more than there are: an order that nobody publishes.
            let uid = samples::uid(dice.within(0..self.world.plan.uids + 1));
            if self.world.chance(self.world.plan.descheduled) {
                replica.look_descheduled(&uid).await;
            } else {
                replica.read(&uid, dice.chance(100)).await;
            }
        }
    }

    /// Looks at an order that is about to change, and again when every replica must know of it.
    async fn wait_for(self: Arc<Self>, number: usize) {
        let dice = &self.world.dice;
        let uid = samples::uid(number);
        let replica = self.replica(dice.within(0..self.replicas.len()));
        replica.read(&uid, false).await;
        sleep(Duration::from_millis(1_500)).await;
        for _ in 0..8 {
            sleep(dice.millis(0..300)).await;
            replica.read(&uid, false).await;
        }
    }

    async fn befall(&self, fault: Fault) {
        let (world, dice) = (&self.world, &self.world.dice);
        world.note(|| format!("fault: {fault:?}"));
        world.ledger().counts.faults += 1;
        match fault {
            Fault::DatabaseLost => {
                let reach = dice.pick(&[Reach::Refusing, Reach::Silent]);
                let all = 0..self.replicas.len();
                let one = dice.within(all.clone());
                let cut = if dice.chance(500) { all } else { one..one + 1 };
                let set = |reach| {
                    for replica in &world.reach[cut.clone()] {
                        replica.send_replace(reach);
                    }
                };
                set(reach);
                sleep(dice.millis(100..3_000)).await;
                set(Reach::Open);
            }
            Fault::BusLost => {
                world.bus.set_reachable(false);
                sleep(dice.millis(100..2_000)).await;
                world.bus.set_reachable(true);
            }
            Fault::SubscriptionsEnd => world.bus.end_subscriptions(),
            Fault::AcksForgotten => world.bus.forget_acknowledgements(),
            Fault::LogPruned => drop(world.store.prune(Duration::ZERO).await),
            Fault::Kill | Fault::Stop => {
                let number = dice.within(0..self.replicas.len());
                let tasks = std::mem::take(&mut lock(&self.replicas[number]).1);
                let replica = self.replica(number);
                if tasks.is_empty() {
                    // It is just being replaced.
                } else {
                    if fault == Fault::Kill {
                        replica.kill(tasks);
                    } else {
                        replica.end(tasks).await;
                    }
                    sleep(dice.millis(0..600)).await;
                    *lock(&self.replicas[number]) = Replica::start(world, number, &self.make_cache);
                }
            }
            Fault::ClockStepsBack => world.set_clock_back(dice.millis(1..3_000)),
            Fault::LettersReplayed => {
                world.store.reject_orders(|_| false);
                let number = dice.within(0..self.replicas.len());
                self.world.replay_letters(Connection::new(world, number)).await;
            }
            Fault::DatabaseRestored => {
                // A backup of the beginning, or of a moment before.
                if dice.chance(500) {
                    *lock(&self.backup) = Some(world.store.backup());
                    sleep(dice.millis(0..2_000)).await;
                }
                let backup = lock(&self.backup).clone();
                if let Some(backup) = backup {
                    world.begin_restore();
                    // Longer than between two looks at the log: each replica learns that the database was away.
                    sleep(dice.millis(500..1_500)).await;
                    world.note(|| "the database is restored".to_owned());
                    world.restore(backup);
                }
            }
        }
    }

    /// Waits until everything is consumed and nothing is under way; answers whether that came true.
    async fn settle(&self) -> bool {
        self.world.set_calm(true);
        let deadline = Instant::now() + CONSUMED_WITHIN;
        loop {
            while !self.world.is_consumed() {
                if Instant::now() > deadline {
                    self.violated("not everything is consumed, long after the last fault".to_owned());
                    return false;
                }
                sleep(Duration::from_millis(100)).await;
            }
            sleep(SETTLED).await;
            if self.world.is_consumed() {
                return true;
            }
        }
    }

    /// When all is calm: the database holds everything, and every replica serves the newest.
    async fn conclude(&self) {
        let plan = &self.world.plan;
        let is_restore = |(_, fault): &(Duration, Fault)| *fault == Fault::DatabaseRestored;
        let restored = plan.faults.iter().any(is_restore);
        if restored && plan.replay_after_restore {
            // This is how a restored database catches up: what the stream holds is fed in again, and not by those who still have
            // from before what they believe to be stored.
            if !self.settle().await {
                return;
            }
            self.world.bus.forget_acknowledgements();
        }
        if !self.settle().await {
            return;
        }
        if !restored || plan.replay_after_restore {
            self.world.judge();
        }
        for number in 0..self.replicas.len() {
            let replica = self.replica(number);
            for uid in (0..UIDS).map(samples::uid) {
                self.read_newest(&replica, &uid).await;
            }
            replica.judge_offers();
            let tasks = std::mem::take(&mut lock(&self.replicas[number]).1);
            replica.end(tasks).await;
        }
    }

    async fn read_newest(&self, replica: &Replica, uid: &OrderUid) {
        // It has been calm for longer than the lease, so that its own rule asks for the newest.
        if !replica.read(uid, true).await {
            self.violated(format!("{uid} cannot be read though nothing is wrong"));
        }
        // Nor may one know of what the database lost.
        replica.agrees(uid).await;
    }

    fn replica(&self, number: usize) -> Arc<Replica> {
        Arc::clone(&lock(&self.replicas[number]).0)
    }

    fn violated(&self, what: String) {
        self.world.ledger().violated(self.world.now(), what);
    }
}

/// Some orders are there when a history begins, for the warm-up to find.
fn store_what_was_there_before(world: &World) {
    for number in 0..world.plan.uids {
        if !world.dice.chance(500) {
            continue;
        }
        let sample = sample(number, 0, Kind::Order);
        let order = parse(&sample.payload).expect("a whole order").order;
        let revision = Revision {
            published_at: 1,
            sequence: number as u64,
        };
        let batch = Batch::new(vec![RevisedOrder { revision, order }], Vec::new());
        world.ledger().published(Duration::ZERO, revision, sample);
        let stored = world.store(Duration::ZERO, &batch);
        assert!(stored.is_ok(), "nothing is hostile yet");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const _: () = assert!(
    SETTLED.as_millis() > LEASE.as_millis() * 2,
    "the last reads are held to the newest"
);
