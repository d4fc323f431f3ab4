//! The wire format: reading is liberal, writing is strict.

use bytes::Bytes;

use crate::{Order, OrderParts, OrderUid};

pub mod limits;

/// One fault of a message: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: a JSON pointer (RFC 6901), in the canonical spelling; empty for the message as a whole.
    pub pointer: String,
    /// Why, in words. Names rules and kinds, never the value found: it may be personal.
    pub reason: String,
}

/// All faults of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults {
    /// The faults, in the order of the canonical fields.
    pub faults: Vec<Fault>,
    /// Which order the message means, where that could be read.
    pub order_uid: Option<OrderUid>,
}

/// A message that is an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The order.
    pub order: Order,
    /// How many fields the message had that the wire format does not know.
    pub unknown_fields: u32,
}

/// Reads an order in either spelling.
///
/// # Errors
///
/// All faults at once.
pub fn parse(_message: &[u8]) -> Result<Parsed, Faults> {
    todo!()
}

/// Checks every rule of the wire format and renders the canonical JSON.
pub(crate) fn check(_parts: &OrderParts) -> Result<Bytes, Faults> {
    todo!()
}

/// Renders the canonical JSON.
pub fn render(_parts: &OrderParts) -> Vec<u8> {
    todo!()
}
