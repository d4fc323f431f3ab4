#![doc = include_str!("../README.md")]

mod amount;
mod batch;
mod document;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod instruments;
mod order;
mod order_query;
mod ports;
mod revision;
#[cfg(feature = "testing")]
pub mod testing;
mod uid;
mod use_cases;
mod utc_date_time;
mod wire;

pub use amount::{Amount, AmountError};
pub use batch::{Batch, Reduced, RevisedOrder};
pub use document::OrderDocument;
pub use instruments::describe_metrics;
pub use order::{Delivery, Item, Order, OrderParts, Payment, Text};
pub use order_query::{OrderFilter, OrderPlace, OrderQuery, SearchText, SearchTextError};
pub use ports::*;
pub use revision::{Revision, RevisionError};
pub use uid::{OrderUid, OrderUidError};
pub use use_cases::*;
pub use utc_date_time::{UtcDateTime, UtcDateTimeError};
pub use wire::{Fault, Faults, Field, FieldKind, ORDER_FIELDS, Parsed, limits, parse, render};
