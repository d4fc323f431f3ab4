//! A start with many orders stored: how long until they are in the cache, and what they weigh there.

use anyhow::{Context, Result};

use super::figure::{Contest, Figure, Number, Reach, median};
use super::ingest::take_in;
use super::world::{Names, Service, World};
use super::{Plan, copy, orders};

/// Warm-up against COPY, and the memory of what is cached against the bytes of the JSON.
pub(super) async fn measure(world: &mut World, plan: &Plan) -> Result<Vec<Figure>> {
    let names = Names::new("bench_start", "bench_start");
    let count = plan.orders;
    orders::fill(world, &names.stream, 0..count, 1).await?;
    take_in(world, &names, 1, count, plan).await?;
    let database = world.settled(&names.schema).await?;
    let sum = "SELECT sum(document_bytes)::bigint FROM orders";
    let json: i64 = database.query_one(sum, &[]).await?.get(0);

    let (mut contest, mut idle, mut warm) = (Contest::new("orders"), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let mut service = world.service(&names, &plan.with(&[("WARM_UP__ORDERS", "0")]))?;
        service.warm(0).await?;
        idle.push(resident(&service)?);
        service.end().await?;

        let meter = world.meter(&[]);
        let mut service = world.service(&names, &plan.with(&[("WARM_UP__ORDERS", &count.to_string())]))?;
        let ended = service.warm(count).await?;
        let ours = meter.read_at(ended, world, &[&service]);
        warm.push(resident(&service)?);
        service.end().await?;

        let meter = world.meter(&[]);
        copy::out(&database).await?;
        contest.add((ours, count), (meter.read(world, &[]), count));
    }
    let time = contest.figure(
        format!("warm-up of {count} orders, from the start of the process"),
        "binary COPY OUT of the four tables, one connection",
        Reach::AtMost(2.0),
    );
    let json = json as f64;
    let memory = Figure {
        work: format!("one replica's memory for {count} cached orders, over an idle replica's"),
        floor: "the bytes of their JSON".to_owned(),
        reach: Reach::AtMost(1.5),
        unit: "×",
        rounds: warm
            .iter()
            .zip(&idle)
            .map(|(warm, idle)| (warm - idle) / json)
            .collect(),
        ours: vec![
            Number::new("MiB resident, warm", median(warm.into_iter()) / MIB),
            Number::new("MiB resident, idle", median(idle.into_iter()) / MIB),
        ],
        beside: vec![Number::new("MiB of JSON", json / MIB)],
    };
    Ok(vec![time, memory])
}

const MIB: f64 = 1_048_576.0;

/// The resident memory of a service, in bytes.
fn resident(service: &Service) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.pid));
    let status = status.context("this system does not tell how much memory a process has")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(kibibytes.context("the process has ended")? * 1_024.0)
}
