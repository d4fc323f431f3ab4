//! Orders as rows in the binary format of `COPY`, which takes them far cheaper than any statement does.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};
use order_domain::{Amount, RevisedOrder};
use tokio_postgres::types::{ToSql, Type};

use crate::columns::{document_bytes, sequence};
use crate::failure::Failure;
use crate::timestamptz::Micros;

pub(crate) const COPY_ORDERS: &str = "
    COPY orders (
        order_uid, published_at, sequence, track_number, entry, locale, internal_signature, customer_id, delivery_service,
        shardkey, sm_id, date_created, oof_shard, document_bytes)
    FROM STDIN (FORMAT binary)";

pub(crate) const COPY_DELIVERY: &str = "
    COPY delivery (order_uid, name, phone, zip, city, address, region, email) FROM STDIN (FORMAT binary)";

pub(crate) const COPY_PAYMENT: &str = "
    COPY payment (
        order_uid, transaction, request_id, currency, provider, amount, payment_dt, bank, delivery_cost, goods_total, custom_fee)
    FROM STDIN (FORMAT binary)";

pub(crate) const COPY_ITEMS: &str = "
    COPY items (
        order_uid, position, chrt_id, track_number, price, rid, name, sale, size, total_price, nm_id, brand, status)
    FROM STDIN (FORMAT binary)";

/// The rows of some orders for each table; `None` where there are none.
pub(crate) struct Tables {
    pub(crate) orders: Option<Bytes>,
    pub(crate) delivery: Option<Bytes>,
    pub(crate) payment: Option<Bytes>,
    pub(crate) items: Option<Bytes>,
}

impl Tables {
    pub(crate) fn of(versions: &[&RevisedOrder]) -> Result<Self, Failure> {
        let (mut orders, mut delivery) = (Rows::default(), Rows::default());
        let (mut payment, mut items) = (Rows::default(), Rows::default());
        for RevisedOrder { revision, order } in versions {
            let uid = order.order_uid.as_str();
            orders.begin(14);
            orders.text(uid);
            orders.timestamptz(Micros(revision.published_at))?;
            orders.bigint(sequence(*revision)?);
            orders.text(&order.track_number);
            orders.text(&order.entry);
            orders.text(&order.locale);
            orders.text(&order.internal_signature);
            orders.text(&order.customer_id);
            orders.text(&order.delivery_service);
            orders.text(&order.shardkey);
            orders.integer(order.sm_id);
            orders.timestamptz(Micros(order.date_created.as_unix_micros()))?;
            orders.text(&order.oof_shard);
            orders.integer(document_bytes(order));

            delivery.begin(8);
            delivery.text(uid);
            delivery.text(&order.delivery.name);
            delivery.text(&order.delivery.phone);
            delivery.text(&order.delivery.zip);
            delivery.text(&order.delivery.city);
            delivery.text(&order.delivery.address);
            delivery.text(&order.delivery.region);
            delivery.text(&order.delivery.email);

            payment.begin(11);
            payment.text(uid);
            payment.text(&order.payment.transaction);
            payment.text(&order.payment.request_id);
            payment.text(&order.payment.currency);
            payment.text(&order.payment.provider);
            payment.numeric(order.payment.amount)?;
            payment.bigint(order.payment.payment_dt);
            payment.text(&order.payment.bank);
            payment.numeric(order.payment.delivery_cost)?;
            payment.numeric(order.payment.goods_total)?;
            payment.numeric(order.payment.custom_fee)?;

            for (position, item) in (0..).zip(&order.items) {
                items.begin(13);
                items.text(uid);
                items.integer(position);
                items.bigint(item.chrt_id);
                items.text(&item.track_number);
                items.numeric(item.price)?;
                items.text(&item.rid);
                items.text(&item.name);
                items.integer(item.sale);
                items.text(&item.size);
                items.numeric(item.total_price)?;
                items.bigint(item.nm_id);
                items.text(&item.brand);
                items.integer(item.status);
            }
        }
        Ok(Tables {
            orders: orders.end(),
            delivery: delivery.end(),
            payment: payment.end(),
            items: items.end(),
        })
    }
}

/// Rows as they are written.
#[derive(Default)]
struct Rows(BytesMut);

impl Rows {
    /// Begins a row of so many columns.
    fn begin(&mut self, columns: i16) {
        if self.0.is_empty() {
            // The signature, no flags, and no extension.
            self.0.put_slice(b"PGCOPY\n\xff\r\n\0");
            self.0.put_u64(0);
        }
        self.0.put_i16(columns);
    }

    fn text(&mut self, value: &str) {
        self.0
            .put_u32(u32::try_from(value.len()).expect("a message has at most 1 MiB"));
        self.0.put_slice(value.as_bytes());
    }

    fn integer(&mut self, value: i32) {
        self.0.put_u32(4);
        self.0.put_i32(value);
    }

    fn bigint(&mut self, value: i64) {
        self.0.put_u32(8);
        self.0.put_i64(value);
    }

    fn timestamptz(&mut self, value: Micros) -> Result<(), Failure> {
        self.sized(&value, &Type::TIMESTAMPTZ)
    }

    fn numeric(&mut self, value: Amount) -> Result<(), Failure> {
        self.sized(&value.as_decimal(), &Type::NUMERIC)
    }

    fn sized(&mut self, value: &impl ToSql, kind: &Type) -> Result<(), Failure> {
        let at = self.0.len();
        self.0.put_u32(0);
        value.to_sql(kind, &mut self.0).map_err(Failure::rejected)?;
        let length = u32::try_from(self.0.len() - at - 4).expect("a number has a few bytes");
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn end(mut self) -> Option<Bytes> {
        if self.0.is_empty() {
            return None;
        }
        self.0.put_i16(-1);
        Some(self.0.freeze())
    }
}
