//! An order and its parts.

use std::ops::Deref;

use bytes::Bytes;

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

/// The fields of an order, in the order of the canonical JSON. Unchecked: [`Order::new`] checks them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct OrderParts {
    pub order_uid: OrderUid,
    pub track_number: String,
    pub entry: String,
    pub delivery: Delivery,
    pub payment: Payment,
    pub items: Vec<Item>,
    pub locale: String,
    pub internal_signature: String,
    pub customer_id: String,
    pub delivery_service: String,
    pub shardkey: String,
    pub sm_id: i32,
    pub date_created: UtcDateTime,
    pub oof_shard: String,
}

/// Where an order goes, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct Delivery {
    pub name: String,
    pub phone: String,
    pub zip: String,
    pub city: String,
    pub address: String,
    pub region: String,
    pub email: String,
}

/// How an order is paid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields are those of the wire format, by the same names"
)]
pub struct Payment {
    pub transaction: String,
    pub request_id: String,
    pub currency: String,
    pub provider: String,
    pub amount: Amount,
    /// Unix seconds.
    pub payment_dt: i64,
    pub bank: String,
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
    pub track_number: String,
    pub price: Amount,
    pub rid: String,
    pub name: String,
    pub sale: i32,
    pub size: String,
    pub total_price: Amount,
    pub nm_id: i64,
    pub brand: String,
    pub status: i32,
}
