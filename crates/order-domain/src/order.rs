//! An order and its parts.

use std::ops::Deref;

use bytes::Bytes;
use compact_str::CompactString;

use crate::wire::{self, Faults};
use crate::{Amount, OrderDocument, OrderUid, Revision, UtcDateTime};

/// A checked order. It can only be built by [`parse`](crate::parse) or by [`Order::new`], and cannot be changed after.
///
/// Its fields are those of [`OrderParts`], read through `Deref`.
///
/// Cheap to move: its fields stay where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    parts: Box<OrderParts>,
    json: Bytes,
}

impl Order {
    /// Checks `parts` against every rule of the wire format.
    ///
    /// # Errors
    ///
    /// All faults at once, each with a JSON pointer in the canonical spelling.
    pub fn new(parts: OrderParts) -> Result<Self, Faults> {
        let json = wire::check(&parts)?;
        Ok(Order {
            parts: Box::new(parts),
            json,
        })
    }

    /// The canonical JSON, rendered when the order was checked.
    pub fn json(&self) -> &Bytes {
        &self.json
    }

    /// The order as the cache and HTTP take it.
    pub fn document(&self, revision: Revision) -> OrderDocument {
        OrderDocument {
            uid: self.parts.order_uid.clone(),
            revision,
            json: self.json.clone(),
        }
    }

    /// Gives the parts back, to build another version of the order from.
    pub fn into_parts(self) -> OrderParts {
        *self.parts
    }
}

impl Deref for Order {
    type Target = OrderParts;

    fn deref(&self) -> &OrderParts {
        &self.parts
    }
}

/// A text of an order. One of up to 24 bytes, as nearly all are, lies in the order itself and takes no memory elsewhere.
///
/// It is used as a `String` is: it reads as a `&str`, and comes from one by `into()`.
pub type Text = CompactString;

/// The fields of an order, in the order of the canonical JSON. Unchecked: [`Order::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct OrderParts {
    pub order_uid: OrderUid,
    pub track_number: Text,
    pub entry: Text,
    pub delivery: Delivery,
    pub payment: Payment,
    pub items: Vec<Item>,
    pub locale: Text,
    pub internal_signature: Text,
    pub customer_id: Text,
    pub delivery_service: Text,
    pub shardkey: Text,
    pub sm_id: i32,
    pub date_created: UtcDateTime,
    pub oof_shard: Text,
}

/// Where an order goes, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct Delivery {
    pub name: Text,
    pub phone: Text,
    pub zip: Text,
    pub city: Text,
    pub address: Text,
    pub region: Text,
    pub email: Text,
}

/// How an order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct Payment {
    pub transaction: Text,
    pub request_id: Text,
    pub currency: Text,
    pub provider: Text,
    pub amount: Amount,
    /// Unix seconds.
    pub payment_dt: i64,
    pub bank: Text,
    pub delivery_cost: Amount,
    pub goods_total: Amount,
    pub custom_fee: Amount,
}

/// One article of an order. Its place in [`OrderParts::items`] is its key; `chrt_id` may repeat.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct Item {
    pub chrt_id: i64,
    pub track_number: Text,
    pub price: Amount,
    pub rid: Text,
    pub name: Text,
    pub sale: i32,
    pub size: Text,
    pub total_price: Amount,
    pub nm_id: i64,
    pub brand: Text,
    pub status: i32,
}
