//! What one seed decides: before a history how hostile it is, and in it every wait, loss and choice.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many orders a history is about at most.
pub(super) const UIDS: usize = 4;

/// Draws, the same ones for the same seed.
pub(super) struct Dice(Mutex<fastrand::Rng>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    pub(super) fn within(&self, range: Range<usize>) -> usize {
        self.rng().usize(range)
    }

    /// Whether something happens that does so this often in a thousand times.
    pub(super) fn chance(&self, permille: u32) -> bool {
        permille > 0 && self.rng().u32(0..1_000) < permille
    }

    pub(super) fn millis(&self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.rng().u64(range))
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.within(0..from.len())]
    }

    /// How long one step of a call takes that is slow this often in a thousand times; `None` for not even a switch of tasks.
    pub(super) fn wait(&self, slow: u32) -> Option<Duration> {
        if self.chance(slow) {
            return Some(match self.within(0..10) {
                0..6 => self.millis(20..300),
                6..9 => self.millis(300..1_400),
                _ => self.millis(1_400..2_500),
            });
        }
        match self.within(0..10) {
            0..5 => None,
            5..8 => Some(Duration::ZERO),
            _ => Some(self.millis(1..10)),
        }
    }

    fn rng(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How hostile a history is. Each hazard is left out of many histories, so that the others show what they do without it.
///
/// The `u32`s say how often in a thousand times.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) replicas: usize,
    pub(super) uids: usize,
    /// How long a read may take: longer than the lease in some histories, which nobody forbids.
    pub(super) read_deadline: Duration,
    pub(super) publishers: usize,
    pub(super) readers: usize,
    /// How many messages each publisher publishes in each round.
    pub(super) messages: usize,
    pub(super) slow_stores: u32,
    pub(super) slow_reads: u32,
    pub(super) slow_looks: u32,
    pub(super) slow_warm_ups: u32,
    pub(super) slow_bus: u32,
    /// Calls that fail by themselves, their effect done or not.
    pub(super) failures: u32,
    pub(super) missed_notices: u32,
    pub(super) lost_acks: u32,
    pub(super) duplicates: u32,
    pub(super) reordered: u32,
    pub(super) evictions: u32,
    /// Versions that someone waits for, and looks at when the lease that began before them is over.
    pub(super) awaited: u32,
    /// Lookups of another thread between the steps of a change of the cache.
    pub(super) peeks: u32,
    /// Reads that rest in the middle of their look at the cache.
    pub(super) descheduled: u32,
    pub(super) bad_messages: u32,
    pub(super) refused_orders: u32,
    pub(super) log_page: usize,
    pub(super) batch: usize,
    pub(super) lanes: NonZeroUsize,
    pub(super) warm_up: usize,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Whether what the stream holds is fed in again after the database was restored.
    pub(super) replay_after_restore: bool,
    /// Between two rounds, with publishers quiet and everything consumed, the stream is deleted and made anew.
    pub(super) recreate_stream: bool,
    /// And after another round it is set back to what it was before it was deleted.
    pub(super) restore_stream: bool,
}

/// What befalls a history from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The database cannot be reached: by one replica or by all, refusing or silent.
    DatabaseLost,
    BusLost,
    /// Every subscription ends.
    SubscriptionsEnd,
    /// The bus delivers everything anew.
    AcksForgotten,
    /// The log keeps its newest entry only.
    LogPruned,
    /// A replica is killed, and another started in its place.
    Kill,
    /// A replica is stopped as it should be, and another started in its place.
    Stop,
    /// The clock of the bus goes back.
    ClockStepsBack,
    /// Someone replays the dead letters, now that the database takes what it refused.
    LettersReplayed,
    /// The database goes back to an earlier state. What was acknowledged since is fed in again at the end.
    DatabaseRestored,
}

impl Plan {
    pub(super) fn draw(dice: &Dice) -> Self {
        let often = || dice.pick(&[0, 0, 60, 250, 500]);
        let seldom = || dice.pick(&[0, 0, 30, 120]);
        let mut kinds = vec![
            Fault::DatabaseLost,
            Fault::BusLost,
            Fault::SubscriptionsEnd,
            Fault::AcksForgotten,
            Fault::LogPruned,
            Fault::Kill,
            Fault::Stop,
            Fault::ClockStepsBack,
            Fault::LettersReplayed,
        ];
        // What the bus no longer holds cannot be fed in again, so a history has one of the two.
        let recreate_stream = dice.chance(80);
        if !recreate_stream {
            kinds.push(Fault::DatabaseRestored);
        }
        let mut faults: Vec<(Duration, Fault)> = (0..dice.pick(&[0, 1, 1, 2, 2, 3]))
            .map(|_| (dice.millis(0..3_500), dice.pick(&kinds)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Plan {
            replicas: dice.pick(&[1, 2, 2, 2, 2, 3]),
            uids: dice.within(1..UIDS + 1),
            read_deadline: Duration::from_millis(dice.pick(&[1_500, 1_500, 1_500, 4_000])),
            publishers: dice.within(1..3),
            readers: dice.within(1..3),
            messages: dice.within(2..6),
            slow_stores: often(),
            slow_reads: often(),
            slow_looks: dice.pick(&[0, 60, 250, 500, 800]),
            slow_warm_ups: dice.pick(&[0, 250, 700]),
            slow_bus: seldom(),
            failures: dice.pick(&[0, 0, 20, 150]),
            missed_notices: dice.pick(&[0, 300, 1_000]),
            lost_acks: often(),
            duplicates: often(),
            reordered: often(),
            evictions: seldom(),
            awaited: dice.pick(&[0, 500, 1_000]),
            peeks: dice.pick(&[0, 300]),
            descheduled: dice.pick(&[0, 0, 200]),
            bad_messages: seldom(),
            refused_orders: dice.pick(&[0, 0, 0, 100]),
            log_page: dice.within(1..6),
            batch: dice.within(1..7),
            lanes: dice.pick(&[1, 2, 2, 3].map(|lanes| NonZeroUsize::new(lanes).expect("not zero"))),
            warm_up: dice.pick(&[0, 100, 100]),
            faults,
            replay_after_restore: dice.chance(500),
            recreate_stream,
            restore_stream: dice.chance(500),
        }
    }
}
