//! The runs themselves: at one pace each, by our own generator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::cpu;
use xtask::load::{Amount, Generator, HttpWork, Measured, Pace, Plan};

use super::args::{PaceArgs, Publishing};
use super::database::{self, Watcher};
use super::lag::Prober;
use super::progress::{Line, Shown};
use super::publishing::{Ledger, Publish};
use super::report::{CpuUse, Ingest, Latencies, Load, Run};
use super::saturation;
use super::stock::Stock;
use super::targets::{CLASSES, Targets};
use super::world::World;

/// For how long requests that are late may still be sent after the end.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long no order may become durable, and after that none readable, until it counts as lost.
const STALLED: Duration = Duration::from_secs(60);
/// The longest that a count of orders may take.
const AT_MOST: Duration = Duration::from_secs(3_600);

/// What all runs of one call share.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) world: World,
    pub(super) stock: Arc<Stock>,
    pub(super) seed: u64,
    /// The name of this call.
    pub(super) run: String,
    /// The number of the next order to publish.
    pub(super) next_order: u64,
    /// Where results go.
    pub(super) folder: PathBuf,
}

/// Publishing under way, with everyone who looks at what becomes of it.
struct Ingesting {
    generator: Generator,
    first: u64,
    ledger: Arc<Ledger>,
    prober: Prober,
    watcher: Watcher,
    redelivered_before: Option<u64>,
}

impl Session {
    /// Asks for orders at this pace.
    ///
    /// # Errors
    ///
    /// Where the service cannot be reached.
    pub(super) async fn read(&self, args: &PaceArgs, pace: Pace, targets: &Targets) -> Result<Run> {
        let cpu = CpuTimes::of(&self.world);
        let generator = self.start_reading(args, pace, targets).await?;
        let shown = Shown::new(&generator, args, "read", rate_of(pace));
        let measured = Line::until(generator.finish(), vec![shown], None).await?;
        let load = Load::new(&measured, &CLASSES, rate_of(pace), args.connections());
        let run = Run {
            reads: Some(load),
            cpu: cpu.until_now(&self.world),
            ..Run::new("read", pace)
        };
        Ok(saturation::judged(run))
    }

    /// Publishes orders at this pace: `count` of them, or as many as fit into the time.
    ///
    /// # Errors
    ///
    /// Where the broker or the database cannot be reached.
    pub(super) async fn ingest(
        &mut self,
        args: &PaceArgs,
        pace: Pace,
        count: Option<u64>,
        publishing: &Publishing,
    ) -> Result<Run> {
        let cpu = CpuTimes::of(&self.world);
        let amount = count.map_or(Amount::Lasting(args.duration()), |count| {
            Amount::Count(count, AT_MOST)
        });
        let warm_up = if count.is_some() {
            Duration::ZERO
        } else {
            args.warmup
        };
        let (ingesting, started) = self
            .start_publishing(args, pace, amount, warm_up, publishing)
            .await?;
        let shown = Shown::new(&ingesting.generator, args, "publish", rate_of(pace)).of(count);
        let committed = ingesting.watcher.counter();
        let ledger = Arc::clone(&ingesting.ledger);
        let settled = self.settle(ingesting, started);
        let (measured, mut ingest, line) =
            Line::until_with(settled, vec![shown], Some((ledger, committed, started))).await?;
        ingest.progress = line;
        let in_flight = publishing.in_flight as usize;
        let run = Run {
            publishes: Some(Load::new(&measured, &["publish"], rate_of(pace), in_flight)),
            ingest: Some(ingest),
            cpu: cpu.until_now(&self.world),
            ..Run::new("ingest", pace)
        };
        Ok(saturation::judged(run))
    }

    /// Reads at this pace while orders are published at another.
    ///
    /// # Errors
    ///
    /// Where something cannot be reached.
    pub(super) async fn mixed(
        &mut self,
        args: &PaceArgs,
        pace: Pace,
        targets: &Targets,
        publish_rate: f64,
        publishing: &Publishing,
    ) -> Result<Run> {
        let cpu = CpuTimes::of(&self.world);
        let publish_pace = Pace::Rate(publish_rate);
        let amount = Amount::Lasting(args.duration());
        let (ingesting, started) = self
            .start_publishing(args, publish_pace, amount, args.warmup, publishing)
            .await?;
        let generator = self.start_reading(args, pace, targets).await?;
        let shown = vec![
            Shown::new(&generator, args, "read", rate_of(pace)),
            Shown::new(&ingesting.generator, args, "publish", Some(publish_rate)),
        ];
        let committed = ingesting.watcher.counter();
        let ledger = Arc::clone(&ingesting.ledger);
        let both = async {
            let (read, settled) = tokio::join!(generator.finish(), self.settle(ingesting, started));
            let (published, ingest) = settled?;
            Ok(((read?, published), ingest))
        };
        let ((read, published), mut ingest, line) =
            Line::until_with(both, shown, Some((ledger, committed, started))).await?;
        ingest.progress = line;
        let in_flight = publishing.in_flight as usize;
        let run = Run {
            reads: Some(Load::new(&read, &CLASSES, rate_of(pace), args.connections())),
            publishes: Some(Load::new(&published, &["publish"], Some(publish_rate), in_flight)),
            ingest: Some(ingest),
            cpu: cpu.until_now(&self.world),
            ..Run::new("mixed", pace)
        };
        Ok(saturation::judged(run))
    }

    async fn start_reading(&self, args: &PaceArgs, pace: Pace, targets: &Targets) -> Result<Generator> {
        let plan = Plan {
            pace,
            amount: Amount::Lasting(args.duration()),
            warm_up: args.warmup,
            workers: args.connections(),
            threads: args.threads(),
            patience: PATIENCE,
        };
        let work = HttpWork::new(&self.world.endpoint, targets.classes(), self.seed, args.timeout)?;
        Generator::start(&plan, work).await
    }

    async fn start_publishing(
        &mut self,
        args: &PaceArgs,
        pace: Pace,
        amount: Amount,
        warm_up: Duration,
        publishing: &Publishing,
    ) -> Result<(Ingesting, Instant)> {
        let broker = self
            .world
            .broker
            .clone()
            .context("give --nats: there is no broker to publish to")?;
        let database = self.world.database.as_ref();
        let database = database.context("give --postgres: whether orders are durable is seen there")?;
        let redelivered_before = broker.redeliveries().await.ok();
        let watcher = Watcher::start(database).await?;
        let orders = match amount {
            Amount::Count(count, _) => count as f64,
            Amount::Lasting(lasts) => rate_of(pace).unwrap_or_default() * (warm_up + lasts).as_secs_f64(),
        };
        let one_in = (orders / publishing.samples as f64).max(1.0) as u64;
        let one_in = (publishing.samples > 0).then_some(one_in);
        let (prober, sample) = Prober::start(&self.world.endpoint, one_in);
        let ledger = Arc::new(Ledger::default());
        let first = self.next_order;
        let work = Publish {
            stock: Arc::clone(&self.stock),
            first,
            broker: broker.settings,
            run: self.run.clone(),
            timeout: args.timeout,
            ledger: Arc::clone(&ledger),
            sample,
        };
        let plan = Plan {
            pace,
            amount,
            warm_up,
            workers: publishing.in_flight as usize,
            // One, so that what was sent is a row of numbers without a gap.
            threads: 1,
            patience: PATIENCE,
        };
        let generator = Generator::start(&plan, work).await?;
        let started = generator.started();
        let ingesting = Ingesting {
            generator,
            first,
            ledger,
            prober,
            watcher,
            redelivered_before,
        };
        Ok((ingesting, started))
    }

    /// Waits until all is published and durable, and counts what there is then.
    async fn settle(&mut self, ingesting: Ingesting, started: Instant) -> Result<(Measured, Ingest)> {
        let Ingesting {
            generator,
            first,
            ledger,
            prober,
            watcher,
            redelivered_before,
        } = ingesting;
        let measured = generator.finish().await?;
        let publishing_took = started.elapsed().as_secs_f64();
        let (acknowledged, unanswered) = (ledger.acknowledged(), ledger.unanswered());
        let sent = acknowledged + unanswered.len() as u64;
        self.next_order += sent;
        let (durable, last) = watcher.wait_for(acknowledged, STALLED).await?;
        let durable_seconds = last.saturating_duration_since(started).as_secs_f64();
        let sightings = prober.finish(STALLED).await?;
        let redelivered = match &self.world.broker {
            Some(broker) => broker.redeliveries().await.ok(),
            None => None,
        };
        let database = self.world.database.as_ref().context("there is no database")?;
        let (found, expected) = database::rows(&database.connect().await?, &self.stock, first, sent).await?;
        let mut verdict = vec![format!(
            "{} orders, {} deliveries, {} payments and {} items for {sent} messages",
            found.orders, found.delivery, found.payment, found.items
        )];
        if found != expected {
            verdict.push(format!(
                "expected {} of each, and {} items",
                expected.orders, expected.items
            ));
        }
        if !unanswered.is_empty() {
            verdict.push(format!("{} messages were not acknowledged", unanswered.len()));
        }
        let complete = found == expected && unanswered.is_empty() && sightings.faults.is_empty();
        if complete {
            verdict.push("rows equal messages sent".to_owned());
        }
        verdict.extend(sightings.faults.iter().take(5).cloned());
        let ingest = Ingest {
            sent,
            acknowledged,
            acknowledge_rate: acknowledged as f64 / publishing_took.max(1e-9),
            durable,
            durable_rate: durable as f64 / durable_seconds.max(1e-9),
            durable_seconds,
            lag: Latencies::of(&sightings.lag),
            redeliveries: redelivered
                .zip(redelivered_before)
                .map(|(now, before)| now.saturating_sub(before)),
            complete,
            verdict,
            progress: Vec::new(),
        };
        Ok((measured, ingest))
    }
}

impl Run {
    pub(super) fn new(what: &str, pace: Pace) -> Run {
        let pace_shown = match pace {
            Pace::Rate(rate) => format!("at {}", super::report::rate(rate)),
            Pace::Max => "as fast as it goes".to_owned(),
        };
        Run {
            title: format!("{what} {pace_shown}"),
            tool: "own".to_owned(),
            target_rate: rate_of(pace),
            reads: None,
            publishes: None,
            ingest: None,
            cpu: Vec::new(),
            warnings: Vec::new(),
            saturated: false,
        }
    }
}

fn rate_of(pace: Pace) -> Option<f64> {
    match pace {
        Pace::Rate(rate) => Some(rate),
        Pace::Max => None,
    }
}

/// What the processes had taken when a run began.
#[derive(Debug)]
pub(super) struct CpuTimes {
    begin: Instant,
    times: Vec<Option<Duration>>,
}

impl CpuTimes {
    pub(super) fn of(world: &World) -> CpuTimes {
        CpuTimes {
            begin: Instant::now(),
            times: times(world),
        }
    }

    /// What they have taken since.
    pub(super) fn until_now(&self, world: &World) -> Vec<CpuUse> {
        let wall = self.begin.elapsed().as_secs_f64();
        let processes = world.processes.iter().zip(&self.times).zip(times(world));
        let used = processes.filter_map(|(((name, _), before), now)| {
            let seconds = now?.saturating_sub((*before)?).as_secs_f64();
            Some(CpuUse {
                name: (*name).to_owned(),
                seconds,
                cores: seconds / wall.max(1e-9),
            })
        });
        used.collect()
    }
}

fn times(world: &World) -> Vec<Option<Duration>> {
    let processes = world.processes.iter();
    processes.map(|(_, process)| cpu::of_family(process)).collect()
}
