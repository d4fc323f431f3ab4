//! The kinds of values of the wire format: how each is read, checked and written. Those that hold others are in
//! [`compound`](super::compound).

use std::borrow::Cow;
use std::str::FromStr;

use super::fault::{FaultList, Place, Reason};
use super::json::{kind_of, unescape, write_decimal, write_string};
use super::limits;
use super::reader::{GiveUp, Reader};
use super::schema::FieldKind;
use crate::{Amount, AmountError, OrderUid, Text, UtcDateTime, UtcDateTimeError};

/// A kind of value: how the first pass reads it, how the second pass looks at it, which rules hold for it, and how it is
/// written. All the passes know about a field is its row in the table and this.
pub(super) trait Kind {
    /// What a value of this kind is in an order.
    type Value;
    /// The kind, for those who describe the wire format.
    const KIND: FieldKind;

    /// The first pass: reads a value, `None` for null, and gives up at the first fault. `unknown` counts unknown fields.
    fn read(reader: &mut Reader<'_>, unknown: &mut u32) -> Result<Option<Self::Value>, GiveUp>;

    /// The second pass: looks at a value that is not null, adds all its faults, and gives the value where there is one.
    fn inspect(json: &str, required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<Self::Value>;

    /// The rules that hold for a value beyond its type.
    fn check(value: &Self::Value, required: bool, place: &Place<'_>, faults: &mut FaultList);

    /// Writes a value as canonical JSON.
    fn write(value: &Self::Value, out: &mut Vec<u8>);
}

/// What the second pass finds beside the values.
#[derive(Default)]
pub(super) struct Inspection {
    /// The faults.
    pub(super) faults: FaultList,
    /// How many fields the wire format does not know.
    pub(super) unknown_fields: u32,
}

/// A kind of value of which both passes read the JSON text, by one function, and whose type alone holds every rule.
pub(super) trait Scalar {
    /// As in [`Kind`].
    type Value;
    /// As in [`Kind`].
    const KIND: FieldKind;

    /// Reads a JSON value that is not null.
    fn from_json(json: &str) -> Result<Self::Value, Reason>;

    /// Writes a value as canonical JSON.
    fn write(value: &Self::Value, out: &mut Vec<u8>);
}

impl<S: Scalar> Kind for S {
    type Value = S::Value;
    const KIND: FieldKind = S::KIND;

    fn read(reader: &mut Reader<'_>, _unknown: &mut u32) -> Result<Option<S::Value>, GiveUp> {
        if reader.null() {
            return Ok(None);
        }
        S::from_json(reader.scalar()?).map(Some).map_err(|_| GiveUp)
    }

    fn inspect(json: &str, _required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<S::Value> {
        S::from_json(json)
            .map_err(|reason| seen.faults.add(place, reason))
            .ok()
    }

    fn check(_value: &S::Value, _required: bool, _place: &Place<'_>, _faults: &mut FaultList) {}

    fn write(value: &S::Value, out: &mut Vec<u8>) {
        S::write(value, out);
    }
}

/// The reason why a value of the wrong kind is at fault.
pub(super) fn wrong_kind(expected: &str, json: &str) -> Reason {
    format!("must be {expected}, is {}", kind_of(json)).into()
}

/// Whether this JSON value is a number.
fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// The text that a JSON string stands for, or why there is none.
fn text_of<'a>(json: &'a str, expected: &str) -> Result<Cow<'a, str>, Reason> {
    if !json.starts_with('"') {
        return Err(wrong_kind(expected, json));
    }
    unescape(json).map_err(|_| "must be Unicode text, has an escape of half a character".into())
}

/// The name of an order.
pub(super) struct Uid;

impl Scalar for Uid {
    type Value = OrderUid;
    const KIND: FieldKind = FieldKind::Uid;

    fn from_json(json: &str) -> Result<OrderUid, Reason> {
        OrderUid::new(&text_of(json, "a string")?).map_err(|fault| fault.to_string().into())
    }

    fn write(value: &OrderUid, out: &mut Vec<u8>) {
        write_string(value.as_str(), out);
    }
}

/// Exact money.
pub(super) struct Money;

impl Scalar for Money {
    type Value = Amount;
    const KIND: FieldKind = FieldKind::Amount;

    fn from_json(json: &str) -> Result<Amount, Reason> {
        if !is_number(json) {
            return Err(wrong_kind("a number", json));
        }
        json.parse()
            .map_err(|fault: AmountError| fault.to_string().into())
    }

    fn write(value: &Amount, out: &mut Vec<u8>) {
        let (digits, scale) = value.digits_and_scale();
        write_decimal(digits, scale, out);
    }
}

/// A 64-bit integer.
pub(super) struct Int64;

impl Scalar for Int64 {
    type Value = i64;
    const KIND: FieldKind = FieldKind::Integer { bits: 64 };

    fn from_json(json: &str) -> Result<i64, Reason> {
        read_integer(json, "a 64-bit integer")
    }

    fn write(value: &i64, out: &mut Vec<u8>) {
        write_decimal(*value, 0, out);
    }
}

/// A 32-bit integer.
pub(super) struct Int32;

impl Scalar for Int32 {
    type Value = i32;
    const KIND: FieldKind = FieldKind::Integer { bits: 32 };

    fn from_json(json: &str) -> Result<i32, Reason> {
        read_integer(json, "a 32-bit integer")
    }

    fn write(value: &i32, out: &mut Vec<u8>) {
        write_decimal(i64::from(*value), 0, out);
    }
}

/// Reads a JSON number without fraction and exponent. `1.0` is not taken for an integer: whoever writes it works with floats.
fn read_integer<T: FromStr>(json: &str, expected: &str) -> Result<T, Reason> {
    json.parse().map_err(|_| {
        if !is_number(json) {
            wrong_kind(expected, json)
        } else if json.contains(['.', 'e', 'E']) {
            format!("must be {expected}, has a fraction or an exponent").into()
        } else {
            format!("must be {expected}, is out of its range").into()
        }
    })
}

/// A moment.
pub(super) struct Moment;

impl Scalar for Moment {
    type Value = UtcDateTime;
    const KIND: FieldKind = FieldKind::DateTime;

    fn from_json(json: &str) -> Result<UtcDateTime, Reason> {
        let text = text_of(json, "an RFC 3339 date and time")?;
        text.parse()
            .map_err(|fault: UtcDateTimeError| fault.to_string().into())
    }

    fn write(value: &UtcDateTime, out: &mut Vec<u8>) {
        out.push(b'"');
        value.write_to(out);
        out.push(b'"');
    }
}

/// A moment as Unix seconds; read from RFC 3339 too.
pub(super) struct UnixSeconds;

impl Scalar for UnixSeconds {
    type Value = i64;
    const KIND: FieldKind = FieldKind::UnixSeconds;

    fn from_json(json: &str) -> Result<i64, Reason> {
        if json.starts_with('"') {
            Moment::from_json(json).map(UtcDateTime::as_unix_seconds)
        } else {
            read_integer(
                json,
                "Unix seconds, a 64-bit integer, or an RFC 3339 date and time",
            )
        }
    }

    fn write(value: &i64, out: &mut Vec<u8>) {
        write_decimal(*value, 0, out);
    }
}

/// A text of at most so many bytes.
pub(super) struct BoundedText<const MAX_BYTES: usize>;

/// A text.
pub(super) type PlainText = BoundedText<{ limits::TEXT_BYTES }>;
/// A text by which orders are searched.
pub(super) type SearchableText = BoundedText<{ limits::SEARCHABLE_TEXT_BYTES }>;

impl<const MAX_BYTES: usize> Kind for BoundedText<MAX_BYTES> {
    type Value = Text;
    const KIND: FieldKind = FieldKind::Text { max_bytes: MAX_BYTES };

    fn read(reader: &mut Reader<'_>, _unknown: &mut u32) -> Result<Option<Text>, GiveUp> {
        if reader.null() {
            return Ok(None);
        }
        reader.string().map(|text| Some(text.into()))
    }

    fn inspect(json: &str, required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<Text> {
        match text_of(json, "a string") {
            Ok(text) => {
                let text = text.into();
                Self::check(&text, required, place, &mut seen.faults);
                Some(text)
            }
            Err(reason) => {
                seen.faults.add(place, reason);
                None
            }
        }
    }

    fn check(text: &Text, required: bool, place: &Place<'_>, faults: &mut FaultList) {
        if required && text.is_empty() {
            faults.add(place, "must not be empty");
        }
        if text.len() > MAX_BYTES {
            faults.add(
                place,
                format!("must have at most {MAX_BYTES} bytes, has {}", text.len()),
            );
        }
        if text.as_bytes().contains(&0) {
            faults.add(place, "must not contain NUL");
        }
    }

    fn write(text: &Text, out: &mut Vec<u8>) {
        write_string(text, out);
    }
}
