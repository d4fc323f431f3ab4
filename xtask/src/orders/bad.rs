//! Messages that can never become orders.

use order_domain::{Item, Order, limits, render};
use serde_json::value::RawValue;

use super::dice::Dice;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BadKind {
    /// The JSON breaks off.
    Truncated,
    /// A value is of another type than its field, or out of its range.
    WrongType,
    /// A field that is required is not there.
    MissingField,
    /// A text holds NUL, which PostgreSQL cannot store.
    Nul,
    /// A whole order with more bytes than an order may have, and fewer than the broker takes.
    Oversize,
}

impl BadKind {
    /// All kinds.
    pub const ALL: [BadKind; 5] = [
        BadKind::Truncated,
        BadKind::WrongType,
        BadKind::MissingField,
        BadKind::Nul,
        BadKind::Oversize,
    ];

    /// How often each kind occurs. One oversize message has more bytes than 300 orders.
    const WEIGHTS: [u64; 5] = [6, 6, 6, 6, 1];

    /// The kind in a word, as records of what was published name it.
    pub fn name(self) -> &'static str {
        match self {
            BadKind::Truncated => "truncated",
            BadKind::WrongType => "wrong-type",
            BadKind::MissingField => "missing-field",
            BadKind::Nul => "nul",
            BadKind::Oversize => "oversize",
        }
    }

    /// One of the kinds.
    pub(super) fn any(dice: &mut Dice) -> BadKind {
        Self::ALL[dice.weighted(&Self::WEIGHTS)]
    }

    /// A message that would be this order, were this not wrong with it.
    pub(super) fn spoil(self, order: Order, dice: &mut Dice) -> Vec<u8> {
        let json = str::from_utf8(order.json()).expect("canonical JSON is UTF-8");
        let spoilt = match self {
            BadKind::Truncated => {
                return json.as_bytes()[..dice.between(1, json.len() as i64 - 1) as usize].to_vec();
            }
            BadKind::Oversize => return oversize(order),
            BadKind::WrongType => {
                let (field, value) = *dice.pick(WRONG_TYPES);
                with(json, field, Some(value))
            }
            BadKind::MissingField => with(json, dice.pick::<&str>(REQUIRED), None),
            BadKind::Nul => with(json, dice.pick::<&str>(TEXTS), Some(r#""before\u0000after""#)),
        };
        spoilt.expect("canonical JSON has all fields").into_bytes()
    }
}

/// Fields, each with a value that it cannot have.
const WRONG_TYPES: &[(&str, &str)] = &[
    ("order_uid", "42"),
    ("order_uid", r#""../etc/passwd""#),
    ("delivery", "[]"),
    ("amount", r#""1817""#),
    ("amount", "1.00001"),
    ("payment_dt", "1637907727.5"),
    ("items", "{}"),
    ("chrt_id", "9223372036854775808"),
    ("price", "true"),
    ("sm_id", "3000000000"),
    ("date_created", r#""yesterday""#),
    ("track_number", r#"["WBIL"]"#),
];
/// Fields that an order cannot do without.
const REQUIRED: &[&str] = &[
    "order_uid",
    "track_number",
    "delivery",
    "phone",
    "payment",
    "currency",
    "amount",
    "nm_id",
    "date_created",
];
/// Fields that hold text.
const TEXTS: &[&str] = &[
    "entry",
    "city",
    "address",
    "transaction",
    "brand",
    "locale",
    "internal_signature",
];

/// The JSON with another value in the first field of this name, or without that field.
fn with(json: &str, field: &str, value: Option<&str>) -> Option<String> {
    // No text of canonical JSON holds this: a quote within a text is escaped.
    let key = format!("\"{field}\":");
    let start = json.find(&key)?;
    let old = start + key.len();
    let mut values = serde_json::Deserializer::from_str(&json[old..]).into_iter::<&RawValue>();
    let end = old + values.next()?.ok()?.get().len();
    let (before, after) = (&json[..start], &json[end..]);
    Some(match (value, after.strip_prefix(',')) {
        (Some(value), _) => format!("{before}{key}{value}{after}"),
        (None, Some(after)) => format!("{before}{after}"),
        (None, None) => format!("{}{after}", before.strip_suffix(',').unwrap_or(before)),
    })
}

/// The order with so many items, each as large as it may be, that the whole is too large.
fn oversize(order: Order) -> Vec<u8> {
    let mut parts = order.into_parts();
    let large = Item {
        rid: "r".repeat(limits::TEXT_BYTES).into(),
        ..parts.items[0].clone()
    };
    parts.items = vec![large; limits::JSON_BYTES / limits::TEXT_BYTES];
    // Not through `Order::new`, which would refuse it.
    render(&parts).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_replaced_or_taken_out() {
        let json = r#"{"a":"\"b\":1,","b":{"c":[1,2]},"d":3}"#;
        assert_eq!(
            with(json, "b", Some("4")).as_deref(),
            Some(r#"{"a":"\"b\":1,","b":4,"d":3}"#)
        );
        assert_eq!(
            with(json, "b", None).as_deref(),
            Some(r#"{"a":"\"b\":1,","d":3}"#)
        );
        assert_eq!(
            with(json, "d", None).as_deref(),
            Some(r#"{"a":"\"b\":1,","b":{"c":[1,2]}}"#)
        );
        assert_eq!(with(r#"{"a":1}"#, "a", None).as_deref(), Some("{}"));
        assert_eq!(with(json, "x", None), None);
    }
}
