//! What each index of the lists costs ingestion: stores orders into a schema with none of them, with each, and with all, in
//! turn, so that what else the machine does meanwhile befalls all alike. What is written to the log is told as well: that does
//! not depend on how busy the machine is.
//!
//! `cargo run --release -p order-postgres --example index_cost -- postgres://…/db SCHEMA ORDERS ROUNDS`
//!
//! The schema is created if it is not there. Best given one that holds a million orders: an index costs most where it is
//! large. It is left with all indexes, and with the orders that were stored.

use std::env::args;
use std::error::Error;
use std::time::{Duration, Instant};

use order_domain::testing::orders::sample_order;
use order_domain::{Batch, Order, OrderRepository, OrderUid, RevisedOrder, Revision, UtcDateTime};
use order_postgres::{PostgresSettings, PostgresStore, SchemaName, migrate};
use tokio_postgres::{Client, NoTls};

const INDEXES: [(&str, &str); 3] = [
    (
        "orders_by_track_number",
        "orders (track_number COLLATE \"C\", date_created DESC, order_uid DESC)",
    ),
    (
        "orders_by_customer_id",
        "orders (customer_id COLLATE \"C\", date_created DESC, order_uid DESC)",
    ),
    ("payment_by_transaction", "payment (transaction COLLATE \"C\")"),
];
/// Which of them are there: none, each, all.
const SETS: [(&str, &[usize]); 5] = [
    ("none", &[]),
    ("track number", &[0]),
    ("customer", &[1]),
    ("transaction", &[2]),
    ("all three", &[0, 1, 2]),
];
const BATCH: usize = 500;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows its result")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = args().collect();
    let [_, url, schema, orders, rounds] = &args[..] else {
        return Err("wanted: URL SCHEMA ORDERS ROUNDS".into());
    };
    let (orders, rounds): (usize, usize) = (orders.parse()?, rounds.parse()?);
    let mut settings = PostgresSettings::new(url.parse()?);
    settings.schema = SchemaName::new(schema)?;
    settings.batch_deadline = Duration::from_mins(1);
    migrate(&settings).await?;
    let store = PostgresStore::connect(&settings)?;
    let (session, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    session
        .batch_execute(&format!("SET search_path TO {schema}"))
        .await?;
    let fsync: String = session.query_one("SHOW fsync", &[]).await?.get(0);
    let there: i64 = session
        .query_one("SELECT count(*) FROM orders", &[])
        .await?
        .get(0);
    println!("{there} orders are there; {orders} are stored each time, {BATCH} a batch, fsync {fsync}");

    let (mut rates, mut written) = (vec![Vec::new(); SETS.len()], vec![Vec::new(); SETS.len()]);
    let mut begun = jiff::Timestamp::now().as_microsecond();
    for round in 0..rounds {
        for turn in 0..SETS.len() {
            let set = (round + turn) % SETS.len();
            prepare(&session, SETS[set].1).await?;
            begun += 1_000_000;
            let batches = batches(orders, begun)?;
            let log_before = log_written(&session).await?;
            let start = Instant::now();
            for batch in &batches {
                store.orders().store(batch).await?;
            }
            rates[set].push(orders as f64 / start.elapsed().as_secs_f64());
            written[set].push((log_written(&session).await? - log_before) / orders as f64);
        }
    }
    prepare(&session, &[0, 1, 2]).await?;

    println!(
        "{:>14} {:>10} {:>8} {:>16}  orders/s each round",
        "indexes", "orders/s", "of none", "log bytes/order"
    );
    let none = median(&rates[0]);
    for (((name, _), rates), written) in SETS.iter().zip(&rates).zip(&written) {
        let each: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        let (rate, written) = (median(rates), median(written));
        println!(
            "{name:>14} {rate:>10.0} {:>8.2} {written:>16.0}  {}",
            rate / none,
            each.join(" ")
        );
    }
    Ok(())
}

/// Makes the indexes be these, and begins with everything written.
async fn prepare(session: &Client, wanted: &[usize]) -> Result<(), Box<dyn Error>> {
    for (place, (name, on)) in INDEXES.iter().enumerate() {
        let sql = match wanted.contains(&place) {
            true => format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"),
            false => format!("DROP INDEX IF EXISTS {name}"),
        };
        session.batch_execute(&sql).await?;
    }
    Ok(session.batch_execute("CHECKPOINT").await?)
}

/// How many bytes the server has written to its log, ever.
async fn log_written(session: &Client) -> Result<f64, Box<dyn Error>> {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8";
    Ok(session.query_one(sql, &[]).await?.get(0))
}

/// New orders, whose texts are as far apart as those of a shop; each of 40,000 customers has many.
fn batches(orders: usize, begun: i64) -> Result<Vec<Batch>, Box<dyn Error>> {
    let mut versions = Vec::with_capacity(orders);
    for number in 0..orders {
        let drawn: u64 = rand::random();
        let mut parts = sample_order("x").into_parts();
        parts.order_uid = OrderUid::new(&format!("{drawn:016x}{begun:x}test"))?;
        parts.date_created = UtcDateTime::from_unix_micros(begun + number as i64)?;
        parts.track_number = format!("WBIL{:016x}{begun:x}", rand::random::<u64>()).into();
        parts.customer_id = format!("customer-{}", drawn % 40_000).into();
        parts.payment.transaction = format!("{:016x}{begun:x}", rand::random::<u64>()).into();
        versions.push(RevisedOrder {
            revision: Revision {
                published_at: begun + number as i64,
                sequence: number as u64,
            },
            order: Order::new(parts)?,
        });
    }
    let batches = versions
        .chunks(BATCH)
        .map(|versions| Batch::new(versions.to_vec(), Vec::new()));
    Ok(batches.collect())
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
