//! Many orders in one answer: a page of a list, and those of many uids. Each is one statement, so that all of it is of one snapshot.

use std::fmt::Write;
use std::time::Duration;

use futures::join;
use order_domain::{FoundOrders, OrderFilter, OrderPage, OrderQuery, OrderUid};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::failure::Failure;
use crate::pool::Lent;
use crate::rows::{
    WHOLE_WIDTH, below, get, has_parts, parts_of_orders, place, whole_order, whole_order_columns,
};

/// The orders of `asked`, each with its place there and with the bytes of it and all before it. Those from `cut` on are left out before
/// their parts are read.
const FIND_MANY: &str = concat!(
    "WITH measured AS (
         SELECT orders.*, asked.place, sum(document_bytes) OVER (ORDER BY asked.place) AS bytes
         FROM unnest($1::text[]) WITH ORDINALITY AS asked (order_uid, place)
         CROSS JOIN LATERAL (SELECT * FROM orders WHERE orders.order_uid = asked.order_uid LIMIT 1) AS orders
     ), measured_and_cut AS (
         SELECT *, min(place) FILTER (WHERE bytes > $2 AND bytes > document_bytes) OVER () AS cut FROM measured
     )
     SELECT ",
    whole_order_columns!(),
    ", orders.cut FROM measured_and_cut AS orders",
    parts_of_orders!(),
    "WHERE orders.cut IS NULL OR orders.place < orders.cut
     ORDER BY orders.place"
);

/// Finds one order more than the page may have, to learn whether there are more, and leaves out what is beyond the limits
/// before its parts are read. Between the two stands what the filter asks for.
const PAGE_BEGINS: &str = "WITH candidates AS (SELECT orders.* FROM orders";
const PAGE_ENDS: &str = concat!(
    "    ORDER BY orders.date_created DESC, orders.order_uid DESC
         LIMIT $3::bigint + 1
     ), measured AS (
         SELECT *,
             row_number() OVER newest AS place, sum(document_bytes) OVER newest AS bytes, count(*) OVER () AS candidates
         FROM candidates
         WINDOW newest AS (ORDER BY date_created DESC, order_uid DESC)
     )
     SELECT ",
    whole_order_columns!(),
    ", orders.candidates FROM measured AS orders",
    parts_of_orders!(),
    "WHERE orders.place <= $3 AND (orders.place = 1 OR orders.bytes <= $4)
     ORDER BY orders.place"
);

/// The orders of these uids.
pub(crate) async fn find_many(
    lent: &Lent,
    uids: &[OrderUid],
    max_bytes: usize,
) -> Result<FoundOrders, Failure> {
    let names: Vec<&str> = uids.iter().map(OrderUid::as_str).collect();
    let statement = lent.prepare_cached(FIND_MANY).await?;
    let rows = lent.query(&statement, &[&names, &bigint(max_bytes)]).await?;
    let cut: Option<i64> = rows.first().map_or(Ok(None), |row| get(row, WHOLE_WIDTH))?;
    let answered = match cut {
        // Places count from 1, and the one at the cut is not answered.
        Some(place) => usize::try_from(place - 1).map_err(Failure::undecodable)?,
        None => uids.len(),
    };
    let orders = rows.iter().map(whole_order).collect::<Result<_, _>>()?;
    Ok(FoundOrders { orders, answered })
}

/// One page of a list, within `deadline` on the server as well: what nobody waits for any more is not worth its work, and a
/// filter of two texts that many orders have and none has both is much work.
pub(crate) async fn page(lent: &Lent, query: &OrderQuery, deadline: Duration) -> Result<OrderPage, Failure> {
    let (date, uid) = below(query.after.as_ref());
    let (limit, max_bytes) = (bigint(query.limit), bigint(query.max_bytes));
    let filters = filters(&query.filter);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&date, &uid, &limit, &max_bytes];
    parameters.extend(filters.iter().map(|(_, text)| text as &(dyn ToSql + Sync)));

    let statement = lent.prepare_cached(&page_sql(&filters)).await?;
    // Planned for these very limits: a plan for any limit would have to expect a large one, and to read whole tables for it.
    let begin = format!(
        "BEGIN READ ONLY; SET LOCAL plan_cache_mode TO force_custom_plan; SET LOCAL statement_timeout TO {}",
        deadline.as_millis().max(1)
    );
    // On their way together; the first error is the real one.
    let (begun, rows, ended) = join!(
        lent.batch_execute(&begin),
        lent.query(&statement, &parameters),
        lent.batch_execute("COMMIT"),
    );
    begun?;
    let rows = rows?;
    ended?;
    read_page(&rows)
}

fn read_page(rows: &[Row]) -> Result<OrderPage, Failure> {
    let mut page = OrderPage::default();
    for row in rows {
        if has_parts(row)? {
            page.orders.push(whole_order(row)?);
        } else {
            // Someone deleted a part by hand. Whoever asks for this order is told; the list goes on without it.
            let uid: &str = get(row, 0)?;
            tracing::warn!(uid, "an order lacks its delivery or payment");
        }
    }
    if let Some(last) = rows.last() {
        let candidates: i64 = get(last, WHOLE_WIDTH)?;
        if candidates > bigint(rows.len()) {
            page.next = Some(place(last)?);
        }
    }
    Ok(page)
}

/// The columns that are asked for, and what they must be.
fn filters(filter: &OrderFilter) -> Vec<(&'static str, &str)> {
    let columns = [
        ("orders.track_number", &filter.track_number),
        ("orders.customer_id", &filter.customer_id),
        (TRANSACTION, &filter.transaction),
    ];
    let given = columns
        .into_iter()
        .filter_map(|(column, text)| Some((column, text.as_ref()?.as_str())));
    given.collect()
}

const TRANSACTION: &str = "payment.transaction";

/// A statement of its own for each combination of filters, so that each is planned for itself.
fn page_sql(filters: &[(&str, &str)]) -> String {
    let mut sql = PAGE_BEGINS.to_owned();
    if filters.iter().any(|(column, _)| *column == TRANSACTION) {
        sql.push_str(" JOIN payment ON payment.order_uid = orders.order_uid");
    }
    sql.push_str(" WHERE (orders.date_created, orders.order_uid) < ($1, $2)");
    for (number, (column, _)) in (5..).zip(filters) {
        // Writing to a String cannot fail.
        let _ = write!(sql, " AND {column} COLLATE \"C\" = ${number}");
    }
    sql.push_str(PAGE_ENDS);
    sql
}

/// More than a bigint holds is as good as no limit.
fn bigint(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX - 1)
}
