//! A seeded model of the whole service: the real [`Ingestor`](crate::Ingestor), [`Coherence`](crate::Coherence),
//! [`LogFollower`](crate::LogFollower), [`OrderService`](crate::OrderService) and [`warm_up`](crate::warm_up) of several replicas, on ports in
//! memory that do their worst, against the promises.
//!
//! One seed decides one **history**: how many replicas, publishers and readers there are, which hazards it has, and every single
//! wait, loss, repetition and choice. Time is tokio's, paused, so that a history of half a minute takes a millisecond or two, and
//! the same seed gives the same history again. (But for the hash that spreads uids over the stamps: two of a history's few
//! uids share a stamp once in some thousand runs, which costs a fill.)
//!
//! A port call takes its time before its effect and after it, so that a read's snapshot is old when it arrives, and a commit is
//! visible long before its caller knows. Calls fail before or after their effect; replicas are killed and stopped; the database is cut off,
//! silent or refusing, and restored; the log is pruned; the bus forgets acknowledgements, delivers late, twice and out of order, ends subscriptions,
//! steps its clock back, is recreated, and is restored to what it was before. Someone replays dead letters meanwhile. The cache evicts, readers of
//! other threads look between two steps of its changes, and readers lose their processor in the middle of a look.
//!
//! What is held, for every history:
//!
//! - nothing is acknowledged to the bus that is not stored;
//! - every answer is an order that was stored, with its very bytes, and at least as new as any that was visible two seconds before the read
//!   began; one that carries an age, as any that was visible so long before it;
//! - no order is answered to be absent that was visible all the while since two seconds before the read began;
//! - no answer lacks proof but while the database is lost, and never where proof is required;
//! - no read takes longer than its deadline, no orderly end longer than its own;
//! - no version that may be the newest in truth vanishes because the clock of the bus stepped back;
//! - when all is calm everything is consumed: each order is stored at its newest revision, each message that can never become one is
//!   a dead letter, nothing else is there, every replica serves the newest, and none still keeps a document that it was about to commit.
//!
//! ```
//! use order_domain::testing::memory::MemoryCache;
//! use order_domain::testing::model::Model;
//!
//! let model = Model::over(MemoryCache::default);
//! let counts = model.run_all(0..20).unwrap_or_else(|violation| panic!("{violation}"));
//! assert_eq!(counts.histories, 20);
//! ```

mod bus;
mod cache;
mod database;
mod descheduled;
mod history;
mod ledger;
mod plan;
mod replica;
mod samples;
mod world;

use std::fmt;
use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::history::History;
use self::plan::{Dice, Plan};
use self::world::World;
use crate::OrderCache;

/// The lease of every replica, and so the bound on how stale an answer may be.
const LEASE: Duration = Duration::from_secs(2);

type MakeCache = Arc<dyn Fn() -> Arc<dyn OrderCache> + Send + Sync>;

/// The model, over one kind of cache.
#[derive(Clone)]
pub struct Model {
    make_cache: MakeCache,
}

/// What happened in one history or in many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Histories that were run.
    pub histories: u64,
    /// Messages that were published.
    pub published: u64,
    /// Messages that were delivered again.
    pub redelivered: u64,
    /// Reads that were answered.
    pub answers: u64,
    /// Those that there was no such order.
    pub absent: u64,
    /// Those that were not proven and said so.
    pub aged: u64,
    /// Reads that could not be answered.
    pub unavailable: u64,
    /// Outages, crashes and the like.
    pub faults: u64,
    /// Looks at the log that found that it does not lead on.
    pub gaps: u64,
    /// Streams that were deleted and made anew.
    pub recreated: u64,
    /// Dead letters that were taken in after all.
    pub replayed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.histories += more.histories;
        self.published += more.published;
        self.redelivered += more.redelivered;
        self.answers += more.answers;
        self.absent += more.absent;
        self.aged += more.aged;
        self.unavailable += more.unavailable;
        self.faults += more.faults;
        self.gaps += more.gaps;
        self.recreated += more.recreated;
        self.replayed += more.replayed;
    }
}

/// A promise was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The history in which it was.
    pub seed: u64,
    /// Which promise, and how.
    pub what: String,
    /// What happened in that history, an event a line.
    pub history: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.history {
            writeln!(f, "{event}")?;
        }
        write!(
            f,
            "the history of seed {} broke a promise: {}",
            self.seed, self.what
        )
    }
}

impl std::error::Error for Violation {}

impl Model {
    /// Over the caches that this makes, one for each start of a replica.
    pub fn over<C: OrderCache + 'static>(make_cache: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Model {
            make_cache: Arc::new(move || Arc::new(make_cache())),
        }
    }

    /// Runs one history.
    ///
    /// # Errors
    ///
    /// It broke a promise. The violation tells the whole history.
    pub fn run(&self, seed: u64) -> Result<Counts, Violation> {
        // Writing everything down takes longer than all the rest, so it is done for those only that are read.
        self.run_once(seed, false)
            .map_err(|violation| self.run_once(seed, true).err().unwrap_or(violation))
    }

    /// Runs the histories of many seeds on all cores.
    ///
    /// # Errors
    ///
    /// One of them broke a promise: the one of the lowest seed that was found until then. No further ones are begun.
    pub fn run_all(&self, seeds: Range<u64>) -> Result<Counts, Violation> {
        let next = AtomicU64::new(seeds.start);
        let total: Mutex<Counts> = Mutex::default();
        let first: Mutex<Option<Violation>> = Mutex::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut counts = Counts::default();
                    loop {
                        let seed = next.fetch_add(1, SeqCst);
                        if seed >= seeds.end {
                            break;
                        }
                        match self.run(seed) {
                            Ok(more) => counts += more,
                            Err(violation) => {
                                next.store(seeds.end, SeqCst);
                                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                                if first.as_ref().is_none_or(|it| it.seed > violation.seed) {
                                    *first = Some(violation);
                                }
                            }
                        }
                    }
                    *total.lock().unwrap_or_else(PoisonError::into_inner) += counts;
                });
            }
        });
        match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(violation) => Err(violation),
            None => Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn run_once(&self, seed: u64, trace: bool) -> Result<Counts, Violation> {
        let make_cache = Arc::clone(&self.make_cache);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            // What the use cases draw themselves, the jitter of their waits.
            fastrand::seed(seed);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime without input and output needs nothing");
            runtime.block_on(async {
                let dice = Dice::new(seed);
                let plan = Plan::draw(&dice);
                let world = Arc::new(World::new(plan, dice, trace));
                History::run(Arc::clone(&world), make_cache).await;
                let mut ledger = world.ledger();
                ledger.counts.histories = 1;
                let violation = ledger.violation().map(str::to_owned);
                (ledger.counts, violation, ledger.trace.take().unwrap_or_default())
            })
        }));
        match ran {
            Ok((counts, None, _)) => Ok(counts),
            Ok((_, Some(what), history)) => Err(Violation { seed, what, history }),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("for no reason given");
                Err(Violation {
                    seed,
                    what: format!("it panicked: {text}"),
                    history: Vec::new(),
                })
            }
        }
    }
}
