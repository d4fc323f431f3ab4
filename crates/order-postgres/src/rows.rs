//! Rows read back as orders.

use order_domain::{
    Amount, Delivery, Item, LogCursor, OrderDocument, OrderParts, OrderPlace, OrderUid, Payment, Revision,
    Text, UtcDateTime,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::failure::Failure;
use crate::numeric::Numeric;
use crate::timestamptz::Micros;

/// The columns of the table `orders`, which [`place`] reads as well.
macro_rules! order_columns {
    () => {
        "orders.order_uid, orders.published_at, orders.sequence, orders.track_number, orders.entry, orders.locale,
         orders.internal_signature, orders.customer_id, orders.delivery_service, orders.shardkey, orders.sm_id,
         orders.date_created, orders.oof_shard"
    };
}

/// What [`delivery`] reads, from the table `delivery`.
macro_rules! delivery_columns {
    () => {
        "delivery.name, delivery.phone, delivery.zip, delivery.city, delivery.address, delivery.region, delivery.email"
    };
}

/// What [`payment`] reads, from the table `payment`.
macro_rules! payment_columns {
    () => {
        "payment.transaction, payment.request_id, payment.currency, payment.provider, payment.amount, payment.payment_dt,
         payment.bank, payment.delivery_cost, payment.goods_total, payment.custom_fee"
    };
}

/// What [`item`] reads, from the table `items`, after its position.
macro_rules! item_columns {
    () => {
        "items.position, items.chrt_id, items.track_number, items.price, items.rid, items.name, items.sale, items.size,
         items.total_price, items.nm_id, items.brand, items.status"
    };
}

/// What [`items`] reads, from the table `items`: the items of one order as arrays, so that an order is one row, and its own
/// columns are not repeated for each of a thousand items.
macro_rules! item_arrays {
    () => {
        "array_agg(position) AS positions, array_agg(chrt_id) AS chrt_ids, array_agg(track_number) AS track_numbers,
         array_agg(price) AS prices, array_agg(rid) AS rids, array_agg(name) AS names, array_agg(sale) AS sales,
         array_agg(size) AS sizes, array_agg(total_price) AS total_prices, array_agg(nm_id) AS nm_ids,
         array_agg(brand) AS brands, array_agg(status) AS statuses"
    };
}

/// What [`order_with`] and [`has_parts`] read, from rows under the name `orders` that are joined to their delivery and payment.
macro_rules! order_columns_without_items {
    () => {
        concat!(
            $crate::rows::order_columns!(),
            ", ",
            $crate::rows::delivery_columns!(),
            ", ",
            $crate::rows::payment_columns!()
        )
    };
}

/// What [`whole_order`] reads, from rows under the name `orders` that [`parts_of_orders`] has joined to their parts.
macro_rules! whole_order_columns {
    () => {
        concat!($crate::rows::order_columns_without_items!(), ", items.*")
    };
}

/// Joins rows under the name `orders` to their delivery and payment. They are looked up row by row, by their keys; no plan can read
/// a whole table for them.
macro_rules! single_parts {
    () => {
        " LEFT JOIN LATERAL (SELECT * FROM delivery WHERE delivery.order_uid = orders.order_uid LIMIT 1) AS delivery ON TRUE
          LEFT JOIN LATERAL (SELECT * FROM payment WHERE payment.order_uid = orders.order_uid LIMIT 1) AS payment ON TRUE "
    };
}

/// Joins rows under the name `orders` to all their parts: one statement, and so one version of each order whatever is committed
/// meanwhile.
macro_rules! parts_of_orders {
    () => {
        concat!(
            $crate::rows::single_parts!(),
            " CROSS JOIN LATERAL (
                  SELECT ",
            $crate::rows::item_arrays!(),
            "     FROM (SELECT * FROM items WHERE items.order_uid = orders.order_uid ORDER BY position) AS sorted
              ) AS items "
        )
    };
}

pub(crate) use {
    delivery_columns, item_arrays, item_columns, order_columns, order_columns_without_items, parts_of_orders,
    payment_columns, single_parts, whole_order_columns,
};

/// Where in a whole order each part begins, and where its columns end.
const DELIVERY_AT: usize = 13;
const PAYMENT_AT: usize = DELIVERY_AT + 7;
const ITEMS_AT: usize = PAYMENT_AT + 10;
pub(crate) const WHOLE_WIDTH: usize = ITEMS_AT + 12;

/// A whole order. A part that is missing reads as NULL, and that as an error which names its column: better than half an order.
pub(crate) fn whole_order(row: &Row) -> Result<OrderDocument, Failure> {
    order_with(row, items(row, ITEMS_AT)?)
}

/// The order of a row without its items, and these.
pub(crate) fn order_with(row: &Row, items: Vec<Item>) -> Result<OrderDocument, Failure> {
    let parts = OrderParts {
        order_uid: uid(row)?,
        track_number: text(row, 3)?,
        entry: text(row, 4)?,
        delivery: delivery(row, DELIVERY_AT)?,
        payment: payment(row, PAYMENT_AT)?,
        items,
        locale: text(row, 5)?,
        internal_signature: text(row, 6)?,
        customer_id: text(row, 7)?,
        delivery_service: text(row, 8)?,
        shardkey: text(row, 9)?,
        sm_id: get(row, 10)?,
        date_created: date_created(row)?,
        oof_shard: text(row, 12)?,
    };
    Ok(OrderDocument::from_stored(&parts, revision(row, 1, 2)?))
}

/// Whether the order of this row has its delivery and its payment.
pub(crate) fn has_parts(row: &Row) -> Result<bool, Failure> {
    let is_there = |at| Ok::<_, Failure>(get::<Option<&str>>(row, at)?.is_some());
    Ok(is_there(DELIVERY_AT)? && is_there(PAYMENT_AT)?)
}

/// Where the order of this row stands in every list.
pub(crate) fn place(row: &Row) -> Result<OrderPlace, Failure> {
    Ok(OrderPlace {
        date_created: date_created(row)?,
        order_uid: uid(row)?,
    })
}

/// What the key of every order after this place is below.
pub(crate) fn below(place: Option<&OrderPlace>) -> (Micros, &str) {
    match place {
        Some(place) => (
            Micros(place.date_created.as_unix_micros()),
            place.order_uid.as_str(),
        ),
        None => (Micros::INFINITY, ""),
    }
}

fn uid(row: &Row) -> Result<OrderUid, Failure> {
    OrderUid::new(get(row, 0)?).map_err(Failure::undecodable)
}

fn date_created(row: &Row) -> Result<UtcDateTime, Failure> {
    let Micros(micros) = get(row, 11)?;
    UtcDateTime::from_unix_micros(micros).map_err(Failure::undecodable)
}

/// Reads the columns from `at` on.
fn delivery(row: &Row, at: usize) -> Result<Delivery, Failure> {
    Ok(Delivery {
        name: text(row, at)?,
        phone: text(row, at + 1)?,
        zip: text(row, at + 2)?,
        city: text(row, at + 3)?,
        address: text(row, at + 4)?,
        region: text(row, at + 5)?,
        email: text(row, at + 6)?,
    })
}

/// Reads the columns from `at` on.
fn payment(row: &Row, at: usize) -> Result<Payment, Failure> {
    Ok(Payment {
        transaction: text(row, at)?,
        request_id: text(row, at + 1)?,
        currency: text(row, at + 2)?,
        provider: text(row, at + 3)?,
        amount: amount(row, at + 4)?,
        payment_dt: get(row, at + 5)?,
        bank: text(row, at + 6)?,
        delivery_cost: amount(row, at + 7)?,
        goods_total: amount(row, at + 8)?,
        custom_fee: amount(row, at + 9)?,
    })
}

/// Reads the columns from `at` on.
pub(crate) fn item(row: &Row, at: usize) -> Result<Item, Failure> {
    Ok(Item {
        chrt_id: get(row, at)?,
        track_number: text(row, at + 1)?,
        price: amount(row, at + 2)?,
        rid: text(row, at + 3)?,
        name: text(row, at + 4)?,
        sale: get(row, at + 5)?,
        size: text(row, at + 6)?,
        total_price: amount(row, at + 7)?,
        nm_id: get(row, at + 8)?,
        brand: text(row, at + 9)?,
        status: get(row, at + 10)?,
    })
}

/// Reads the columns from `at` on; they are NULL where an order has no items.
fn items(row: &Row, at: usize) -> Result<Vec<Item>, Failure> {
    let Some(positions) = get::<Option<Vec<i32>>>(row, at)? else {
        return Ok(Vec::new());
    };
    let (chrt_ids, track_numbers) = (get::<Vec<i64>>(row, at + 1)?, get::<Vec<&str>>(row, at + 2)?);
    let (prices, rids) = (get::<Vec<Numeric>>(row, at + 3)?, get::<Vec<&str>>(row, at + 4)?);
    let (names, sales) = (get::<Vec<&str>>(row, at + 5)?, get::<Vec<i32>>(row, at + 6)?);
    let (sizes, total_prices) = (get::<Vec<&str>>(row, at + 7)?, get::<Vec<Numeric>>(row, at + 8)?);
    let (nm_ids, brands) = (get::<Vec<i64>>(row, at + 9)?, get::<Vec<&str>>(row, at + 10)?);
    let statuses = get::<Vec<i32>>(row, at + 11)?;

    // The arrays are built from sorted rows and come sorted, but nothing promises it. They are of one length: each of their
    // elements is from one row.
    let mut places: Vec<usize> = (0..positions.len()).collect();
    places.sort_by_key(|&place| positions[place]);
    places
        .into_iter()
        .map(|place| {
            Ok(Item {
                chrt_id: chrt_ids[place],
                track_number: track_numbers[place].into(),
                price: prices[place].0,
                rid: rids[place].into(),
                name: names[place].into(),
                sale: sales[place],
                size: sizes[place].into(),
                total_price: total_prices[place].0,
                nm_id: nm_ids[place],
                brand: brands[place].into(),
                status: statuses[place],
            })
        })
        .collect()
}

/// One column; the error names it.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Failure> {
    row.try_get(at).map_err(|error| {
        let column = row.columns().get(at).map_or("?", |column| column.name());
        Failure::undecodable(format!("the column {column} cannot be read: {error}"))
    })
}

/// A place in the commit log from the columns `position` and `mark`, the first of which is at `at`.
pub(crate) fn cursor(row: &Row, at: usize) -> Result<LogCursor, Failure> {
    Ok(LogCursor {
        position: get(row, at)?,
        mark: get(row, at + 1)?,
    })
}

/// A revision from two columns.
pub(crate) fn revision(row: &Row, published_at: usize, sequence: usize) -> Result<Revision, Failure> {
    let Micros(published_at) = get(row, published_at)?;
    let sequence = u64::try_from(get::<i64>(row, sequence)?).map_err(Failure::undecodable)?;
    Ok(Revision {
        published_at,
        sequence,
    })
}

fn text(row: &Row, at: usize) -> Result<Text, Failure> {
    get::<&str>(row, at).map(Text::from)
}

fn amount(row: &Row, at: usize) -> Result<Amount, Failure> {
    get(row, at).map(|Numeric(amount)| amount)
}
