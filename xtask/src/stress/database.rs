//! Looks into the database from outside: when orders are durable, and whether all of them are there, whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use super::stock::Stock;

/// How many orders have changed in the commits after a position, and the newest position.
const COMMITTED: &str = "
    SELECT coalesce(sum(changes), 0)::bigint, coalesce(max(position), $1)
    FROM commit_log WHERE position > $1";

/// How many rows the four tables have of these orders.
const ROWS: &str = "
    SELECT (SELECT count(*) FROM orders WHERE order_uid = ANY($1)),
           (SELECT count(*) FROM delivery WHERE order_uid = ANY($1)),
           (SELECT count(*) FROM payment WHERE order_uid = ANY($1)),
           (SELECT count(*) FROM items WHERE order_uid = ANY($1))";

/// Between two looks at the commit log.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many orders are counted at once.
const CHUNK: u64 = 5_000;
/// How long one query may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the service's tables are.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) url: String,
    pub(super) schema: String,
}

impl Database {
    /// A connection that sees the tables.
    ///
    /// # Errors
    ///
    /// Where there is none to be had.
    pub(super) async fn connect(&self) -> Result<Client> {
        let connecting = tokio_postgres::connect(&self.url, NoTls);
        let connected = timeout(PATIENCE, connecting)
            .await
            .context("PostgreSQL does not answer")?;
        let (client, connection) = connected.context("cannot connect to PostgreSQL")?;
        tokio::spawn(connection);
        // The name is one of our own, or a setting of the person's who calls.
        let path = format!("SET search_path = \"{}\"", self.schema.replace('"', "\"\""));
        client.batch_execute(&path).await?;
        Ok(client)
    }

    /// Removes the schema with all that is in it.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed.
    pub(super) async fn drop_schema(&self) -> Result<()> {
        let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema);
        let client = self.connect().await?;
        client
            .batch_execute(&drop)
            .await
            .context("cannot remove the schema of this run")
    }
}

/// Follows the commit log, to know when how many orders are durable.
#[derive(Debug)]
pub(super) struct Watcher {
    task: JoinHandle<Result<()>>,
    seen: Arc<Seen>,
    start: Instant,
}

#[derive(Debug, Default)]
struct Seen {
    orders: AtomicU64,
    /// Nanoseconds from the watcher's start to the last look that saw more.
    at: AtomicU64,
}

impl Watcher {
    /// Counts what is committed from now on.
    ///
    /// # Errors
    ///
    /// Where the log cannot be read.
    pub(super) async fn start(database: &Database) -> Result<Watcher> {
        let client = database.connect().await?;
        let newest = "SELECT coalesce(max(position), 0) FROM commit_log";
        let mut position: i64 = client.query_one(newest, &[]).await?.get(0);
        let seen = Arc::new(Seen::default());
        let start = Instant::now();
        let counted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let statement = client.prepare(COMMITTED).await?;
            loop {
                let row = timeout(PATIENCE, async {
                    client.query_one(&statement, &[&position]).await
                });
                let row = row.await.context("the commit log cannot be read in time")??;
                let (more, newest): (i64, i64) = (row.get(0), row.get(1));
                position = newest;
                if more > 0 {
                    let at = u64::try_from(start.elapsed().as_nanos())?;
                    counted.at.store(at, Ordering::Relaxed);
                    counted.orders.fetch_add(u64::try_from(more)?, Ordering::Relaxed);
                }
                sleep(LOOK_EVERY).await;
            }
        });
        Ok(Watcher { task, seen, start })
    }

    fn orders(&self) -> u64 {
        self.seen.orders.load(Ordering::Relaxed)
    }

    /// Waits until so many are, or until for `patience` no more have become so. Answers how many are, and when the last were seen.
    ///
    /// # Errors
    ///
    /// Where the log could not be read any more.
    pub(super) async fn wait_for(self, orders: u64, patience: Duration) -> Result<(u64, Instant)> {
        let mut last = (self.orders(), Instant::now());
        while self.orders() < orders && last.1.elapsed() < patience && !self.task.is_finished() {
            sleep(LOOK_EVERY).await;
            if self.orders() > last.0 {
                last = (self.orders(), Instant::now());
            }
        }
        if self.task.is_finished() {
            self.task.await.context("watching the commit log broke down")??;
            anyhow::bail!("watching the commit log has ended");
        }
        self.task.abort();
        let at = Duration::from_nanos(self.seen.at.load(Ordering::Relaxed));
        Ok((self.orders(), self.start + at))
    }

    /// How many orders have been committed, for whoever shows it meanwhile.
    pub(super) fn counter(&self) -> Committed {
        Committed(Arc::clone(&self.seen))
    }
}

/// How many orders have been committed so far.
#[derive(Debug, Clone)]
pub(super) struct Committed(Arc<Seen>);

impl Committed {
    /// The number.
    pub(super) fn orders(&self) -> u64 {
        self.0.orders.load(Ordering::Relaxed)
    }
}

/// Rows of the four tables.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) orders: u64,
    pub(super) delivery: u64,
    pub(super) payment: u64,
    pub(super) items: u64,
}

/// Counts the rows of the orders with these numbers, and what they should be: one an order, and all of its items.
///
/// # Errors
///
/// Where they cannot be counted.
pub(super) async fn rows(client: &Client, stock: &Stock, first: u64, count: u64) -> Result<(Rows, Rows)> {
    let (mut found, mut expected) = (Rows::default(), Rows::default());
    let mut begin = first;
    while begin < first + count {
        let end = (begin + CHUNK).min(first + count);
        let uids: Vec<String> = (begin..end)
            .map(|number| stock.uid(number).as_str().to_owned())
            .collect();
        let counted = timeout(PATIENCE, async { client.query_one(ROWS, &[&uids]).await });
        let row = counted.await.context("the rows cannot be counted in time")??;
        let number = |index: usize| u64::try_from(row.get::<_, i64>(index));
        found.orders += number(0)?;
        found.delivery += number(1)?;
        found.payment += number(2)?;
        found.items += number(3)?;
        expected.orders += end - begin;
        expected.items += (begin..end).map(|number| stock.items(number)).sum::<u64>();
        begin = end;
    }
    (expected.delivery, expected.payment) = (expected.orders, expected.orders);
    Ok((found, expected))
}
