//! Orders from a full stream into the four tables: new ones, and new versions of stored ones.

use std::time::Duration;

use anyhow::Result;
use order_domain::{Batch, OrderRepository, RevisedOrder, Revision};
use order_postgres::PostgresStore;

use super::figure::{Contest, Cost, Figure, Reach};
use super::world::{Names, World};
use super::{Plan, copy, orders};

/// As many orders as the service stores in one transaction by default.
const BATCH: u64 = 1_000;

/// Measures new orders against COPY, and the CPU time that they take of the service.
pub(super) async fn new_orders(world: &mut World, plan: &Plan) -> Result<Vec<Figure>> {
    let (ours, floor) = (Names::new("bench_ours", "bench_new"), "bench_floor");
    let count = plan.orders;
    orders::fill(world, &ours.stream, 0..count, 1).await?;
    let mut contest = Contest::new("orders");
    for round in 0..plan.rounds {
        let ours = Names::new(&format!("{}_{round}", ours.schema), &ours.stream);
        let taken_in = take_in(world, &ours, 1, count, plan).await?;
        let rows = copy::out(&world.database(&ours.schema).await?).await?.packed();
        world.forget(&ours.schema).await?;

        let database = world.rested(floor).await?;
        let meter = world.meter(&[]);
        copy::into(&database, &rows).await?;
        contest.add((taken_in, count), (meter.read(world, &[]), count));
        world.forget(floor).await?;
    }
    Ok(vec![
        contest.figure(
            format!("ingest of {count} new orders from a full stream"),
            "binary COPY of the same rows into the same empty tables, one connection",
            Reach::AtLeast(0.8),
        ),
        contest.service_cpu("CPU time an order in the service itself", Reach::AtMost(20.0)),
    ])
}

/// Measures new versions of stored orders against the statements that store them.
pub(super) async fn updates(world: &mut World, plan: &Plan) -> Result<Figure> {
    let (first, later) = ("bench_first", "bench_later");
    let count = plan.orders;
    orders::fill(world, first, 0..count, 1).await?;
    orders::fill(world, later, 0..count, 2).await?;
    take_in(world, &Names::new(first, first), 1, count, plan).await?;
    let rows = copy::out(&world.database(first).await?).await?.packed();
    world.forget(first).await?;
    let batches = later_versions(count)?;

    let mut contest = Contest::new("orders");
    for round in 0..plan.rounds {
        let ours = Names::new(&format!("bench_ours_{round}"), later);
        let floor = "bench_floor";
        for schema in [&ours.schema, floor] {
            copy::into(&world.rested(schema).await?, &rows).await?;
            world.settled(schema).await?;
        }
        let taken_in = take_in(world, &ours, 1, count, plan).await?;
        contest.add(
            (taken_in, count),
            (store_alone(world, floor, &batches).await?, count),
        );
        world.forget(&ours.schema).await?;
        world.forget(floor).await?;
    }
    Ok(contest.figure(
        format!("the same, as updates of {count} stored orders"),
        "the same statements alone, one connection",
        Reach::AtLeast(0.9),
    ))
}

/// Starts replicas on a full stream at once, and waits until they have logged `changes` in all. Their start is part of the time.
pub(super) async fn take_in(
    world: &mut World,
    names: &Names,
    replicas: usize,
    changes: u64,
    plan: &Plan,
) -> Result<Cost> {
    // The tables are there, so that not one of them migrates while the others wait.
    let database = world.rested(&names.schema).await?;
    // Reading what is stored would compete with storing.
    let settings = plan.with(&[("WARM_UP__ORDERS", "0")]);
    let meter = world.meter(&[]);
    let mut services = (0..replicas)
        .map(|_| world.service(names, &settings))
        .collect::<Result<Vec<_>>>()?;
    let ended = services[0].stored(&database, changes).await?;
    let cost = meter.read_at(ended, world, &services.iter().collect::<Vec<_>>());
    for service in services {
        service.end().await?;
    }
    Ok(cost)
}

/// Stores the later versions over the earlier ones, batch after batch, with nothing else to do.
async fn store_alone(world: &World, schema: &str, batches: &[Batch]) -> Result<Cost> {
    world.rested(schema).await?;
    let orders = PostgresStore::connect(&world.postgres_settings(schema)?)?.orders();
    let meter = world.meter(&[]);
    for batch in batches {
        orders.store(batch).await?;
    }
    Ok(meter.read(world, &[]))
}

/// The later versions, in batches as the service would store them from the stream.
fn later_versions(count: u64) -> Result<Vec<Batch>> {
    let generator = orders::generator();
    // Later than the stream's own time stamps, which the rows copied from ours have.
    let published_at = jiff::Timestamp::now() + Duration::from_hours(1);
    let numbers: Vec<u64> = (0..count).collect();
    numbers
        .chunks(BATCH as usize)
        .map(|numbers| {
            let versions = numbers.iter().map(|number| {
                let revision = Revision {
                    published_at: published_at.as_microsecond(),
                    sequence: count + number,
                };
                let order = orders::order(&generator, *number, 2)?;
                Ok(RevisedOrder { revision, order })
            });
            Ok(Batch::new(versions.collect::<Result<_>>()?, Vec::new()))
        })
        .collect()
}
