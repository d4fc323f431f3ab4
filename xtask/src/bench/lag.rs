//! From publishing an order until it can be read, against what one commit takes meanwhile.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::Deserialize;
use xtask::load::{Amount, Generator, Pace, new_histogram};

use super::Plan;
use super::figure::{Figure, Number, Reach, median};
use super::world::{Names, Service, World};
use crate::stress::lag::Prober;
use crate::stress::publishing::{Ledger, Publish};
use crate::stress::stock::Stock;

/// How many orders a second are published.
const RATE: f64 = 1_000.0;
/// One in so many orders is waited for.
const SEEN: u64 = 5;
/// How long the last of them may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many messages may wait for their acknowledgement.
const UNDER_WAY: usize = 512;

/// The 99th percentiles of both.
pub(super) async fn measure(world: &mut World, plan: &Plan) -> Result<Figure> {
    let names = Names::new("bench_lag", "bench_lag");
    // Each commit is told in the log.
    let settings = plan.with(&[("LOG__FILTER", "info,order_domain=debug")]);
    let mut service = world.service(&names, &settings)?;
    service.warm(0).await?;
    let mut publish = Publish {
        stock: Arc::new(Stock::new(6)?),
        first: 0,
        broker: world.nats_settings(&names)?,
        run: "bench".to_owned(),
        timeout: Duration::from_secs(10),
        ledger: Arc::new(Ledger::default()),
        sample: None,
    };
    world.with_used_log().await?;
    // What is slow only once is over before it counts.
    publish_for(Duration::from_secs(1), &service, &mut publish).await?;
    let (mut ratios, mut lags, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let before = service.log.metadata()?.len();
        let lag = publish_for(plan.lasts(), &service, &mut publish).await?;
        let commit = commits_since(before, &service)?;
        let p99 = |times: &Histogram<u64>| times.value_at_percentile(99.0) as f64;
        ratios.push(p99(&lag) / p99(&commit));
        lags.push(lag);
        commits.push(commit);
    }
    service.end().await?;
    Ok(Figure {
        work: format!("publish → readable at {RATE:.0}/s, p99"),
        floor: "p99 of one batch commit in the same run".to_owned(),
        reach: Reach::AtMost(2.0),
        unit: "×",
        rounds: ratios,
        ours: percentiles(&lags),
        beside: percentiles(&commits),
    })
}

/// Publishes the next orders for a while; answers how long it took in nanoseconds until some of them could be read.
async fn publish_for(lasts: Duration, service: &Service, publish: &mut Publish) -> Result<Histogram<u64>> {
    let plan = xtask::load::Plan {
        pace: Pace::Rate(RATE),
        amount: Amount::Lasting(lasts),
        warm_up: Duration::ZERO,
        workers: UNDER_WAY,
        threads: 1,
        patience: Duration::from_secs(2),
    };
    let (prober, sample) = Prober::start(&service.endpoint()?, Some(SEEN));
    let work = Publish {
        sample,
        ..publish.clone()
    };
    let measured = Generator::start(&plan, work).await?.finish().await?;
    let faults = &measured.recording.faults;
    ensure!(faults.is_empty(), "orders were not published: {faults:?}");
    publish.first += measured.recording.requests;
    let seen = prober.finish(PATIENCE).await?;
    ensure!(seen.faults.is_empty(), "{}", seen.faults.join("; "));
    Ok(seen.lag)
}

/// A line of the service's log about a batch.
#[derive(Deserialize)]
struct Line {
    message: String,
    seconds: Option<f64>,
}

/// How long the transactions took that the service has told of since its log was so long, in nanoseconds.
fn commits_since(length: u64, service: &Service) -> Result<Histogram<u64>> {
    let mut log = std::fs::File::open(&service.log)?;
    log.seek(SeekFrom::Start(length))?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    let mut commits = new_histogram();
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    for line in lines.filter(|line| line.message == "committed a batch") {
        let seconds = line.seconds.context("the log tells no time of a commit")?;
        commits.saturating_record((seconds * 1e9) as u64);
    }
    ensure!(!commits.is_empty(), "the log tells of no commit");
    Ok(commits)
}

/// Medians over the rounds.
fn percentiles(rounds: &[Histogram<u64>]) -> Vec<Number> {
    let at = |percentile| {
        let values = rounds
            .iter()
            .map(|round| round.value_at_percentile(percentile) as f64 / 1e6);
        median(values)
    };
    let named = [("ms p50", 50.0), ("ms p99", 99.0), ("ms most", 100.0)];
    let mut numbers: Vec<Number> = named
        .map(|(name, percentile)| Number::new(name, at(percentile)))
        .into();
    numbers.push(Number::new(
        "seen",
        median(rounds.iter().map(|round| round.len() as f64)),
    ));
    numbers
}
