//! Reads over HTTP: from the cache, against a bare handler; and from the database, against pgbench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, DATE};
use order_postgres::PostgresOrderRepository;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use xtask::ports;

use super::figure::{Contest, Cost, Figure, Reach};
use super::ingest::take_in;
use super::world::{Names, Service, World};
use super::wrk::Wrk;
use super::{Plan, http, orders};

/// How many ask at once: for what is hot, and for what is cold.
const HOT: u32 = 64;
const COLD: u32 = 8;
/// How many threads answer, of the service and of the bare handler: wrk needs a core for itself.
const WORKERS: &str = "1";

/// Hot reads of all orders.
pub(super) async fn hot(world: &mut World, plan: &Plan) -> Result<Figure> {
    let names = Names::new("bench_hot", "bench_hot");
    let count = plan.orders;
    orders::fill(world, &names.stream, 0..count, 1).await?;
    take_in(world, &names, 1, count, plan).await?;
    let database = world.settled(&names.schema).await?;
    let settings = [
        ("HTTP__WORKERS", WORKERS),
        ("WARM_UP__ORDERS", &count.to_string()),
    ];
    let mut service = world.service(&names, &plan.with(&settings))?;
    service.warm(count).await?;
    let generator = orders::generator();
    let uids = (0..count).map(|number| generator.uid(number).to_string());
    let wrk = Wrk::new(world.folder(), uids, HOT)?;
    let bare = bare(world, &service, &typical(&database).await?).await?;

    for server in [&service, &bare] {
        wrk.run(server.port, Duration::from_secs(1)).await?;
    }
    let mut contest = Contest::new("answers");
    for _ in 0..plan.rounds {
        let ours = asked(world, &service, &wrk, plan.lasts()).await?;
        contest.add(ours, asked(world, &bare, &wrk, plan.lasts()).await?);
    }
    service.end().await?;
    Ok(contest.figure(
        format!("hot GET over {count} uids, whole stack, {WORKERS} worker"),
        "a bare actix handler sending the same head and body, same workers",
        Reach::AtLeast(0.9),
    ))
}

/// Reads of orders that are not cached, each from the database.
pub(super) async fn cold(world: &mut World, plan: &Plan) -> Result<Figure> {
    let names = Names::new("bench_cold", "bench_cold");
    let count = plan.orders;
    // pgbench can draw numbers only, so these orders have numbers for uids.
    orders::fill_numbered(world, &names.stream, count).await?;
    take_in(world, &names, 1, count, plan).await?;
    world.settled(&names.schema).await?;
    let settings = [("CACHE__MAX_BYTES", "0"), ("WARM_UP__ORDERS", "0")];
    let mut service = world.service(&names, &plan.with(&settings))?;
    service.warm(0).await?;
    let uids = (1..=count).map(|step| orders::scattered(step, count).to_string());
    let wrk = Wrk::new(world.folder(), uids, COLD)?;
    let query = world.folder().join("find.sql");
    let find = PostgresOrderRepository::FIND.replace("$1", "(:number)::text");
    std::fs::write(
        &query,
        format!("\\set number random(0, {})\n{find};\n", count - 1),
    )?;

    wrk.run(service.port, Duration::from_secs(1)).await?;
    let mut contest = Contest::new("answers");
    for _ in 0..plan.rounds {
        let ours = asked(world, &service, &wrk, plan.lasts()).await?;
        contest.add(ours, pgbench(world, &names.schema, &query, plan.lasts()).await?);
    }
    service.end().await?;
    Ok(contest.figure(
        format!("cold GET over {count} uids, {COLD} connections"),
        "pgbench with the same prepared query, as many connections",
        Reach::AtLeast(0.7),
    ))
}

/// What so many answers cost.
async fn asked(world: &World, server: &Service, wrk: &Wrk, lasts: Duration) -> Result<(Cost, u64)> {
    let meter = world.meter(&[server]);
    let seen = wrk.run(server.port, lasts).await?;
    let cost = Cost {
        wall: seen.elapsed,
        ..meter.read(world, &[server])
    };
    Ok((cost, seen.answers))
}

/// What so many runs of the query cost pgbench, on as many connections.
async fn pgbench(world: &World, schema: &str, query: &Path, lasts: Duration) -> Result<(Cost, u64)> {
    let meter = world.meter(&[]);
    let output = Command::new(world.binaries.postgres.program("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--file"])
        .arg(query)
        .args(["--client", &COLD.to_string()])
        .args(["--time", &lasts.as_secs().to_string()])
        .arg(world.postgres_url())
        .env("PGOPTIONS", format!("-c search_path={schema}"))
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run pgbench, which should lie beside postgres")?;
    let cost = meter.read(world, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    let number = |before: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(before))?;
        rest.split(' ').next()?.parse::<f64>().ok()
    };
    let (Some(rate), Some(runs)) = (
        number("tps = "),
        number("number of transactions actually processed: "),
    ) else {
        bail!("pgbench said: {said}{}", String::from_utf8_lossy(&output.stderr));
    };
    // Without the time that it takes to connect.
    let wall = Duration::from_secs_f64(runs / rate);
    Ok((Cost { wall, ..cost }, runs as u64))
}

/// The order whose length is nearest to the mean of all.
async fn typical(database: &Client) -> Result<String> {
    let uid = "SELECT order_uid FROM orders
        ORDER BY abs(document_bytes - (SELECT avg(document_bytes) FROM orders)) LIMIT 1";
    Ok(database.query_one(uid, &[]).await?.get(0))
}

/// Starts the bare handler with the head and body that the service sends for one order.
async fn bare(world: &mut World, like: &Service, uid: &str) -> Result<Service> {
    let answer = http::get(like.port, &format!("/api/v1/orders/{uid}")).await?;
    ensure!(
        answer.status == StatusCode::OK,
        "the service answers {} for {uid}",
        answer.status
    );
    // These two any server of actix's sends by itself.
    let by_itself = [CONTENT_LENGTH, DATE];
    let head: String = answer
        .headers
        .iter()
        .filter(|(name, _)| !by_itself.contains(name))
        .map(|(name, value)| Ok(format!("{name}: {}\n", value.to_str()?)))
        .collect::<Result<_>>()?;
    let files = ["head.txt", "body.json"].map(|name| world.folder().join(name));
    std::fs::write(&files[0], head)?;
    std::fs::write(&files[1], answer.body)?;
    let port = ports::any()?;
    let address = format!("127.0.0.1:{port}");
    let (child, process) = world
        .spawn(Command::new(&world.bare).args([&address, WORKERS]).args(files))
        .context("cannot run the bare handler")?;
    let patience = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(&address).await.is_err() {
        ensure!(Instant::now() < patience, "the bare handler does not listen");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Service {
        child,
        process,
        log: PathBuf::new(),
        port,
        management: port,
    })
}
