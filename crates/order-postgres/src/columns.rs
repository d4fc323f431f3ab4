//! A batch turned into columns, one array each, as the statements that store it take them.

use order_domain::{Amount, DeadLetter, Item, Order, RevisedOrder, Revision};
use tokio_postgres::types::ToSql;

use crate::failure::Failure;
use crate::numeric::Numeric;
use crate::timestamptz::Micros;

/// The parameters of a statement, in the order of its numbers.
pub(crate) type Parameters<'a> = Vec<&'a (dyn ToSql + Sync)>;

/// Which orders, and which versions of them: what every statement about orders begins with.
pub(crate) struct Versions<'a> {
    uids: Vec<&'a str>,
    published_at: Vec<Micros>,
    sequences: Vec<i64>,
}

impl<'a> Versions<'a> {
    pub(crate) fn of(orders: &[&'a RevisedOrder]) -> Result<Self, Failure> {
        Ok(Versions {
            uids: orders
                .iter()
                .map(|version| version.order.order_uid.as_str())
                .collect(),
            published_at: orders
                .iter()
                .map(|version| Micros(version.revision.published_at))
                .collect(),
            sequences: sequences(orders.iter().map(|version| version.revision))?,
        })
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        vec![&self.uids, &self.published_at, &self.sequences]
    }
}

/// All other columns of the four tables.
pub(crate) struct Columns<'a> {
    orders: Orders<'a>,
    delivery: Deliveries<'a>,
    payment: Payments<'a>,
    items: Items<'a>,
}

impl<'a> Columns<'a> {
    pub(crate) fn of(orders: &[&'a RevisedOrder]) -> Self {
        Columns {
            orders: Orders::of(orders),
            delivery: Deliveries::of(orders),
            payment: Payments::of(orders),
            items: Items::of(orders),
        }
    }

    /// The columns of the versions, then these.
    pub(crate) fn parameters<'p>(&'p self, versions: &'p Versions<'_>) -> Parameters<'p> {
        let mut parameters = versions.parameters();
        self.orders.add_to(&mut parameters);
        self.delivery.add_to(&mut parameters);
        self.payment.add_to(&mut parameters);
        self.items.add_to(&mut parameters);
        parameters
    }

    /// The columns of the versions, then how many items each has.
    pub(crate) fn item_counts<'p>(&'p self, versions: &'p Versions<'_>) -> Parameters<'p> {
        let mut parameters = versions.parameters();
        parameters.push(&self.items.counts);
        parameters
    }
}

/// The columns of `orders`, without those of its version.
struct Orders<'a> {
    track_number: Vec<&'a str>,
    entry: Vec<&'a str>,
    locale: Vec<&'a str>,
    internal_signature: Vec<&'a str>,
    customer_id: Vec<&'a str>,
    delivery_service: Vec<&'a str>,
    shardkey: Vec<&'a str>,
    sm_id: Vec<i32>,
    date_created: Vec<Micros>,
    oof_shard: Vec<&'a str>,
    document_bytes: Vec<i32>,
}

impl<'a> Orders<'a> {
    fn of(orders: &[&'a RevisedOrder]) -> Self {
        Orders {
            track_number: texts(orders, |order| &order.track_number),
            entry: texts(orders, |order| &order.entry),
            locale: texts(orders, |order| &order.locale),
            internal_signature: texts(orders, |order| &order.internal_signature),
            customer_id: texts(orders, |order| &order.customer_id),
            delivery_service: texts(orders, |order| &order.delivery_service),
            shardkey: texts(orders, |order| &order.shardkey),
            sm_id: orders.iter().map(|version| version.order.sm_id).collect(),
            date_created: orders
                .iter()
                .map(|version| Micros(version.order.date_created.as_unix_micros()))
                .collect(),
            oof_shard: texts(orders, |order| &order.oof_shard),
            document_bytes: orders
                .iter()
                .map(|version| document_bytes(&version.order))
                .collect(),
        }
    }

    fn add_to<'p>(&'p self, parameters: &mut Parameters<'p>) {
        parameters.extend_from_slice(&[
            &self.track_number as _,
            &self.entry,
            &self.locale,
            &self.internal_signature,
            &self.customer_id,
            &self.delivery_service,
            &self.shardkey,
            &self.sm_id,
            &self.date_created,
            &self.oof_shard,
            &self.document_bytes,
        ]);
    }
}

/// The columns of `delivery`.
struct Deliveries<'a> {
    name: Vec<&'a str>,
    phone: Vec<&'a str>,
    zip: Vec<&'a str>,
    city: Vec<&'a str>,
    address: Vec<&'a str>,
    region: Vec<&'a str>,
    email: Vec<&'a str>,
}

impl<'a> Deliveries<'a> {
    fn of(orders: &[&'a RevisedOrder]) -> Self {
        Deliveries {
            name: texts(orders, |order| &order.delivery.name),
            phone: texts(orders, |order| &order.delivery.phone),
            zip: texts(orders, |order| &order.delivery.zip),
            city: texts(orders, |order| &order.delivery.city),
            address: texts(orders, |order| &order.delivery.address),
            region: texts(orders, |order| &order.delivery.region),
            email: texts(orders, |order| &order.delivery.email),
        }
    }

    fn add_to<'p>(&'p self, parameters: &mut Parameters<'p>) {
        parameters.extend_from_slice(&[
            &self.name as _,
            &self.phone,
            &self.zip,
            &self.city,
            &self.address,
            &self.region,
            &self.email,
        ]);
    }
}

/// The columns of `payment`.
struct Payments<'a> {
    transaction: Vec<&'a str>,
    request_id: Vec<&'a str>,
    currency: Vec<&'a str>,
    provider: Vec<&'a str>,
    amount: Vec<Numeric>,
    payment_dt: Vec<i64>,
    bank: Vec<&'a str>,
    delivery_cost: Vec<Numeric>,
    goods_total: Vec<Numeric>,
    custom_fee: Vec<Numeric>,
}

impl<'a> Payments<'a> {
    fn of(orders: &[&'a RevisedOrder]) -> Self {
        let amounts = |field: fn(&Order) -> Amount| {
            orders
                .iter()
                .map(|version| Numeric(field(&version.order)))
                .collect::<Vec<_>>()
        };
        Payments {
            transaction: texts(orders, |order| &order.payment.transaction),
            request_id: texts(orders, |order| &order.payment.request_id),
            currency: texts(orders, |order| &order.payment.currency),
            provider: texts(orders, |order| &order.payment.provider),
            amount: amounts(|order| order.payment.amount),
            payment_dt: orders
                .iter()
                .map(|version| version.order.payment.payment_dt)
                .collect(),
            bank: texts(orders, |order| &order.payment.bank),
            delivery_cost: amounts(|order| order.payment.delivery_cost),
            goods_total: amounts(|order| order.payment.goods_total),
            custom_fee: amounts(|order| order.payment.custom_fee),
        }
    }

    fn add_to<'p>(&'p self, parameters: &mut Parameters<'p>) {
        parameters.extend_from_slice(&[
            &self.transaction as _,
            &self.request_id,
            &self.currency,
            &self.provider,
            &self.amount,
            &self.payment_dt,
            &self.bank,
            &self.delivery_cost,
            &self.goods_total,
            &self.custom_fee,
        ]);
    }
}

/// The columns of `items`.
#[derive(Default)]
struct Items<'a> {
    /// How many each order has.
    counts: Vec<i32>,
    order_uid: Vec<&'a str>,
    position: Vec<i32>,
    chrt_id: Vec<i64>,
    track_number: Vec<&'a str>,
    price: Vec<Numeric>,
    rid: Vec<&'a str>,
    name: Vec<&'a str>,
    sale: Vec<i32>,
    size: Vec<&'a str>,
    total_price: Vec<Numeric>,
    nm_id: Vec<i64>,
    brand: Vec<&'a str>,
    status: Vec<i32>,
}

impl<'a> Items<'a> {
    fn of(orders: &[&'a RevisedOrder]) -> Self {
        let mut columns = Items::default();
        for version in orders {
            let items = &version.order.items;
            columns
                .counts
                .push(i32::try_from(items.len()).unwrap_or(i32::MAX));
            for (position, item) in (0..).zip(items) {
                columns.order_uid.push(version.order.order_uid.as_str());
                columns.position.push(position);
                columns.push(item);
            }
        }
        columns
    }

    fn push(&mut self, item: &'a Item) {
        self.chrt_id.push(item.chrt_id);
        self.track_number.push(&item.track_number);
        self.price.push(Numeric(item.price));
        self.rid.push(&item.rid);
        self.name.push(&item.name);
        self.sale.push(item.sale);
        self.size.push(&item.size);
        self.total_price.push(Numeric(item.total_price));
        self.nm_id.push(item.nm_id);
        self.brand.push(&item.brand);
        self.status.push(item.status);
    }

    fn add_to<'p>(&'p self, parameters: &mut Parameters<'p>) {
        parameters.extend_from_slice(&[
            &self.order_uid as _,
            &self.position,
            &self.chrt_id,
            &self.track_number,
            &self.price,
            &self.rid,
            &self.name,
            &self.sale,
            &self.size,
            &self.total_price,
            &self.nm_id,
            &self.brand,
            &self.status,
        ]);
    }
}

/// The columns of `dead_letters`, sorted by key so that two batches cannot wait for each other.
pub(crate) struct Letters<'a> {
    published_at: Vec<Micros>,
    sequences: Vec<i64>,
    subject: Vec<String>,
    headers: Vec<String>,
    payload: Vec<&'a [u8]>,
    reason: Vec<String>,
    order_uid: Vec<Option<&'a str>>,
}

impl<'a> Letters<'a> {
    pub(crate) fn of(letters: &'a [DeadLetter]) -> Result<Self, Failure> {
        let mut sorted: Vec<&DeadLetter> = letters.iter().collect();
        sorted.sort_by_key(|letter| letter.revision);
        Ok(Letters {
            published_at: sorted
                .iter()
                .map(|letter| Micros(letter.revision.published_at))
                .collect(),
            sequences: sequences(sorted.iter().map(|letter| letter.revision))?,
            subject: sorted
                .iter()
                .map(|letter| without_nul(&letter.message.subject))
                .collect(),
            headers: sorted
                .iter()
                .map(|letter| headers_to_json(&letter.message.headers))
                .collect(),
            payload: sorted.iter().map(|letter| &letter.message.payload[..]).collect(),
            reason: sorted.iter().map(|letter| without_nul(&letter.reason)).collect(),
            order_uid: sorted
                .iter()
                .map(|letter| letter.order_uid.as_ref().map(|uid| uid.as_str()))
                .collect(),
        })
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        vec![
            &self.published_at,
            &self.sequences,
            &self.subject,
            &self.headers,
            &self.payload,
            &self.reason,
            &self.order_uid,
        ]
    }
}

/// The keys of dead letters, sorted.
pub(crate) struct LetterKeys {
    published_at: Vec<Micros>,
    sequences: Vec<i64>,
}

impl LetterKeys {
    pub(crate) fn of(revisions: &[Revision]) -> Result<Self, Failure> {
        Ok(LetterKeys {
            published_at: revisions
                .iter()
                .map(|revision| Micros(revision.published_at))
                .collect(),
            sequences: sequences(revisions.iter().copied())?,
        })
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        vec![&self.published_at, &self.sequences]
    }
}

/// A sequence as a `bigint`.
pub(crate) fn sequence(revision: Revision) -> Result<i64, Failure> {
    i64::try_from(revision.sequence).map_err(|_| {
        Failure::rejected(format!(
            "the sequence {} is too large for a bigint",
            revision.sequence
        ))
    })
}

/// The length of the canonical JSON. Only a hint for bulk reads; a document is far shorter than this type can say.
pub(crate) fn document_bytes(order: &Order) -> i32 {
    i32::try_from(order.json().len()).unwrap_or(i32::MAX)
}

fn sequences(revisions: impl Iterator<Item = Revision>) -> Result<Vec<i64>, Failure> {
    revisions.map(sequence).collect()
}

fn texts<'a>(orders: &[&'a RevisedOrder], field: fn(&Order) -> &str) -> Vec<&'a str> {
    orders.iter().map(|version| field(&version.order)).collect()
}

/// A dead letter must be storable whatever it is: a NUL, the one character that PostgreSQL's text lacks, becomes U+FFFD.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// `[[name, value], …]`: names may repeat, and their order is kept.
fn headers_to_json(headers: &[(String, String)]) -> String {
    serde_json::to_string(headers).expect("pairs of texts are always JSON")
}
