//! The table of the wire format: every field, in the order in which it is written, with its other spellings.
//!
//! From it follow the reader's two passes, the rules, the writer, and whatever describes the format to others.

use super::compound::{List, Nested};
use super::fault::{FaultList, Place};
use super::kind::{
    Inspection, Int32, Int64, Kind, Moment, Money, PlainText, SearchableText, Uid, UnixSeconds,
};
use super::limits;
use super::object::{Object, Optional, Presence, Required, gather, inspect_field, object};
use super::reader::{GiveUp, Reader};
use super::schema::Field;
use crate::{Delivery, Item, OrderParts, Payment};

/// The fields of an order, in the canonical order, with those of its parts in their kinds.
pub const ORDER_FIELDS: &[Field] = OrderParts::FIELDS;

/// The Go service repeats the order's uid in its parts. It is read over: the order's own holds.
const INNER_UID: &[&str] = &["order_uid", "orderUid"];
const NONE: &[&str] = &[];

object! {
    OrderParts, ignoring NONE,
    order_uid | orderUid: Required Uid,
    track_number | trackNumber: Required SearchableText,
    entry: Optional PlainText,
    delivery: Required Nested<Delivery>,
    payment: Required Nested<Payment>,
    items: Optional List<Item, { limits::ITEMS }>,
    locale: Required PlainText,
    internal_signature | internalSignature: Optional PlainText,
    customer_id | customerId: Required SearchableText,
    delivery_service | deliveryService: Required PlainText,
    shardkey | shardKey: Optional PlainText,
    sm_id | smId: Optional Int32,
    date_created | dateCreated: Required Moment,
    oof_shard | oofShard: Optional PlainText,
}

object! {
    Delivery, ignoring INNER_UID,
    name: Required PlainText,
    phone: Required PlainText,
    zip: Optional PlainText,
    city: Required PlainText,
    address: Required PlainText,
    region: Optional PlainText,
    email: Optional PlainText,
}

object! {
    Payment, ignoring INNER_UID,
    transaction: Required SearchableText,
    request_id | requestId: Optional PlainText,
    currency: Required PlainText,
    provider: Required PlainText,
    amount: Required Money,
    payment_dt | paymentDt: Required UnixSeconds,
    bank: Optional PlainText,
    delivery_cost | deliveryCost: Optional Money,
    goods_total | goodsTotal: Required Money,
    custom_fee | customFee: Required Money,
}

object! {
    Item, ignoring INNER_UID,
    chrt_id | chrtId: Required Int64,
    track_number | trackNumber: Required SearchableText,
    price: Required Money,
    rid: Optional PlainText,
    name: Required PlainText,
    sale: Optional Int32,
    size: Optional PlainText,
    total_price | totalPrice: Required Money,
    nm_id | nmId: Required Int64,
    brand: Required PlainText,
    status: Required Int32,
}
