//! `cargo xtask bench`: figures, each as a ratio to a floor that is measured in the same run.

mod copy;
mod figure;
mod http;
mod ingest;
mod lag;
mod orders;
mod read;
mod scale;
mod start;
mod world;
mod wrk;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;

use self::figure::Figure;
use self::world::World;
use crate::arguments::setting;
use crate::cargo;
use crate::chaos::interrupted;

/// Measures the service against floors, alternating, on servers of its own with fsync on.
///
/// A floor is the same work with nothing around it: a bare handler, a COPY, pgbench. Both are measured in turns in one run, and
/// the median of the rounds' ratios is what counts: this machine's speed falls out of it. The CPU time of each process stands
/// beside it. Without a WORK all are measured, which takes the better part of an hour.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench
  cargo xtask bench ingest updates --rounds 7
  cargo xtask bench stored --stored 10000,1000000 --postgres max_wal_size=8GB
  cargo xtask bench ingest --set INGEST__BATCH__MESSAGES=2000 --json result.json")]
pub(crate) struct Bench {
    /// Only these.
    #[arg(value_enum, value_name = "WORK")]
    only: Vec<Work>,
    #[command(flatten)]
    plan: Plan,
    /// With how many orders stored already an order's cost is compared; the fewest is the floor.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,1000000,5000000",
        value_name = "LIST"
    )]
    stored: Vec<u64>,
    /// How many orders are taken in on top of those, from one checkpoint to the next.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000), value_name = "COUNT")]
    on_top: u64,
    /// Writes the figures down as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A setting of PostgreSQL, which is measured as it comes otherwise.
    #[arg(long, value_name = "NAME=VALUE")]
    postgres: Vec<String>,
    /// The order-tracker to measure, built already; a release is built where none is given.
    #[arg(long, value_name = "BINARY")]
    service: Option<PathBuf>,
    /// The bare handler to measure it against, built already; a release is built where none is given.
    #[arg(long, value_name = "BINARY")]
    bare: Option<PathBuf>,
    /// Measures with this program as it is built, instead of building a release of it first: to try things out.
    #[arg(long)]
    as_built: bool,
}

/// How much is measured.
#[derive(Debug, Clone, Args)]
struct Plan {
    /// How many orders, of three items each.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    orders: u64,
    /// How often each side is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// For how many seconds each side is asked in a round, where it is asked for a time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// A setting of the service, without `ORDERS__`, to see what it changes.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

impl Plan {
    fn lasts(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// These settings of the service, and after them those that were given and win.
    fn with(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        own.chain(self.settings.iter().cloned()).collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Reads from the cache. Needs wrk.
    Hot,
    /// New orders from a full stream into the tables, and what that takes of the service itself.
    Ingest,
    /// New versions of stored orders, the same way.
    Updates,
    /// Reads from the database. Needs wrk, and pgbench beside PostgreSQL.
    Cold,
    /// The time of a warm-up, and the memory of what is cached.
    WarmUp,
    /// From publishing an order until it can be read, at 1,000 orders a second.
    Lag,
    /// Ingestion on top of what is stored.
    Stored,
    /// Ingestion by several replicas.
    Replicas,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if cfg!(debug_assertions) && !self.as_built {
            return cargo::run_a_release(self.service.is_none());
        }
        let service = match &self.service {
            Some(service) => service.canonicalize().context("there is no such --service")?,
            None => cargo::build_service(true, None)?,
        };
        let works = if self.only.is_empty() {
            Work::value_variants()
        } else {
            &self.only
        };
        let bare = match &self.bare {
            Some(bare) => bare.canonicalize().context("there is no such --bare")?,
            None if works.contains(&Work::Hot) => cargo::build_bare()?,
            None => PathBuf::new(),
        };
        let mut world = World::start(service, bare, &self.postgres)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let figures = runtime.block_on(async {
            tokio::select! {
                figures = self.measure(works, &mut world) => figures.map(Some),
                () = interrupted() => Ok(None),
            }
        })?;
        Ok(match figures {
            Some(figures) if figures.iter().all(Figure::holds) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    async fn measure(&self, works: &[Work], world: &mut World) -> Result<Vec<Figure>> {
        let environment = world.environment().await?;
        eprintln!("{environment}");
        for warning in environment.warnings() {
            eprintln!("{warning}");
        }
        println!("{}", figure::HEAD);
        let mut figures = Vec::new();
        for work in works {
            let measured = match work {
                Work::Hot => vec![read::hot(world, &self.plan).await?],
                Work::Ingest => ingest::new_orders(world, &self.plan).await?,
                Work::Updates => vec![ingest::updates(world, &self.plan).await?],
                Work::Cold => vec![read::cold(world, &self.plan).await?],
                Work::WarmUp => start::measure(world, &self.plan).await?,
                Work::Lag => vec![lag::measure(world, &self.plan).await?],
                Work::Stored => scale::stored(world, &self.plan, &self.stored, self.on_top).await?,
                Work::Replicas => scale::replicas(world, &self.plan).await?,
            };
            measured.iter().for_each(|figure| println!("{figure}"));
            figures.extend(measured);
        }
        if let Some(path) = &self.json {
            let result = json!({"environment": environment, "figures": figures});
            std::fs::write(path, format!("{result:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(figures)
    }
}
