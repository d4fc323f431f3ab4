//! `cargo xtask chaos`: everything real, everything broken, and every promise checked.

mod broker;
mod checker;
mod database;
mod family;
mod faults;
mod history;
mod proxy;
mod publisher;
mod reader;
mod recorder;
mod replica;
mod report;
mod round;
mod world;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use xtask::account::Account;
use xtask::folders;
use xtask::orders::Dice;
use xtask::progress::Progress;
use xtask::servers::Binaries;

use self::database::Database;
use self::faults::{FaultKind, Plan};
use self::publisher::Publisher;
use self::reader::Reader;
use self::recorder::{Recorder, Shop};
use self::report::Report;
use self::round::{Arena, Journal};
use self::world::World;
use crate::{arguments, cargo};

/// How many ask each replica at once.
const READERS_A_REPLICA: u64 = 2;
/// How many violations are shown; more of them tell no more.
const SHOWN: usize = 20;

/// Breaks everything while orders are published and read, and checks that nothing is lost, stale or torn.
///
/// Runs a PostgreSQL, a nats-server and replicas of order-tracker of its own. In each round orders, new versions of them and bad messages
/// are published and every acknowledgement is recorded; every replica is asked for orders all the time; and components
/// are killed, frozen, cut off and silenced as the seed says. When all has come back, every acknowledged message must be
/// in the four tables at its newest version or in dead_letters, and no answer may have been older than promised.
///
/// The same seed gives the same orders and the same faults at the same times; what these meet differs from run to run. Ends at
/// the first round with a violation, and keeps its logs.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask chaos\n  cargo xtask chaos --rounds 100 --seed 7\n  cargo xtask chaos --faults kill-nats,freeze-postgres --replicas 5"
)]
pub(crate) struct Chaos {
    /// How many rounds.
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// What decides which faults come when; a new one where none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many replicas.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    replicas: u8,
    /// How many seconds orders are published and faults injected in each round.
    #[arg(long, default_value_t = 8, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// Which faults; all of them where none are named.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    faults: Vec<FaultKind>,
    /// A setting of the replicas, to see what it breaks: `--set CACHE__LEASE=10s` makes stale answers that are found.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = arguments::setting)]
    settings: Vec<(String, String)>,
    /// The order-tracker to run, built already; built first where none is given.
    #[arg(long, value_name = "BINARY")]
    service: Option<PathBuf>,
}

impl Chaos {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let progress = Progress::new(2);
        progress.begin("Finding PostgreSQL and nats-server");
        let binaries = Binaries::find(&Account::for_postgres(), &progress)?;
        progress.end();
        drop(progress);
        let service = match &self.service {
            Some(service) => service.canonicalize().context("there is no such --service")?,
            None => {
                eprintln!("Building order-tracker …");
                cargo::build_service(false, None)?
            }
        };
        let seed = self.seed.unwrap_or_else(new_seed);
        let logs = folders::temporary("order-tracker-chaos-logs", &Account::current())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut report = Report::default();
        let played = runtime.block_on(async {
            let played =
                std::panic::AssertUnwindSafe(self.play(binaries, &service, seed, &logs, &mut report));
            tokio::select! {
                // What was begun is dropped here, and with it everything that runs.
                played = played.catch_unwind() => played,
                () = interrupted() => Ok(Ok(false)),
            }
        });
        // Starting a server may still be under way; it is stopped as well.
        drop(runtime);
        let finished = match played {
            Ok(finished) => finished,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        println!("{}", report.table(seed, usize::from(self.replicas)));
        for violation in report.violations.iter().take(SHOWN) {
            println!("{}: {}", violation.kind, violation.text);
        }
        if report.violations.len() > SHOWN {
            println!("… and {} more", report.violations.len() - SHOWN);
        }
        if report.violations.is_empty() && finished.is_ok() {
            fs::remove_dir_all(&logs).context("cannot remove the logs")?;
        } else {
            println!("The logs are in {}.", logs.display());
        }
        if !finished? {
            eprintln!("Stopped before the end.");
            return Ok(ExitCode::FAILURE);
        }
        Ok(if report.violations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Plays all rounds, or up to the first with a violation.
    async fn play(
        &self,
        binaries: Binaries,
        service: &Path,
        seed: u64,
        logs: &Path,
        report: &mut Report,
    ) -> Result<bool> {
        let replicas = usize::from(self.replicas);
        let duration = Duration::from_secs(self.duration);
        let kinds = if self.faults.is_empty() {
            FaultKind::all()
        } else {
            self.faults.clone()
        };
        eprintln!(
            "seed {seed}, {replicas} replicas of {}, logs in {}",
            service.display(),
            logs.display()
        );
        let world = World::start(binaries, service, replicas, &self.settings, logs).await?;
        let recorder = Arc::new(Recorder::new());
        let shop = Arc::new(Shop::new(seed));
        let publisher = Publisher::connect(
            &world.nats_url().await,
            seed,
            Arc::clone(&recorder),
            Arc::clone(&shop),
        )
        .await?;

        // Ended when this is dropped.
        let mut onlookers = JoinSet::new();
        let database = Database::new(world.postgres_url());
        onlookers.spawn(database.watch(Arc::clone(&recorder), Arc::clone(&shop)));
        for (index, replica) in world.replicas.iter().enumerate() {
            for reader in 0..READERS_A_REPLICA {
                let dice = Dice::new(seed, u64::MAX - 2 - READERS_A_REPLICA * index as u64 - reader);
                let reader = Reader::new(index, replica.address());
                onlookers.spawn(reader.run(Arc::clone(&recorder), Arc::clone(&shop), dice));
            }
        }

        let journal = File::create(logs.join("faults.log")).context("cannot write the logs")?;
        let mut arena = Arena {
            database: Database::new(world.postgres_url()),
            world,
            publisher,
            recorder,
            shop,
            journal: Journal::new(journal),
        };
        for round in 0..self.rounds {
            let plan = Plan::new(seed, round, &kinds, replicas, duration);
            let began = Instant::now();
            let (injected, answers) = arena.play(&plan, duration, report).await?;
            report.longest = report.longest.max(began.elapsed());
            let names: Vec<String> = injected.iter().map(FaultKind::to_string).collect();
            eprintln!(
                "round {:<4} {:>5.1} s  {}  {answers}; {}",
                round + 1,
                began.elapsed().as_secs_f64(),
                if report.violations.is_empty() {
                    "ok"
                } else {
                    "VIOLATED"
                },
                names.join(", ")
            );
            if !report.violations.is_empty() {
                break;
            }
        }
        Ok(true)
    }
}

/// Ctrl-C, SIGTERM, or the terminal closed.
pub(crate) async fn interrupted() {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals = kinds.map(|kind| {
        async move {
            match signal(kind) {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(_) => std::future::pending().await,
            }
        }
        .boxed()
    });
    futures::future::select_all(signals).await;
}

/// A seed that is easy to type again.
fn new_seed() -> u64 {
    let now = jiff::Timestamp::now();
    now.as_microsecond().unsigned_abs() % 1_000_000
}
