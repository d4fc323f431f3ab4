//! The newest orders in bulk, for a replica that warms its cache.
//!
//! They are read page by page: the orders of a page with their delivery and payment, and beside it the items of the same page, in the
//! same order. While the items of one page come in and its orders are put together, the server reads the orders of the next.
//!
//! Where all there are fit, the pages go by uid, which all four tables are keyed by: each is read from one end to the other, in step with
//! the others. Else they go by date, and the server looks up the parts of each order by themselves, for twice the price.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream, try_join};
use order_domain::{Item, OrderDocument, OrderPlace, OrderStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, RowStream, Statement};

use crate::failure::Failure;
use crate::pool::{Lent, Pool};
use crate::rows::{
    below, get, has_parts, item, item_columns, order_columns_without_items, order_with, place, single_parts,
};

/// How many connections a bulk read takes, which are closed when it ends: it is done once after a start.
pub(crate) const CONNECTIONS: usize = 2;
/// How many orders a page by uid has. One by date has fewer, see `page_by_date`.
const PAGE: usize = 1_000;
/// How many bytes of documents are handed over at once, however large the orders are.
const CHUNK_BYTES: usize = 256 << 10;
/// How many chunks may wait to be taken.
const CHUNKS: usize = 4;

/// The transaction may rest longer than others while the documents are put into a cache: it reads only, and holds up nobody
/// but a migration. It ends by itself all the same, should this process freeze.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout TO '60s';
    SET LOCAL statement_timeout TO '60s'";

/// For pages by uid: of all plans this leaves the one that reads the tables in step, each by its key, and stops at the end of a page.
const IN_STEP: &str = "
    SET LOCAL enable_nestloop TO off; SET LOCAL enable_hashjoin TO off;
    SET LOCAL enable_bitmapscan TO off; SET LOCAL enable_sort TO off";

/// How many orders are counted to find out whether all fit, so that a large table is not read from end to end for nothing.
const COUNTED: usize = 1_000_000;

/// How many orders there are, of `$1` at most, and what their documents weigh without the structs. They are counted as they lie.
const WEIGH: &str = "
    SELECT count(*), coalesce(sum(document_bytes + octet_length(order_uid)), 0)::bigint
    FROM (SELECT document_bytes, order_uid FROM orders LIMIT $1) AS counted";

/// A page by date under the name `orders`: at most `$3` orders after a place, and never more than 500. That number stands in the
/// text, so that every plan expects few orders, and looks up their parts by key instead of reading whole tables for them.
macro_rules! page_by_date {
    () => {
        "(SELECT * FROM (
              SELECT * FROM orders WHERE (date_created, order_uid) < ($1, $2)
              ORDER BY date_created DESC, order_uid DESC LIMIT 500
          ) AS newest LIMIT $3) AS orders"
    };
}

const ORDERS_BY_DATE: &str = concat!(
    "SELECT ",
    order_columns_without_items!(),
    " FROM ",
    page_by_date!(),
    single_parts!(),
    "ORDER BY orders.date_created DESC, orders.order_uid DESC"
);

/// Items as they are: a row each costs both sides less than to put them into arrays and to take them out again.
const ITEMS_BY_DATE: &str = concat!(
    "SELECT orders.order_uid, ",
    item_columns!(),
    " FROM ",
    page_by_date!(),
    " CROSS JOIN LATERAL (SELECT * FROM items WHERE items.order_uid = orders.order_uid ORDER BY position) AS items
     ORDER BY orders.date_created DESC, orders.order_uid DESC"
);

const ORDERS_BY_UID: &str = concat!(
    "SELECT ",
    order_columns_without_items!(),
    " FROM orders
      LEFT JOIN delivery ON delivery.order_uid = orders.order_uid AND delivery.order_uid > $1
      LEFT JOIN payment ON payment.order_uid = orders.order_uid AND payment.order_uid > $1
      WHERE orders.order_uid > $1 ORDER BY orders.order_uid LIMIT $2"
);

const ITEMS_BY_UID: &str = concat!(
    "SELECT orders.order_uid, ",
    item_columns!(),
    " FROM (SELECT order_uid FROM orders WHERE order_uid > $1 ORDER BY order_uid LIMIT $2) AS orders
      JOIN items ON items.order_uid = orders.order_uid AND items.order_uid > $1
      ORDER BY orders.order_uid"
);

/// The orders that [`OrderRepository::newest`](order_domain::OrderRepository::newest) promises. Each step takes at most `deadline`.
///
/// A task reads ahead of whoever takes the chunks, by a page at most; it ends with the stream.
pub(crate) fn newest(
    pool: Arc<Pool>,
    deadline: Duration,
    limit: usize,
    max_bytes: u64,
) -> OrderStream<'static> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    let mut task = JoinSet::new();
    task.spawn(async move { read(&pool, limit, max_bytes, &sender).await });
    let reading = Reading { chunks, task };
    stream::unfold(Some(reading), move |reading| async move {
        let mut reading = reading?;
        let late = |_| Err(Failure::unavailable(format!("not done within {deadline:?}")));
        match timeout(deadline, reading.next()).await.unwrap_or_else(late) {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
            Ok(None) => None,
            Err(failure) => Some((Err(failure.into()), None)),
        }
    })
    .boxed()
}

/// The reading end.
struct Reading {
    chunks: mpsc::Receiver<Vec<OrderDocument>>,
    /// The task that reads, aborted when this is dropped.
    task: JoinSet<Result<(), Failure>>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Vec<OrderDocument>>, Failure> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        if let Some(ended) = self.task.join_next().await {
            ended.map_err(Failure::other)??;
        }
        Ok(None)
    }
}

async fn read(
    pool: &Pool,
    limit: usize,
    max_bytes: u64,
    chunks: &mpsc::Sender<Vec<OrderDocument>>,
) -> Result<(), Failure> {
    let lent = pool.lend().await?;
    lent.batch_execute(BEGIN).await?;
    // A second connection into the same snapshot: two processes of the server share the work then. Another bulk read may have it.
    let beside = pool.lend().await.ok();
    if let Some(beside) = &beside {
        let exported = lent.query_one("SELECT pg_export_snapshot()", &[]).await?;
        let snapshot: &str = get(&exported, 0)?;
        let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{snapshot}'");
        beside.batch_execute(&begin).await?;
    }
    let lent_for_items = beside.as_ref().unwrap_or(&lent);
    let way = if all_fit(&lent, limit, max_bytes).await? {
        lent.batch_execute(IN_STEP).await?;
        lent_for_items.batch_execute(IN_STEP).await?;
        Way::ByUid
    } else {
        Way::ByDate
    };
    let orders = way.pages(&lent, ORDERS_BY_DATE, ORDERS_BY_UID).await?;
    let items = way.pages(lent_for_items, ITEMS_BY_DATE, ITEMS_BY_UID).await?;

    let (mut after, mut remaining) = (None, limit);
    let mut page: Vec<Row> = orders.read(None, remaining).await?.try_collect().await?;
    while let Some(last) = page.last() {
        let (last, left) = (place(last)?, remaining - page.len());
        // On their way together, also where they share a connection: the items are asked for first, and taken first.
        let ((), following) = try_join!(
            async { put_together(page, items.read(after.as_ref(), remaining).await?, chunks).await },
            async { Ok(orders.read(Some(&last), left).await?.try_collect().await?) },
        )?;
        (page, after, remaining) = (following, Some(last), left);
    }
    // The connections are closed now, and what was only read ends with them.
    Ok(())
}

/// Whether all orders there are are at most `limit`, and weigh at most `max_bytes`.
async fn all_fit(lent: &Lent, limit: usize, max_bytes: u64) -> Result<bool, Failure> {
    let one_too_many = limit.min(COUNTED) as i64 + 1;
    lent.batch_execute("SET LOCAL enable_seqscan TO on").await?;
    let row = lent.query_one(WEIGH, &[&one_too_many]).await?;
    lent.batch_execute("SET LOCAL enable_seqscan TO off").await?;
    let (orders, bytes) = (get::<i64>(&row, 0)?, get::<i64>(&row, 1)?);
    let weight = bytes + orders * size_of::<OrderDocument>() as i64;
    Ok(orders < one_too_many && weight.unsigned_abs() <= max_bytes)
}

/// The order of the pages.
#[derive(Clone, Copy)]
enum Way {
    ByDate,
    ByUid,
}

impl Way {
    async fn pages<'a>(self, lent: &'a Lent, by_date: &str, by_uid: &str) -> Result<Pages<'a>, Failure> {
        let text = match self {
            Way::ByDate => by_date,
            Way::ByUid => by_uid,
        };
        let statement = lent.prepare_cached(text).await?;
        Ok(Pages {
            way: self,
            lent,
            statement,
        })
    }
}

/// One statement, asked page by page.
struct Pages<'a> {
    way: Way,
    lent: &'a Lent,
    statement: Statement,
}

impl Pages<'_> {
    async fn read(&self, after: Option<&OrderPlace>, remaining: usize) -> Result<RowStream, Failure> {
        let (date, uid) = below(after);
        let limit = remaining.min(PAGE) as i64;
        let parameters: [&(dyn ToSql + Sync); 3] = [&date, &uid, &limit];
        let parameters = match self.way {
            Way::ByDate => &parameters[..],
            Way::ByUid => &parameters[1..],
        };
        Ok(self
            .lent
            .query_raw(&self.statement, parameters.iter().copied())
            .await?)
    }
}

/// Gives each order its items, which come in the order of the orders, and hands over the documents.
async fn put_together(
    orders: Vec<Row>,
    items: RowStream,
    chunks: &mpsc::Sender<Vec<OrderDocument>>,
) -> Result<(), Failure> {
    let mut items = pin!(items);
    let mut ahead = items.try_next().await?;
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    for order in orders {
        let uid: &str = get(&order, 0)?;
        let mut contents: Vec<(i32, Item)> = Vec::new();
        while let Some(row) = &ahead
            && get::<&str>(row, 0)? == uid
        {
            contents.push((get(row, 1)?, item(row, 2)?));
            ahead = items.try_next().await?;
        }
        if !has_parts(&order)? {
            // Someone deleted a part by hand. Whoever asks for this order is told; the others can be warmed all the same.
            tracing::warn!(uid, "an order lacks its delivery or payment");
            continue;
        }
        // They come sorted, but nothing promises it.
        contents.sort_by_key(|(position, _)| *position);
        let contents = contents.into_iter().map(|(_, item)| item).collect();
        let document = order_with(&order, contents)?;
        bytes += document.json.len();
        chunk.push(document);
        if bytes >= CHUNK_BYTES {
            // Nobody takes it where the stream was dropped, and this task is about to be.
            let _ = chunks.send(mem::take(&mut chunk)).await;
            bytes = 0;
        }
    }
    if ahead.is_some() {
        return Err(Failure::other("the items of a page are not those of its orders"));
    }
    if !chunk.is_empty() {
        let _ = chunks.send(chunk).await;
    }
    Ok(())
}
