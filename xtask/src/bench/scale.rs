//! How ingestion grows: with what is stored already, and with the number of replicas.

use anyhow::{Result, bail};

use super::figure::{Contest, Figure, Reach};
use super::ingest::take_in;
use super::world::{Names, World};
use super::{Plan, orders};

/// The cost of an order on top of so many stored, against that on top of the fewest.
///
/// A page of an index is written to PostgreSQL's log whole when it is first changed after a checkpoint, and the more orders are stored, the
/// more of the first ones find such a page. So `on_top` of them are taken in after each checkpoint, as many as may come until the next. The fewest
/// stored orders have few pages: a fifth of that is taken in on top of them, which are made up anew in each round, so that they stay few.
pub(super) async fn stored(
    world: &mut World,
    plan: &Plan,
    already: &[u64],
    on_top: u64,
) -> Result<Vec<Figure>> {
    let mut sizes = already.to_vec();
    sizes.sort_unstable();
    let Some((&fewest, sizes)) = sizes.split_first().filter(|(_, more)| !more.is_empty()) else {
        bail!("--stored has nothing to compare with");
    };
    let with = |size| format!("bench_with_{size}");
    for &size in sizes {
        make_up(world, &with(size), size).await?;
    }
    eprintln!("Measuring …");
    let few = (on_top / 5).max(1);
    orders::fill(world, "bench_on_few", 0..few, 1).await?;
    let mut contests: Vec<Contest> = sizes.iter().map(|_| Contest::new("orders")).collect();
    for round in 0..u64::from(plan.rounds) {
        let on_few = Names::new(&format!("{}_{round}", with(fewest)), "bench_on_few");
        make_up(world, &on_few.schema, fewest).await?;
        let floor = take_in(world, &on_few, 1, few, plan).await?;
        world.forget(&on_few.schema).await?;
        let stream = format!("bench_on_top_{round}");
        orders::fill(world, &stream, round * on_top..(round + 1) * on_top, 1).await?;
        for (contest, &size) in contests.iter_mut().zip(sizes) {
            let names = Names::new(&with(size), &stream);
            let cost = take_in(world, &names, 1, (round + 1) * on_top, plan).await?;
            contest.add((cost, on_top), (floor, few));
        }
    }
    let figures = contests.iter().zip(sizes).map(|(contest, size)| {
        contest.figure(
            format!("cost of an order with {size} stored, {on_top} after a checkpoint"),
            format!("the same with {fewest} stored"),
            Reach::AtMost(1.5),
        )
    });
    Ok(figures.collect())
}

/// Makes up so many stored orders in a schema.
async fn make_up(world: &World, schema: &str, count: u64) -> Result<()> {
    eprintln!("Making up {count} stored orders …");
    let database = world.rested(schema).await?;
    for statement in made_up(count) {
        database.batch_execute(&statement).await?;
    }
    world.settled(schema).await?;
    Ok(())
}

/// Statements that make up so many orders of three items in the database itself: what is there already need not have come by
/// the stream. Their uids are spread as those of real ones are.
fn made_up(count: u64) -> [String; 4] {
    let uid = "substr(md5(n::text), 1, 20)";
    let of = format!("FROM generate_series(1, {count}) AS n");
    [
        format!(
            "INSERT INTO orders (order_uid, track_number, entry, locale, internal_signature, customer_id, delivery_service, shardkey,
                 sm_id, date_created, oof_shard, published_at, sequence, document_bytes)
             SELECT {uid}, 'WBIL' || upper(substr(md5(n::text), 1, 10)), 'WBIL', 'en', '', 'customer-' || n % 20000, 'meest', '9', 99,
                 timestamptz '2021-11-26' + n % 100000000 * interval '1 second', '1', timestamptz '2021-11-26', n, 1300 {of}"
        ),
        format!(
            "INSERT INTO delivery (order_uid, name, phone, zip, city, address, region, email)
             SELECT {uid}, 'Test Testov', '+9720000000', '2639809', 'Kiryat Mozkin', 'Ploshad Mira 15', 'Kraiot', 'test@gmail.com' {of}"
        ),
        format!(
            "INSERT INTO payment (order_uid, transaction, request_id, currency, provider, amount, payment_dt, bank, delivery_cost,
                 goods_total, custom_fee)
             SELECT {uid}, md5(n::text), '', 'USD', 'wbpay', 1817, 1637907727, 'alpha', 1500, 317, 0 {of}"
        ),
        format!(
            "INSERT INTO items (order_uid, position, chrt_id, track_number, price, rid, name, sale, size, total_price, nm_id, brand,
                 status)
             SELECT {uid}, position, 9934930 + n, 'WBILMTESTTRACK', 453, md5(n::text), 'Mascaras', 30, '0', 317, 2389212,
                 'Vivienne Sabo', 202 {of} CROSS JOIN generate_series(0, 2) AS position"
        ),
    ]
}

/// The rate of several replicas together, against that of one.
pub(super) async fn replicas(world: &mut World, plan: &Plan) -> Result<Vec<Figure>> {
    const REPLICAS: [usize; 2] = [2, 4];
    let (stream, count) = ("bench_replicas", plan.orders);
    orders::fill(world, stream, 0..count, 1).await?;
    let mut contests = REPLICAS.map(|_| Contest::new("orders"));
    for round in 0..plan.rounds {
        let mut taken_in = async |replicas: usize| {
            let names = Names::new(&format!("bench_replicas_{round}_{replicas}"), stream);
            let cost = take_in(world, &names, replicas, count, plan).await?;
            world.forget(&names.schema).await?;
            anyhow::Ok((cost, count))
        };
        let one = taken_in(1).await?;
        for (contest, replicas) in contests.iter_mut().zip(REPLICAS) {
            contest.add(taken_in(replicas).await?, one);
        }
    }
    let figures = contests.iter().zip(REPLICAS).map(|(contest, replicas)| {
        contest.figure(
            format!("ingest by {replicas} replicas on one stream"),
            "one replica",
            Reach::AtLeast(0.95),
        )
    });
    Ok(figures.collect())
}
