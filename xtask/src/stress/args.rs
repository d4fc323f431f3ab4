//! What `cargo xtask stress` can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use xtask::load::Pace;

use super::verdict::Conditions;
use crate::arguments::{percent, setting};

/// Puts the service under load and reports what it bears: requests, orders taken in, or both at once.
///
/// Runs a PostgreSQL with fsync on, a nats-server and a release build of the service for it, gone afterwards, or uses what --url,
/// --nats and --postgres name. Every request at a rate has its moment in a schedule that is fixed in advance, and its response
/// time counts from that moment: a stall is not hidden. Prints a report and writes result.json, latency.hgrm and report.html.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask stress read --rate 5000 --duration 30s
  cargo xtask stress read --max --misses 0 --unknown 0
  cargo xtask stress read --sweep 1000..32000:6
  cargo xtask stress read --tool wrk                       (as wrk -t12 -c400 -d30s)
  cargo xtask stress read --tool vegeta                    (1,000 a second for 30 s)
  cargo xtask stress ingest --count 100000
  cargo xtask stress mixed --rate 5000 --publish-rate 1000
  cargo xtask stress read --rate 5000 --fail-if 'p99<20ms,errors<0.1%' --baseline before/result.json")]
pub(crate) struct Stress {
    #[command(subcommand)]
    pub(super) mode: Mode,
}

#[derive(Debug, Subcommand)]
pub(super) enum Mode {
    /// Asks for orders: cached ones, ones that must be read from the database, and unknown ones.
    #[command(after_help = "Examples:
  cargo xtask stress read --rate 5000 --duration 30s
  cargo xtask stress read --max --connections 64 --misses 0 --unknown 0
  cargo xtask stress read --sweep 1000,2000,5000,10000
  cargo xtask stress read --tool wrk --misses 0 --unknown 0
  cargo xtask stress read --url http://127.0.0.1:8080 --seed 7 --orders 10000
                                       (published with `cargo xtask seed --seed 7 --count 10000`)")]
    Read(Read),
    /// Publishes orders, and looks when the broker has acknowledged them, the database has them, and they can be read.
    #[command(after_help = "Examples:
  cargo xtask stress ingest --count 100000
  cargo xtask stress ingest --rate 1000 --duration 30s --fail-if 'lag.p99<50ms,redeliveries<=0'")]
    Ingest(Ingest),
    /// Both at once: reads at one rate while orders are published at another.
    #[command(after_help = "Example:
  cargo xtask stress mixed --rate 5000 --publish-rate 1000 --duration 30s")]
    Mixed(Mixed),
}

#[derive(Debug, Args)]
pub(super) struct Read {
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    #[command(flatten)]
    pub(super) uids: Uids,
    /// Lets one of the known tools send the load, on the same targets: as `wrk -t12 -c400 -d30s`, or vegeta at 1,000 a
    /// second for 30 s, where --threads, --connections, --duration and --rate do not say otherwise.
    #[arg(long, value_enum, conflicts_with_all = ["max", "sweep"])]
    pub(super) tool: Option<Tool>,
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Ingest {
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    /// How many orders to publish: 20,000 where nothing else is said, or what --rate makes in --duration.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) publishing: Publishing,
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Mixed {
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    #[command(flatten)]
    pub(super) uids: Uids,
    /// Orders published a second meanwhile.
    #[arg(long, default_value_t = 500.0, value_parser = positive, value_name = "RATE")]
    pub(super) publish_rate: f64,
    #[command(flatten)]
    pub(super) publishing: Publishing,
    #[command(flatten)]
    pub(super) place: Place,
    #[command(flatten)]
    pub(super) output: Output,
}

/// How fast, and for how long.
#[derive(Debug, Clone, Args)]
pub(super) struct PaceArgs {
    /// Requests a second, at a constant rate (open loop); 1,000 where nothing else is said.
    #[arg(long, value_parser = positive, conflicts_with_all = ["max", "sweep"])]
    pub(super) rate: Option<f64>,
    /// As many as are answered: every connection sends its next request when it has its answer (closed loop).
    #[arg(long, conflicts_with = "sweep")]
    pub(super) max: bool,
    /// One run after another at these rates, `1000,2000,5000`, or at so many steps from one to the other, `1000..32000:6`. Ends
    /// with the first that cannot be achieved.
    #[arg(long, value_parser = sweep, value_name = "RATES")]
    pub(super) sweep: Option<Rates>,
    /// How long each run is measured; 10s where nothing else is said.
    #[arg(long, value_parser = some_time)]
    pub(super) duration: Option<Duration>,
    /// How long the same load runs before that, unmeasured.
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub(super) warmup: Duration,
    /// How many connections, each with at most one request under way; 64 where nothing else is said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) connections: Option<u32>,
    /// How many threads send; half of the cores where nothing else is said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) threads: Option<u32>,
    /// How long an answer may take before it counts as failed.
    #[arg(long, value_parser = some_time, default_value = "10s")]
    pub(super) timeout: Duration,
}

/// The rates of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rates(pub(super) Vec<f64>);

impl PaceArgs {
    /// What is to be run, one after another.
    pub(super) fn paces(&self) -> Vec<Pace> {
        match (&self.sweep, self.max) {
            (Some(Rates(rates)), _) => rates.iter().map(|rate| Pace::Rate(*rate)).collect(),
            (None, true) => vec![Pace::Max],
            (None, false) => vec![Pace::Rate(self.rate.unwrap_or(1_000.0))],
        }
    }

    pub(super) fn duration(&self) -> Duration {
        self.duration.unwrap_or(Duration::from_secs(10))
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or(64) as usize
    }

    pub(super) fn threads(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        self.threads.map_or_else(half, |threads| threads as usize).max(1)
    }
}

/// Which orders are asked for.
#[derive(Debug, Clone, Args)]
pub(super) struct Uids {
    /// How many different orders are asked for that should be in the cache; half as many again, at least 1,000, that should not.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) orders: u64,
    /// How many of a hundred requests are for orders that are stored and not in the cache; 4 where we publish them. With --url: as
    /// far as that service's cache does not hold them all.
    #[arg(long, value_parser = percent, value_name = "PERCENT")]
    pub(super) misses: Option<f64>,
    /// How many of a hundred requests are for orders that do not exist.
    #[arg(long, default_value_t = 1.0, value_parser = percent, value_name = "PERCENT")]
    pub(super) unknown: f64,
    /// Asks for the orders of this file, one uid a line, instead of published ones. Only with --url, and without misses.
    #[arg(long, requires = "url", value_name = "FILE")]
    pub(super) uids: Option<PathBuf>,
}

/// How orders are published.
#[derive(Debug, Clone, Args)]
pub(super) struct Publishing {
    /// How many messages can wait for their acknowledgement at once.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) in_flight: u32,
    /// About how many of the orders are waited for to see when they can be read: evenly spread over all of them; 0 for none.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub(super) samples: u64,
}

/// On what it runs.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// A service that runs already: http://host:port. Orders are published to it where --nats is given too, else they are expected
    /// to be those of `cargo xtask seed --seed SEED --count ORDERS`.
    #[arg(long)]
    pub(super) url: Option<String>,
    /// A broker that runs already. Without --url the service reads a stream there that is removed afterwards.
    #[arg(long)]
    pub(super) nats: Option<String>,
    /// A PostgreSQL that runs already. Without --url the service writes to a schema there that is removed afterwards.
    #[arg(long)]
    pub(super) postgres: Option<String>,
    /// The order-tracker to run, built already; a release is built first where none is given.
    #[arg(long, value_name = "BINARY", conflicts_with = "url")]
    pub(super) service: Option<PathBuf>,
    /// Sends with this program as it is built, instead of building a release of it first: to try things out.
    #[arg(long)]
    pub(super) as_built: bool,
    /// A setting of the service that is started: `--set HTTP__WORKERS=1`.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting, conflicts_with = "url")]
    pub(super) settings: Vec<(String, String)>,
    /// The same seed asks for the same orders. A random one, if not given.
    #[arg(long)]
    pub(super) seed: Option<u64>,
}

/// What becomes of the results.
#[derive(Debug, Clone, Args)]
pub(super) struct Output {
    /// The folder for result.json, latency.hgrm and report.html; a new one in .order-tracker/stress where none is given.
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// A result.json of an earlier run, to be compared with this one.
    #[arg(long, value_name = "FILE")]
    pub(super) baseline: Option<PathBuf>,
    /// Conditions that must hold, or the task fails: response times (p50, p99.9, max, mean; after `service.`, `publish.`,
    /// `lag.` those), errors, rate, throughput, acknowledged, durable, redeliveries. Of a sweep the run that sums it up is judged.
    #[arg(long, value_name = "CONDITIONS")]
    pub(super) fail_if: Option<Conditions>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Tool {
    Wrk,
    Vegeta,
}

impl Ingest {
    /// How many orders to publish; `None` for as many as the rate makes in the time.
    pub(super) fn count(&self) -> Option<u64> {
        let timed = self.pace.rate.is_some() || self.pace.sweep.is_some();
        self.count.or((!timed).then_some(20_000))
    }

    /// As fast as it goes, where no rate is given.
    pub(super) fn paces(&self) -> Vec<Pace> {
        if self.pace.rate.is_some() || self.pace.sweep.is_some() {
            self.pace.paces()
        } else {
            vec![Pace::Max]
        }
    }
}

impl Mode {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Mode::Read(_) => "read",
            Mode::Ingest(_) => "ingest",
            Mode::Mixed(_) => "mixed",
        }
    }

    pub(super) fn place(&self) -> &Place {
        match self {
            Mode::Read(Read { place, .. })
            | Mode::Ingest(Ingest { place, .. })
            | Mode::Mixed(Mixed { place, .. }) => place,
        }
    }

    pub(super) fn output(&self) -> &Output {
        match self {
            Mode::Read(Read { output, .. })
            | Mode::Ingest(Ingest { output, .. })
            | Mode::Mixed(Mixed { output, .. }) => output,
        }
    }

    pub(super) fn uids(&self) -> Option<&Uids> {
        match self {
            Mode::Read(Read { uids, .. }) | Mode::Mixed(Mixed { uids, .. }) => Some(uids),
            Mode::Ingest(_) => None,
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 && number <= 1e7 {
        Ok(number)
    } else {
        Err("not more than 0 and at most 10,000,000".to_owned())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|_| "not a time such as 500ms, 30s or 2m".to_owned())?;
    let duration = Duration::try_from(duration).map_err(|_| "less than nothing".to_owned())?;
    if duration <= Duration::from_secs(24 * 3_600) {
        Ok(duration)
    } else {
        Err("more than a day".to_owned())
    }
}

/// A duration that is not zero.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("no time at all".to_owned()),
        time => Ok(time),
    }
}

fn sweep(text: &str) -> Result<Rates, String> {
    const FORM: &str = "neither rates such as 1000,2000,5000 nor steps such as 1000..32000:6";
    let number = |text: &str| positive(text.trim()).map_err(|_| FORM.to_owned());
    if let Some((first, rest)) = text.split_once("..") {
        let (last, steps) = rest.split_once(':').unwrap_or((rest, "6"));
        let (first, last) = (number(first)?, number(last)?);
        let steps: u32 = steps.trim().parse().map_err(|_| FORM.to_owned())?;
        if !(2..=100).contains(&steps) || first >= last {
            return Err("a sweep goes upwards in 2 to 100 steps".to_owned());
        }
        // Each step is as many times the one before, so that a few steps reach far.
        let factor = (last / first).powf(1.0 / f64::from(steps - 1));
        let rates = (0..steps).map(|step| (first * factor.powi(step as i32)).round());
        return Ok(Rates(rates.collect()));
    }
    let rates: Vec<f64> = text.split(',').map(number).collect::<Result<_, _>>()?;
    if rates.len() > 100 || !rates.is_sorted() {
        return Err("a sweep goes upwards in at most 100 steps".to_owned());
    }
    Ok(Rates(rates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_a_list_or_steps() {
        assert_eq!(
            sweep("1000,2000, 5000"),
            Ok(Rates(vec![1_000.0, 2_000.0, 5_000.0]))
        );
        let doubled = vec![1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0, 32_000.0];
        assert_eq!(sweep("1000..32000:6"), Ok(Rates(doubled.clone())));
        assert_eq!(sweep("1000..32000"), Ok(Rates(doubled)));
        for wrong in ["", "x", "5,1", "10..5:3", "1..2:1", "1..2:x", "0,1", "-1..5"] {
            assert!(sweep(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_and_shares_are_checked() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("30").is_err() && duration("-1s").is_err() && duration("48h").is_err());
        assert!(duration("0s").is_ok() && some_time("0s").is_err() && some_time("1ms").is_ok());
        assert!(percent("101").is_err() && percent("-0.1").is_err() && positive("0").is_err());
    }
}
