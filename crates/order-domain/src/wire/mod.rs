//! The wire format: reading is liberal, writing is strict.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{Order, OrderParts, OrderUid};

mod compound;
mod fault;
mod json;
mod kind;
pub mod limits;
mod object;
mod reader;
mod schema;
mod table;

use compound::Nested;
use fault::{FaultList, Place};
use kind::{Inspection, Kind, Scalar, Uid};
use object::{Object, gather};
use reader::Reader;

pub use fault::{Fault, Faults};
pub use schema::{Field, FieldKind};
pub use table::ORDER_FIELDS;

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
pub fn parse(message: &[u8]) -> Result<Parsed, Faults> {
    // The first pass is fast and gives up at the first fault; only then the second one looks for all of them. Should they
    // ever disagree, the second, which looks closer, decides.
    match first_pass(message) {
        Some(parsed) => Ok(parsed),
        None => second_pass(message),
    }
}

/// Renders the canonical JSON.
pub fn render(parts: &OrderParts) -> Bytes {
    let mut json = Vec::with_capacity(1024 + 320 * parts.items.len());
    parts.write(&mut json);
    // The bytes may live in a cache for long, and a copy has no room to spare. Shrinking would not do: an allocator may leave a
    // block as large as it is for as long as half of it is in use.
    Bytes::copy_from_slice(&json)
}

/// Checks every rule of the wire format and renders the canonical JSON.
pub(crate) fn check(parts: &OrderParts) -> Result<Bytes, Faults> {
    let mut faults = FaultList::default();
    parts.check(&Place::Root, &mut faults);
    if faults.is_empty() {
        let json = render(parts);
        if json.len() <= limits::JSON_BYTES {
            return Ok(json);
        }
        let reason = format!(
            "must have at most {} bytes as canonical JSON, has {}",
            limits::JSON_BYTES,
            json.len()
        );
        faults.add(&Place::Root, reason);
    }
    Err(faults.into_faults(Some(parts.order_uid.clone())))
}

/// Reads an order straight into its types; `None` at the first fault.
fn first_pass(message: &[u8]) -> Option<Parsed> {
    // Both passes read text, so that they agree on what is not UTF-8 even where the value itself is read over.
    let text = str::from_utf8(message).ok()?;
    let mut unknown_fields = 0;
    let mut reader = Reader::new(text);
    let parts = OrderParts::read(&mut reader, &mut unknown_fields).ok()?;
    reader.end().ok()?;
    let order = Order::new(parts).ok()?;
    Some(Parsed {
        order,
        unknown_fields,
    })
}

/// Looks at every value by itself, and collects all faults.
fn second_pass(message: &[u8]) -> Result<Parsed, Faults> {
    let mut seen = Inspection::default();
    let (readable, whole) = match str::from_utf8(message) {
        Ok(text) => (
            text,
            serde_json::from_str::<&RawValue>(text).map_err(|fault| not_json(&fault)),
        ),
        Err(fault) => {
            let (readable, _) = message.split_at(fault.valid_up_to());
            let reason = format!("must be UTF-8, is not from byte {} on", fault.valid_up_to());
            (str::from_utf8(readable).unwrap_or_default(), Err(reason))
        }
    };
    let parts = match whole {
        Ok(whole) => Nested::<OrderParts>::inspect(whole.get(), true, &Place::Root, &mut seen),
        Err(reason) => {
            seen.faults.add_not_json(reason);
            None
        }
    };
    match parts {
        Some(parts) if seen.faults.is_empty() => Order::new(parts).map(|order| Parsed {
            order,
            unknown_fields: seen.unknown_fields,
        }),
        _ => Err(seen.faults.into_faults(find_uid(readable))),
    }
}

/// Why a text is not JSON. The errors of serde_json's syntax name what was expected, never what was found.
fn not_json(fault: &serde_json::Error) -> String {
    format!("must be JSON: {fault}")
}

/// The uid of an order that has faults, even where the text breaks off, as long as the field came before the break.
fn find_uid(text: &str) -> Option<OrderUid> {
    let uid = OrderParts::FIELDS
        .iter()
        .position(|field| field.kind == FieldKind::Uid)?;
    let (given, ..) = gather(text, OrderParts::FIELDS, &[]);
    let given = given.get(uid).filter(|given| given.times == 1)?;
    Uid::from_json(given.value?.get()).ok()
}

#[cfg(test)]
mod tests;
