//! The kinds of values of the wire format: how each is read, checked and written.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::{FaultList, Place, Reason};
use super::json::{kind_of, unescape, write_decimal, write_string};
use super::limits;
use super::object::{FieldKind, Object};
use crate::{Amount, OrderUid, UtcDateTime};

/// A kind of value: how the first pass reads it, how the second pass looks at it, which rules hold for it, and how it is
/// written. All the passes know about a field is its row in the table and this.
pub(super) trait Kind {
    /// What a value of this kind is in an order.
    type Value;
    /// The kind, for those who describe the wire format.
    const KIND: FieldKind;

    /// The first pass: reads a value, `None` for null, and gives up at the first fault. `unknown` counts unknown fields.
    fn read<'de, D: Deserializer<'de>>(from: D, unknown: &mut u32) -> Result<Option<Self::Value>, D::Error>;

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

/// The kind of value where only the JSON text itself matters, and where the type alone holds every rule.
pub(super) trait Scalar {
    type Value;
    const KIND: FieldKind;

    /// Reads a JSON value that is not null.
    fn from_json(json: &str) -> Result<Self::Value, Reason>;

    fn write(value: &Self::Value, out: &mut Vec<u8>);
}

impl<S: Scalar> Kind for S {
    type Value = S::Value;
    const KIND: FieldKind = S::KIND;

    fn read<'de, D: Deserializer<'de>>(from: D, _unknown: &mut u32) -> Result<Option<S::Value>, D::Error> {
        match <&RawValue>::deserialize(from)?.get() {
            "null" => Ok(None),
            json => S::from_json(json).map(Some).map_err(D::Error::custom),
        }
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
fn wrong_kind(expected: &str, json: &str) -> Reason {
    format!("must be {expected}, is {}", kind_of(json)).into()
}

/// Whether this JSON value is a number.
fn is_number(json: &str) -> bool {
    json.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// The text that a JSON string stands for, or why there is none.
fn text_of<'a>(json: &'a str, expected: &str) -> Result<std::borrow::Cow<'a, str>, Reason> {
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
            .map_err(|fault: crate::AmountError| fault.to_string().into())
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
fn read_integer<T: std::str::FromStr>(json: &str, expected: &str) -> Result<T, Reason> {
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
            .map_err(|fault: crate::UtcDateTimeError| fault.to_string().into())
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
pub(super) struct Text<const MAX_BYTES: usize>;

/// A text.
pub(super) type PlainText = Text<{ limits::TEXT_BYTES }>;
/// A text by which orders are searched.
pub(super) type SearchableText = Text<{ limits::SEARCHABLE_TEXT_BYTES }>;

impl<const MAX_BYTES: usize> Kind for Text<MAX_BYTES> {
    type Value = String;
    const KIND: FieldKind = FieldKind::Text { max_bytes: MAX_BYTES };

    fn read<'de, D: Deserializer<'de>>(from: D, _unknown: &mut u32) -> Result<Option<String>, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Option<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
                Ok(Some(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Option<String>, E> {
                Ok(None)
            }
        }

        from.deserialize_any(TextVisitor)
    }

    fn inspect(json: &str, required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<String> {
        match text_of(json, "a string") {
            Ok(text) => {
                let text = text.into_owned();
                Self::check(&text, required, place, &mut seen.faults);
                Some(text)
            }
            Err(reason) => {
                seen.faults.add(place, reason);
                None
            }
        }
    }

    fn check(text: &String, required: bool, place: &Place<'_>, faults: &mut FaultList) {
        if required && text.is_empty() {
            faults.add(place, "must not be empty");
        }
        if text.len() > MAX_BYTES {
            faults.add(
                place,
                format!("must have at most {MAX_BYTES} bytes, has {}", text.len()),
            );
        }
        if text.contains('\0') {
            faults.add(place, "must not contain NUL");
        }
    }

    fn write(text: &String, out: &mut Vec<u8>) {
        write_string(text, out);
    }
}

/// An object within an order.
pub(super) struct Nested<T>(PhantomData<T>);

impl<T: Object> Kind for Nested<T> {
    type Value = T;
    const KIND: FieldKind = FieldKind::Object { fields: T::FIELDS };

    fn read<'de, D: Deserializer<'de>>(from: D, unknown: &mut u32) -> Result<Option<T>, D::Error> {
        struct ObjectVisitor<'a, T>(&'a mut u32, PhantomData<T>);

        impl<'de, T: Object> Visitor<'de> for ObjectVisitor<'_, T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
                T::read(map, self.0).map(Some)
            }

            fn visit_unit<E>(self) -> Result<Option<T>, E> {
                Ok(None)
            }
        }

        from.deserialize_any(ObjectVisitor(unknown, PhantomData))
    }

    fn inspect(json: &str, _required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<T> {
        if json.starts_with('{') {
            T::inspect(json, place, seen)
        } else {
            seen.faults.add(place, wrong_kind("an object", json));
            None
        }
    }

    fn check(value: &T, _required: bool, place: &Place<'_>, faults: &mut FaultList) {
        value.check(place, faults);
    }

    fn write(value: &T, out: &mut Vec<u8>) {
        value.write(out);
    }
}

/// An array of objects, at most so many.
pub(super) struct List<T, const MAX_LEN: usize>(PhantomData<T>);

impl<T: Object, const MAX_LEN: usize> List<T, MAX_LEN> {
    fn check_len(len: usize, place: &Place<'_>, faults: &mut FaultList) {
        if len > MAX_LEN {
            faults.add(place, format!("must have at most {MAX_LEN} elements, has {len}"));
        }
    }
}

impl<T: Object, const MAX_LEN: usize> Kind for List<T, MAX_LEN> {
    type Value = Vec<T>;
    const KIND: FieldKind = FieldKind::List {
        fields: T::FIELDS,
        max_len: MAX_LEN,
    };

    fn read<'de, D: Deserializer<'de>>(from: D, unknown: &mut u32) -> Result<Option<Vec<T>>, D::Error> {
        struct ListVisitor<'a, T, const MAX_LEN: usize>(&'a mut u32, PhantomData<T>);

        impl<'de, T: Object, const MAX_LEN: usize> Visitor<'de> for ListVisitor<'_, T, MAX_LEN> {
            type Value = Option<Vec<T>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<Vec<T>>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element_seed(Seed::<Nested<T>>::new(&mut *self.0))? {
                    // One too many ends the pass, so that a message of a million costs no more memory than the limit.
                    if list.len() == MAX_LEN {
                        return Err(A::Error::custom("too many elements"));
                    }
                    list.push(element.ok_or_else(|| A::Error::custom("a null element"))?);
                }
                Ok(Some(list))
            }

            fn visit_unit<E>(self) -> Result<Option<Vec<T>>, E> {
                Ok(None)
            }
        }

        from.deserialize_any(ListVisitor::<T, MAX_LEN>(unknown, PhantomData))
    }

    fn inspect(json: &str, required: bool, place: &Place<'_>, seen: &mut Inspection) -> Option<Vec<T>> {
        if !json.starts_with('[') {
            seen.faults.add(place, wrong_kind("an array", json));
            return None;
        }
        let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
        Self::check_len(elements.len(), place, &mut seen.faults);
        let elements = elements.iter().take(MAX_LEN).enumerate();
        elements
            .map(|(index, element)| {
                Nested::<T>::inspect(element.get(), required, &Place::Element(place, index), seen)
            })
            .fold(Some(Vec::new()), |list, element| {
                let mut list = list?;
                list.push(element?);
                Some(list)
            })
    }

    fn check(list: &Vec<T>, _required: bool, place: &Place<'_>, faults: &mut FaultList) {
        Self::check_len(list.len(), place, faults);
        for (index, element) in list.iter().take(MAX_LEN).enumerate() {
            element.check(&Place::Element(place, index), faults);
        }
    }

    fn write(list: &Vec<T>, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, element) in list.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            element.write(out);
        }
        out.push(b']');
    }
}

/// Reads a value of a kind in the first pass, where serde wants a value to begin from.
pub(super) struct Seed<'a, K>(&'a mut u32, PhantomData<K>);

impl<'a, K> Seed<'a, K> {
    pub(super) fn new(unknown: &'a mut u32) -> Self {
        Seed(unknown, PhantomData)
    }
}

impl<'de, K: Kind> serde::de::DeserializeSeed<'de> for Seed<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        K::read(from, self.0)
    }
}
