//! What holds for any order and for any message.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::json_tree::Json;
use crate::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, any_order, any_order_with_uid};
use crate::wire::{Field, FieldKind, ORDER_FIELDS, first_pass, second_pass};
use crate::{Order, OrderParts, OrderUid, Text, limits, parse, render};

proptest! {
    #[test]
    fn what_is_written_reads_back_as_the_same_order(order in any_order()) {
        let parsed = parse(order.json()).unwrap();
        prop_assert_eq!(&parsed.order, &order);
        prop_assert_eq!(parsed.unknown_fields, 0);
        prop_assert_eq!(parsed.order.json(), &render(&order));
    }

    #[test]
    fn serde_json_reads_what_is_written(order in any_order()) {
        let value: serde_json::Value = serde_json::from_slice(order.json()).unwrap();
        prop_assert_eq!(value["delivery"]["address"].as_str(), Some(order.delivery.address.as_str()));
        prop_assert_eq!(value["sm_id"].as_i64(), Some(i64::from(order.sm_id)));
        prop_assert_eq!(value["items"].as_array().map(Vec::len), Some(order.items.len()));
    }

    #[test]
    fn the_other_spelling_means_the_same_order(order in any_order()) {
        let message = in_other_spelling(&order);
        prop_assert_ne!(&message, str::from_utf8(order.json()).unwrap());
        let parsed = parse(message.as_bytes()).unwrap();
        prop_assert_eq!(parsed.order, order);
        prop_assert_eq!(parsed.unknown_fields, 0);
    }

    #[test]
    fn the_uid_is_found_in_any_order_with_a_fault(order in any_order_with_uid(OrderUid::new("the-uid").unwrap())) {
        let mut json = Json::read(order.json());
        json.visit(1, &mut |json| *json = Json::Leaf("[]".to_owned()));
        let faults = parse(json.to_string().as_bytes()).unwrap_err();
        prop_assert_eq!(faults.order_uid, None, "the uid itself is at fault");
        let mut json = Json::read(order.json());
        json.visit(2, &mut |json| *json = Json::Leaf("[]".to_owned()));
        let faults = parse(json.to_string().as_bytes()).unwrap_err();
        prop_assert_eq!(faults.order_uid.as_ref().map(OrderUid::as_str), Some("the-uid"));
    }

    #[test]
    fn any_bytes_are_an_order_or_have_faults(bytes in vec(any::<u8>(), 0..400)) {
        let faults = parse(&bytes).unwrap_err();
        prop_assert!(!faults.faults.is_empty());
    }

    #[test]
    fn any_json_is_an_order_or_has_faults(message in any_json_text()) {
        let faults = parse(message.as_bytes()).unwrap_err();
        prop_assert!(!faults.faults.is_empty());
    }
}

proptest! {
    // These find what the two passes might see differently, so they look longer.
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_passes_agree_on_any_message(message in any_altered_message()) {
        match (first_pass(&message), second_pass(&message)) {
            (Some(first), Ok(second)) => prop_assert_eq!(first, second),
            (None, Err(faults)) => {
                prop_assert!(!faults.faults.is_empty());
                prop_assert!(!faults.to_string().contains('\n'));
            }
            (first, second) => prop_assert!(
                false,
                "first {first:?}\nsecond {second:?}\nmessage {}",
                String::from_utf8_lossy(&message)
            ),
        }
    }

    #[test]
    fn an_altered_message_that_is_an_order_comes_back_as_it_is_written(message in any_altered_message()) {
        if let Ok(parsed) = parse(&message) {
            let again = parse(parsed.order.json()).unwrap();
            prop_assert_eq!(again.order.json(), parsed.order.json());
            prop_assert_eq!(again.order, parsed.order);
        }
    }
}

proptest! {
    #[test]
    fn the_constructor_finds_what_the_parser_finds(parts in any_parts()) {
        let parsed = parse(&render(&parts)).map(|parsed| parsed.order);
        prop_assert_eq!(Order::new(parts), parsed);
    }
}

/// The order with each field under its last other name, where it has one.
fn in_other_spelling(order: &Order) -> String {
    fn rename(fields: &[Field], text: &mut String) {
        for field in fields {
            if let Some(other) = field.other_names.last() {
                // Within a string each quote has a backslash before it, so that this is found only where a name stands.
                *text = text.replace(&format!("\"{}\":", field.name), &format!("\"{other}\":"));
            }
            if let FieldKind::Object { fields } | FieldKind::List { fields, .. } = field.kind {
                rename(fields, text);
            }
        }
    }

    let mut text = String::from_utf8(order.json().to_vec()).unwrap();
    rename(ORDER_FIELDS, &mut text);
    text
}

/// Parts of an order of which some break a rule.
fn any_parts() -> impl Strategy<Value = OrderParts> {
    let broken = select(vec![
        String::new(),
        "\0".to_owned(),
        "x".repeat(limits::SEARCHABLE_TEXT_BYTES),
        "x".repeat(limits::SEARCHABLE_TEXT_BYTES + 1),
        "é".repeat(limits::TEXT_BYTES / 2),
        "é".repeat(limits::TEXT_BYTES / 2 + 1),
        "\0".repeat(limits::TEXT_BYTES + 1),
        // A thousand items of this are more than an order may have, although each by itself is not.
        "\u{1}".repeat(200),
    ]);
    let changes = vec((any::<Index>(), broken), 0..6);
    let items = select(vec![
        None,
        Some(0),
        Some(3),
        Some(limits::ITEMS),
        Some(limits::ITEMS + 1),
    ]);
    (any_order(), changes, prop_oneof![4 => Just(None), 1 => items]).prop_map(|(order, changes, items)| {
        let mut parts = order.into_parts();
        for (place, broken) in changes {
            let mut texts = texts_of(&mut parts);
            let place = place.index(texts.len());
            *texts[place] = broken.into();
        }
        if let (Some(len), Some(first)) = (items, parts.items.first().cloned()) {
            parts.items = vec![first; len];
        }
        parts
    })
}

/// The texts that a rule can be broken in.
fn texts_of(parts: &mut OrderParts) -> Vec<&mut Text> {
    let mut texts = vec![
        &mut parts.track_number,
        &mut parts.entry,
        &mut parts.delivery.name,
        &mut parts.delivery.zip,
        &mut parts.delivery.email,
        &mut parts.payment.transaction,
        &mut parts.payment.bank,
        &mut parts.locale,
        &mut parts.customer_id,
        &mut parts.oof_shard,
    ];
    for item in &mut parts.items {
        texts.extend([&mut item.track_number, &mut item.rid, &mut item.brand]);
    }
    texts
}

/// JSON values of which each is right somewhere and wrong elsewhere.
fn any_value() -> impl Strategy<Value = String> {
    let long = format!("\"{}\"", "x".repeat(limits::SEARCHABLE_TEXT_BYTES + 1));
    let longer = format!("\"{}\"", "x".repeat(limits::TEXT_BYTES + 1));
    let nested = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let mut values = vec![long, longer, nested];
    values.extend(
        [
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "1.0",
            "-1.50",
            "1e2",
            "1E+2",
            "1e999",
            "0.00001",
            "2147483647",
            "2147483648",
            "9223372036854775807",
            "9223372036854775808",
            "123456789012345678",
            "1234567890123456789",
            r#""""#,
            r#""x""#,
            r#""x y""#,
            r#""0""#,
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\ud83d\ude9a""#,
            r#""\"""#,
            r#""2024-06-11T14:02:33+03:00""#,
            r#""0001-01-01T00:00:00+01:00""#,
            r#""\u0032024-06-11T14:02:33Z""#,
            "[]",
            "[null]",
            "[{}]",
            "{}",
            r#"{"order_uid":1}"#,
            r#"{"a":[{"b":"\ud800"}]}"#,
            r#"{"\ud800":1}"#,
        ]
        .map(str::to_owned),
    );
    prop_oneof![4 => select(values), 1 => Just("null".to_owned())]
}

/// Names of fields, in both spellings, and others.
fn any_name() -> impl Strategy<Value = String> {
    fn add(fields: &[Field], names: &mut Vec<String>) {
        for field in fields {
            names.extend(
                field
                    .other_names
                    .iter()
                    .chain([&field.name])
                    .map(|name| format!("\"{name}\"")),
            );
            if let FieldKind::Object { fields } | FieldKind::List { fields, .. } = field.kind {
                add(fields, names);
            }
        }
    }

    let mut names = Vec::new();
    add(ORDER_FIELDS, &mut names);
    let odd = [
        r#""unknown""#,
        r#""""#,
        r#""\u006eame""#,
        r#""order\u005fuid""#,
        r#""\ud800""#,
        r#""Order_Uid""#,
    ];
    prop_oneof![2 => select(names), 1 => select(odd.map(str::to_owned).to_vec())]
}

/// Text of the tokens of JSON, in any order.
fn any_json_text() -> impl Strategy<Value = String> {
    let punctuation = select(
        ["{", "}", "[", "]", ",", ":", " ", "\n"]
            .map(str::to_owned)
            .to_vec(),
    );
    vec(
        prop_oneof![3 => punctuation, 1 => any_name(), 1 => any_value()],
        0..60,
    )
    .prop_map(|tokens| tokens.concat())
}

/// One change to a message.
#[derive(Debug, Clone)]
enum Change {
    Replace(String),
    Rename(String),
    Insert(String, String),
    Duplicate,
    Drop,
}

/// An order in either spelling, changed in its fields, and now and then in its bytes.
fn any_altered_message() -> impl Strategy<Value = Vec<u8>> {
    let message = prop_oneof![
        2 => Just(CANONICAL_ORDER.to_vec()),
        2 => Just(CAMEL_CASE_ORDER.to_vec()),
        1 => any_order().prop_filter("small enough to be changed often", |order| order.json().len() < 8_192)
            .prop_map(|order| order.json().to_vec()),
    ];
    let change = prop_oneof![
        3 => any_value().prop_map(Change::Replace),
        2 => any_name().prop_map(Change::Rename),
        2 => (any_name(), any_value()).prop_map(|(name, value)| Change::Insert(name, value)),
        1 => Just(Change::Duplicate),
        1 => Just(Change::Drop),
    ];
    let changes = vec((any::<Index>(), change), 0..4);
    let bytes = prop_oneof![
        6 => Just(Vec::new()),
        1 => vec((any::<Index>(), any::<u8>()), 1..3),
    ];
    let more = prop_oneof![6 => Just(String::new()), 1 => any_value()];
    let cut = prop_oneof![6 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (message, changes, bytes, more, cut).prop_map(|(message, changes, bytes, more, cut)| {
        let mut json = Json::read(&message);
        for (place, change) in changes {
            apply(&mut json, place, change);
        }
        let mut message = json.to_string().into_bytes();
        for (place, byte) in bytes {
            let place = place.index(message.len());
            message[place] = byte;
        }
        message.extend_from_slice(more.as_bytes());
        if let Some(cut) = cut {
            message.truncate(cut.index(message.len()));
        }
        message
    })
}

fn apply(json: &mut Json, place: Index, change: Change) {
    let node = place.index(json.len());
    match change {
        Change::Replace(value) => json.visit(node, &mut |json| *json = Json::Leaf(value.clone())),
        Change::Rename(name) => json.visit_field(node, &mut |fields, at| fields[at].0.clone_from(&name)),
        Change::Insert(name, value) => {
            json.visit_field(node, &mut |fields, at| {
                fields.insert(at, (name.clone(), Json::Leaf(value.clone())))
            });
        }
        Change::Duplicate => json.visit_field(node, &mut |fields, at| fields.push(fields[at].clone())),
        Change::Drop => json.visit_field(node, &mut |fields, at| drop(fields.remove(at))),
    }
}
