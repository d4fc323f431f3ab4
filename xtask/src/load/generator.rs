//! Sends the load: threads with runtimes and connections of their own, which share nothing while they run.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::gauge::{Gauge, Live};
use super::recorder::{Outcome, Recording};
use super::schedule::Schedule;
use super::turns::{Order, Turns};
use crate::cpu;

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many a second, each at its moment, whether the ones before have been answered or not.
    Rate(f64),
    /// As many as are answered: every worker sends its next when it has the answer to its last.
    Max,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// As many as fit into this time.
    Lasting(Duration),
    /// So many, in no more than this time.
    Count(u64, Duration),
}

/// A run of the generator.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How fast.
    pub pace: Pace,
    /// How much is measured.
    pub amount: Amount,
    /// For how long the same load runs before that, which is not written down.
    pub warm_up: Duration,
    /// How many requests can be under way at once, over all threads.
    pub workers: usize,
    /// How many threads send. Each takes a core when it can send no more.
    pub threads: usize,
    /// For how long after the end requests that are late may still be sent. What was not sent then counts as failed.
    pub patience: Duration,
}

/// A kind of request.
pub trait Work: Clone + Send + 'static {
    /// What sends one request after another.
    type Worker: Worker + 'static;

    /// How many classes of requests are told apart.
    fn classes(&self) -> usize;

    /// Makes the workers of one thread, connected and ready. They stay on that thread.
    ///
    /// # Errors
    ///
    /// Where the server cannot be reached.
    fn workers(&self, count: usize) -> impl Future<Output = Result<Vec<Self::Worker>>>;
}

/// What sends one request after another, over a connection of its own or a shared one.
pub trait Worker {
    /// Sends the request with this number, which no other has in this run, and waits for the answer; not without end.
    fn perform(&mut self, number: u64) -> impl Future<Output = Outcome>;
}

/// What a run gave.
#[derive(Debug)]
pub struct Measured {
    /// What was written down.
    pub recording: Recording,
    /// From the end of the warm-up to the end of the schedule, or to the last answer of a closed loop.
    pub duration: Duration,
    /// What sending it took of this machine.
    pub effort: Effort,
}

/// What the generator itself took: whether it was it that could do no more.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Effort {
    /// How many threads sent.
    pub threads: usize,
    /// CPU time of all of them.
    pub busy: Duration,
    /// How long they were ready to run and had no core; `None` where the system does not tell.
    pub waited: Option<Duration>,
    /// How long the run took, the warm-up included.
    pub wall: Duration,
}

impl Effort {
    /// The share of the time in which the threads were busy: near 1, the generator was the limit.
    pub fn busy_share(&self) -> f64 {
        self.share(self.busy)
    }

    /// The share of the time in which they had to wait for a core.
    pub fn waited_share(&self) -> Option<f64> {
        self.waited.map(|waited| self.share(waited))
    }

    fn share(&self, of: Duration) -> f64 {
        of.as_secs_f64() / (self.wall.as_secs_f64() * self.threads as f64).max(1e-9)
    }
}

/// A run under way. It stops when this is dropped.
#[derive(Debug)]
pub struct Generator {
    results: mpsc::UnboundedReceiver<Result<Part>>,
    live: Vec<Arc<Live>>,
    start: Instant,
    threads: usize,
    stop: CancellationToken,
}

/// What one thread gave.
#[derive(Debug)]
struct Part {
    recording: Recording,
    duration: Duration,
    effort: Effort,
}

impl Generator {
    /// Starts a run: returns when all workers are connected and the first request is about to be sent.
    ///
    /// # Errors
    ///
    /// Where the server cannot be reached, or the plan has nothing to do.
    pub async fn start<W: Work>(plan: &Plan, work: W) -> Result<Generator> {
        ensure!(
            plan.workers > 0 && plan.threads > 0,
            "a run needs a thread and a connection"
        );
        let threads = plan.threads.min(plan.workers);
        let (gate, opened) = watch::channel(None);
        let (ready, mut readiness) = mpsc::unbounded_channel();
        let (give, results) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let mut live = Vec::new();
        for index in 0..threads {
            let mine = Arc::new(Live::default());
            live.push(Arc::clone(&mine));
            let (work, plan, opened, ready) = (work.clone(), plan.clone(), opened.clone(), ready.clone());
            let (give, stop) = (give.clone(), stop.clone());
            let body = move || {
                let thread = Thread {
                    index: index as u64,
                    threads: threads as u64,
                    plan,
                    live: mine,
                };
                let part = thread.run(work, opened, &ready, stop);
                // Nobody listens any more where the run was given up.
                give.send(part).ok();
            };
            std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(body)
                .context("cannot start a thread")?;
        }
        drop(ready);
        // Stops the threads that were started, should one of them fail.
        let mut generator = Generator {
            results,
            live,
            start: Instant::now(),
            threads,
            stop,
        };
        for _ in 0..threads {
            tokio::select! {
                Some(()) = readiness.recv() => {}
                // Nobody has a result yet but who failed.
                failed = generator.results.recv() => {
                    return Err(failed.and_then(Result::err).unwrap_or_else(broke_down));
                }
            }
        }
        // A moment for the threads to come back to their runtimes.
        generator.start = Instant::now() + Duration::from_millis(20);
        gate.send_replace(Some(generator.start));
        Ok(generator)
    }

    /// When the first request is meant to be sent.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// What tells how far it is.
    pub fn gauge(&self) -> Gauge {
        Gauge::new(self.live.clone())
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// Where a thread broke down.
    pub async fn finish(mut self) -> Result<Measured> {
        let mut all: Option<Measured> = None;
        for _ in 0..self.threads {
            let Part {
                recording,
                duration,
                effort,
            } = self.results.recv().await.ok_or_else(broke_down)??;
            match &mut all {
                None => {
                    all = Some(Measured {
                        recording,
                        duration,
                        effort,
                    });
                }
                Some(all) => {
                    all.recording.add(recording);
                    all.duration = all.duration.max(duration);
                    all.effort.threads += effort.threads;
                    all.effort.busy += effort.busy;
                    all.effort.waited = all.effort.waited.zip(effort.waited).map(|(a, b)| a + b);
                    all.effort.wall = all.effort.wall.max(effort.wall);
                }
            }
        }
        all.context("no thread ran")
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn broke_down() -> anyhow::Error {
    anyhow!("a thread of the generator broke down")
}

/// One of the threads.
struct Thread {
    index: u64,
    threads: u64,
    plan: Plan,
    live: Arc<Live>,
}

impl Thread {
    fn run<W: Work>(
        self,
        work: W,
        mut opened: watch::Receiver<Option<Instant>>,
        ready: &mpsc::UnboundedSender<()>,
        stop: CancellationToken,
    ) -> Result<Part> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, async {
            let ran = stop.run_until_cancelled(async {
                let workers = work.workers(self.workers()).await?;
                ready.send(()).ok();
                let start = opened.wait_for(Option::is_some).await.map_err(|_| broke_down())?;
                let start = start.context("there is a start")?;
                tokio::time::sleep_until(start.into()).await;
                self.send(work.classes(), workers, start).await
            });
            ran.await.unwrap_or_else(|| Err(anyhow!("the run was given up")))
        })
    }

    /// This thread's part of the workers.
    fn workers(&self) -> usize {
        (self.plan.workers as u64 - self.index).div_ceil(self.threads) as usize
    }

    async fn send<W: Worker + 'static>(
        &self,
        classes: usize,
        workers: Vec<W>,
        start: Instant,
    ) -> Result<Part> {
        let (order, lasts) = self.order();
        let turns = Rc::new(Turns::new(order, start));
        let measured_from = start + self.plan.warm_up;
        let known = match (self.plan.pace, self.plan.amount) {
            (Pace::Max, Amount::Count(..)) => None,
            (Pace::Rate(_), _) | (Pace::Max, Amount::Lasting(_)) => Some(lasts),
        };
        let recording = Recording::new(classes, measured_from, known.unwrap_or_default());
        let recording = Rc::new(RefCell::new(recording));
        let (busy, waited) = (cpu::of_this_thread(), cpu::waited_by_this_thread());

        let count = workers.len();
        let mut sending = JoinSet::new();
        for mut worker in workers {
            let (turns, recording) = (Rc::clone(&turns), Rc::clone(&recording));
            let (live, index, threads) = (Arc::clone(&self.live), self.index, self.threads);
            sending.spawn_local(async move {
                while let Some((number, meant)) = turns.next().await {
                    let sent = Instant::now();
                    let outcome = worker.perform(index + number * threads).await;
                    let done = Instant::now();
                    live.note(done.saturating_duration_since(meant), &outcome);
                    recording.borrow_mut().record(meant, sent, done, outcome);
                }
            });
        }
        let all_sent = async {
            while let Some(ended) = sending.join_next().await {
                ended.context("sending broke down")?;
            }
            anyhow::Ok(())
        };
        let keeping_time = async {
            match turns.keep_time(count).await {
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error).context("cannot keep time"),
            }
        };
        tokio::select! {
            ended = all_sent => ended?,
            failed = keeping_time => failed?,
        }
        let end = Instant::now();
        let mut recording = recording.borrow_mut();
        for meant in turns.unsent() {
            recording.record_unsent(meant, end);
        }
        let effort = Effort {
            threads: 1,
            busy: cpu::of_this_thread().saturating_sub(busy),
            waited: cpu::waited_by_this_thread()
                .zip(waited)
                .map(|(now, before)| now.saturating_sub(before)),
            wall: end.duration_since(start),
        };
        let duration = known.unwrap_or(recording.last_done);
        let empty = Recording::new(classes, measured_from, Duration::ZERO);
        Ok(Part {
            recording: std::mem::replace(&mut *recording, empty),
            duration,
            effort,
        })
    }

    /// This thread's part of the requests, and how long what is measured of them lasts.
    fn order(&self) -> (Order, Duration) {
        let Plan {
            pace,
            amount,
            warm_up,
            patience,
            ..
        } = self.plan;
        let share = |schedule: Schedule| schedule.share(self.index, self.threads);
        match (pace, amount) {
            (Pace::Rate(rate), Amount::Lasting(lasts)) => {
                let count = (rate * (warm_up + lasts).as_secs_f64()).round() as u64;
                let share = share(Schedule::new(rate, count));
                (Order::Scheduled { share, patience }, lasts)
            }
            (Pace::Rate(rate), Amount::Count(count, _)) => {
                let count = (rate * warm_up.as_secs_f64()).round() as u64 + count;
                let schedule = Schedule::new(rate, count);
                let lasts = schedule.due(count).saturating_sub(warm_up);
                (
                    Order::Scheduled {
                        share: share(schedule),
                        patience,
                    },
                    lasts,
                )
            }
            (Pace::Max, Amount::Lasting(lasts)) => {
                let (count, whole) = (u64::MAX, warm_up + lasts);
                (Order::AtOnce { count, lasts: whole }, lasts)
            }
            (Pace::Max, Amount::Count(count, within)) => {
                // The rate only divides the requests among the threads.
                let count = share(Schedule::new(1.0, count)).count();
                (Order::AtOnce { count, lasts: within }, within)
            }
        }
    }
}
