//! Orders as rows in the binary format of `COPY`, which takes them far cheaper than any statement does.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use bytes::{BufMut, Bytes, BytesMut};
use order_domain::{Amount, RevisedOrder};
use tokio_postgres::types::{ToSql, Type};

use crate::columns::{document_bytes, sequence};
use crate::failure::Failure;
use crate::numeric::Numeric;
use crate::timestamptz::Micros;

/// From how many bytes on rows are sent. Small, so that what was sent makes room for the next rows while it is still in a cache.
const PIECE_BYTES: usize = 32 << 10;

/// A table that orders are copied into.
pub(crate) struct Table {
    pub(crate) copy: &'static str,
    write: fn(&mut Rows, &RevisedOrder) -> Result<(), Failure>,
}

/// In the order in which they are filled.
pub(crate) const TABLES: [Table; 4] = [
    Table {
        copy: "
            COPY orders (
                order_uid, published_at, sequence, track_number, entry, locale, internal_signature, customer_id, delivery_service,
                shardkey, sm_id, date_created, oof_shard, document_bytes)
            FROM STDIN (FORMAT binary)",
        write: |rows, RevisedOrder { revision, order }| {
            rows.begin(14);
            rows.text(order.order_uid.as_str());
            rows.timestamptz(Micros(revision.published_at))?;
            rows.bigint(sequence(*revision)?);
            rows.text(&order.track_number);
            rows.text(&order.entry);
            rows.text(&order.locale);
            rows.text(&order.internal_signature);
            rows.text(&order.customer_id);
            rows.text(&order.delivery_service);
            rows.text(&order.shardkey);
            rows.integer(order.sm_id);
            rows.timestamptz(Micros(order.date_created.as_unix_micros()))?;
            rows.text(&order.oof_shard);
            rows.integer(document_bytes(order));
            Ok(())
        },
    },
    Table {
        copy: "COPY delivery (order_uid, name, phone, zip, city, address, region, email) FROM STDIN (FORMAT binary)",
        write: |rows, RevisedOrder { order, .. }| {
            rows.begin(8);
            rows.text(order.order_uid.as_str());
            rows.text(&order.delivery.name);
            rows.text(&order.delivery.phone);
            rows.text(&order.delivery.zip);
            rows.text(&order.delivery.city);
            rows.text(&order.delivery.address);
            rows.text(&order.delivery.region);
            rows.text(&order.delivery.email);
            Ok(())
        },
    },
    Table {
        copy: "
            COPY payment (
                order_uid, transaction, request_id, currency, provider, amount, payment_dt, bank, delivery_cost, goods_total,
                custom_fee)
            FROM STDIN (FORMAT binary)",
        write: |rows, RevisedOrder { order, .. }| {
            rows.begin(11);
            rows.text(order.order_uid.as_str());
            rows.text(&order.payment.transaction);
            rows.text(&order.payment.request_id);
            rows.text(&order.payment.currency);
            rows.text(&order.payment.provider);
            rows.numeric(order.payment.amount)?;
            rows.bigint(order.payment.payment_dt);
            rows.text(&order.payment.bank);
            rows.numeric(order.payment.delivery_cost)?;
            rows.numeric(order.payment.goods_total)?;
            rows.numeric(order.payment.custom_fee)
        },
    },
    Table {
        copy: "
            COPY items (
                order_uid, position, chrt_id, track_number, price, rid, name, sale, size, total_price, nm_id, brand, status)
            FROM STDIN (FORMAT binary)",
        write: |rows, RevisedOrder { order, .. }| {
            for (position, item) in (0..).zip(&order.items) {
                rows.begin(13);
                rows.text(order.order_uid.as_str());
                rows.integer(position);
                rows.bigint(item.chrt_id);
                rows.text(&item.track_number);
                rows.numeric(item.price)?;
                rows.text(&item.rid);
                rows.text(&item.name);
                rows.integer(item.sale);
                rows.text(&item.size);
                rows.numeric(item.total_price)?;
                rows.bigint(item.nm_id);
                rows.text(&item.brand);
                rows.integer(item.status);
            }
            Ok(())
        },
    },
];

impl Table {
    /// The rows of some orders, in pieces that are made as they are asked for.
    pub(crate) fn rows<'a>(
        &'a self,
        orders: &'a [&'a RevisedOrder],
    ) -> impl Iterator<Item = Result<Bytes, Failure>> + 'a {
        let mut rows = Rows::new();
        let mut orders = orders.iter();
        let mut has_ended = false;
        std::iter::from_fn(move || {
            while rows.0.len() < PIECE_BYTES && !has_ended {
                match orders.next() {
                    Some(order) => {
                        if let Err(failure) = (self.write)(&mut rows, order) {
                            has_ended = true;
                            return Some(Err(failure));
                        }
                    }
                    None => {
                        rows.end();
                        has_ended = true;
                    }
                }
            }
            (!rows.0.is_empty()).then(|| Ok(rows.0.split().freeze()))
        })
    }
}

/// Rows as they are written.
struct Rows(BytesMut);

impl Rows {
    fn new() -> Self {
        let mut rows = BytesMut::with_capacity(2 * PIECE_BYTES);
        // The signature, no flags, and no extension.
        rows.put_slice(b"PGCOPY\n\xff\r\n\0");
        rows.put_u64(0);
        Rows(rows)
    }

    /// Begins a row of so many columns.
    fn begin(&mut self, columns: i16) {
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
        self.sized(&Numeric(value), &Type::NUMERIC)
    }

    fn sized(&mut self, value: &impl ToSql, kind: &Type) -> Result<(), Failure> {
        let at = self.0.len();
        self.0.put_u32(0);
        value.to_sql(kind, &mut self.0).map_err(Failure::rejected)?;
        let length = u32::try_from(self.0.len() - at - 4).expect("a number has a few bytes");
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn end(&mut self) {
        self.0.put_i16(-1);
    }
}
