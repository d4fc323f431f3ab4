//! The newest orders in bulk, for a replica that warms its cache.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream, try_join};
use order_domain::{Delivery, Item, OrderDocument, OrderStream, Payment};
use tokio::time::timeout;
use tokio_postgres::Row;

use crate::failure::Failure;
use crate::pool::{Lent, Pool};
use crate::rows::{
    StoredOrder, delivery, delivery_columns, get, item_columns, items, order_columns, payment,
    payment_columns,
};
use crate::timestamptz::Micros;

/// How many orders are read at once.
const PAGE: usize = 1_000;
/// How many bytes of documents are put together at once: what bounds the memory in use, however large the orders are.
const CHUNK_BYTES: usize = 4 << 20;

/// The transaction may rest longer than others while the documents are put into a cache: it reads only, and holds up nobody
/// but a migration. It ends by itself all the same, should this process freeze.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout TO '60s';
    SET LOCAL statement_timeout TO '60s'";

const PAGE_AFTER: &str = concat!(
    "SELECT ",
    order_columns!(),
    " FROM orders WHERE (date_created, order_uid) < ($1, $2) ORDER BY date_created DESC, order_uid DESC LIMIT $3"
);

const DELIVERIES: &str = concat!(
    "SELECT order_uid, ",
    delivery_columns!(),
    " FROM delivery WHERE order_uid = ANY($1)"
);

const PAYMENTS: &str = concat!(
    "SELECT order_uid, ",
    payment_columns!(),
    " FROM payment WHERE order_uid = ANY($1)"
);

const ITEMS: &str = concat!(
    "SELECT order_uid, ",
    item_columns!(),
    " FROM (SELECT * FROM items WHERE order_uid = ANY($1) ORDER BY order_uid, position) AS sorted GROUP BY order_uid"
);

/// Where a bulk read stands.
enum Reading {
    /// Nothing was asked yet; the snapshot is taken when the first chunk is.
    Before { pool: Arc<Pool> },
    /// Within its transaction.
    Snapshot(Box<Snapshot>),
    /// All was read, or an error was answered.
    Done,
}

struct Snapshot {
    lent: Lent,
    /// The last order that was read: its date and uid.
    last: (Micros, String),
    /// Read, but without their parts.
    page: VecDeque<StoredOrder>,
    /// How many may still be read.
    remaining: usize,
}

/// At most `limit` orders, those created last first, all of one snapshot. Each step takes at most `deadline`.
pub(crate) fn newest(pool: Arc<Pool>, deadline: Duration, limit: usize) -> OrderStream<'static> {
    stream::unfold(Reading::Before { pool }, move |reading| async move {
        let step = timeout(deadline, next_chunk(reading, limit)).await;
        let step =
            step.unwrap_or_else(|_| Err(Failure::unavailable(format!("not done within {deadline:?}"))));
        match step {
            Ok(Some((chunk, snapshot))) => Some((Ok(chunk), Reading::Snapshot(snapshot))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure.into()), Reading::Done)),
        }
    })
    .boxed()
}

async fn next_chunk(
    reading: Reading,
    limit: usize,
) -> Result<Option<(Vec<OrderDocument>, Box<Snapshot>)>, Failure> {
    let mut snapshot = match reading {
        Reading::Before { pool } => {
            let lent = pool.lend().await?;
            lent.batch_execute(BEGIN).await?;
            let (last, page) = ((Micros::INFINITY, String::new()), VecDeque::new());
            Box::new(Snapshot {
                lent,
                last,
                page,
                remaining: limit,
            })
        }
        Reading::Snapshot(snapshot) => snapshot,
        Reading::Done => return Ok(None),
    };
    if snapshot.page.is_empty() {
        snapshot.read_page().await?;
    }
    if snapshot.page.is_empty() {
        snapshot.lent.batch_execute("COMMIT").await?;
        snapshot.lent.give_back();
        return Ok(None);
    }
    let chunk = snapshot.put_together().await?;
    Ok(Some((chunk, snapshot)))
}

impl Snapshot {
    async fn read_page(&mut self) -> Result<(), Failure> {
        let limit = i64::try_from(self.remaining.min(PAGE)).map_err(Failure::undecodable)?;
        let statement = self.lent.prepare_cached(PAGE_AFTER).await?;
        let rows = self
            .lent
            .query(&statement, &[&self.last.0, &self.last.1, &limit])
            .await?;
        self.page = rows
            .iter()
            .map(|row| StoredOrder::read(row, 0))
            .collect::<Result<_, _>>()?;
        self.remaining -= self.page.len();
        if let Some(last) = self.page.back() {
            self.last = (last.date_created, last.uid().to_string());
        }
        Ok(())
    }

    /// Takes orders off the page, as many as may be in memory at once, and reads their parts: three statements a chunk, on
    /// their way together.
    async fn put_together(&mut self) -> Result<Vec<OrderDocument>, Failure> {
        let mut orders = Vec::new();
        let mut bytes = 0;
        while let Some(order) = self
            .page
            .pop_front_if(|order| bytes == 0 || bytes + order.document_bytes <= CHUNK_BYTES)
        {
            bytes += order.document_bytes.max(1);
            orders.push(order);
        }
        let uids: Vec<&str> = orders.iter().map(|order| order.uid().as_str()).collect();
        let lent = &self.lent;
        let read = async |sql| lent.query(&lent.prepare_cached(sql).await?, &[&uids]).await;
        let (deliveries, payments, contents) = try_join!(read(DELIVERIES), read(PAYMENTS), read(ITEMS))?;
        let mut deliveries: HashMap<String, Delivery> = by_uid(&deliveries, delivery)?;
        let mut payments: HashMap<String, Payment> = by_uid(&payments, payment)?;
        let mut contents: HashMap<String, Vec<Item>> = by_uid(&contents, items)?;

        let mut documents = Vec::with_capacity(orders.len());
        for order in orders {
            let uid = order.uid().as_str();
            match (deliveries.remove(uid), payments.remove(uid)) {
                (Some(delivery), Some(payment)) => {
                    let items = contents.remove(uid).unwrap_or_default();
                    documents.push(order.document(delivery, payment, items));
                }
                // Someone deleted a part by hand. Whoever asks for this order is told; the others can be warmed all the same.
                _ => tracing::warn!(uid, "an order lacks its delivery or payment"),
            }
        }
        Ok(documents)
    }
}

fn by_uid<T>(
    rows: &[Row],
    read: impl Fn(&Row, usize) -> Result<T, Failure>,
) -> Result<HashMap<String, T>, Failure> {
    rows.iter().map(|row| Ok((get(row, 0)?, read(row, 1)?))).collect()
}
