//! The JSON Schema of the order against the parser, which is the truth.

use jsonschema::Validator;
use order_domain::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, any_order};
use order_domain::{Field, FieldKind, ORDER_FIELDS, Order, parse};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{document, validator};

/// What judges an order as it is written, and one as it is read.
fn validators() -> (Validator, Validator) {
    let schema = document("order.schema.json");
    (
        validator(&schema, "/$defs/Order"),
        validator(&schema, "/$defs/NewOrder"),
    )
}

#[test]
fn every_order_there_can_be_is_valid_as_it_is_written_and_in_either_spelling() {
    let (written, read) = validators();
    let run = |order: Order| {
        let json: Value = serde_json::from_slice(order.json()).expect("canonical JSON is JSON");
        if let Err(error) = written.validate(&json) {
            return Err(TestCaseError::fail(format!("{error}")));
        }
        prop_assert!(read.is_valid(&json));
        let camel_case = in_camel_case(str::from_utf8(order.json()).expect("JSON is UTF-8"), ORDER_FIELDS);
        prop_assert!(read.is_valid(&serde_json::from_str(&camel_case).expect("still JSON")));
        prop_assert_eq!(parse(camel_case.as_bytes()).map(|it| it.order), Ok(order));
        Ok(())
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(256));
    runner
        .run(&any_order(), run)
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_the_parser_reads_liberally_the_schema_takes_too() {
    let (written, read) = validators();
    let camel_case: Value = serde_json::from_slice(CAMEL_CASE_ORDER).expect("JSON");
    assert!(read.is_valid(&camel_case) && !written.is_valid(&camel_case));

    let sparse = changed("", |order| {
        for optional in ["entry", "items", "sm_id"] {
            order[optional] = Value::Null;
        }
        order.as_object_mut().expect("an object").remove("shardkey");
        order["payment"]["payment_dt"] = json!("2021-11-26T06:22:07.5+03:00");
        order["nobody_knows"] = json!({ "this": [] });
    });
    assert!(parse(sparse.to_string().as_bytes()).is_ok());
    assert!(read.is_valid(&sparse) && !written.is_valid(&sparse));
}

#[test]
fn what_the_parser_refuses_the_schema_refuses_too() {
    let (written, read) = validators();
    let text = |len| Value::from("x".repeat(len));
    let item = &serde_json::from_slice::<Value>(CANONICAL_ORDER).expect("JSON")["items"][0];
    let bad = [
        ("/order_uid", json!("a/b")),
        ("/order_uid", json!("..")),
        ("/order_uid", json!("")),
        ("/order_uid", text(65)),
        ("/track_number", text(257)),
        ("/track_number", json!("")),
        ("/locale", Value::Null),
        ("/locale", json!(["en"])),
        ("/entry", text(2_049)),
        ("/entry", json!("a\0b")),
        ("/delivery", json!([])),
        ("/delivery/city", json!("")),
        ("/payment/amount", json!("1817")),
        ("/payment/amount", json!(1_000_000_000_000_000_000_i64)),
        ("/payment/payment_dt", json!("yesterday")),
        ("/payment/payment_dt", json!(1.5)),
        ("/items", json!({})),
        ("/items", Value::from(vec![item.clone(); 1_001])),
        ("/items/0", Value::Null),
        ("/items/0/chrt_id", json!(9_223_372_036_854_775_808_u64)),
        ("/items/0/status", json!(2_147_483_648_i64)),
        ("/sm_id", json!(-2_147_483_649_i64)),
        ("/date_created", json!("2021-11-26")),
        ("/date_created", json!(1_637_907_739)),
    ];
    for (pointer, value) in bad {
        let shown = value.to_string();
        let order = changed(pointer, |place| *place = value);
        let shown = format!("{pointer} {}", &shown[..shown.len().min(60)]);
        assert!(parse(order.to_string().as_bytes()).is_err(), "{shown}");
        assert!(!read.is_valid(&order), "{shown}");
        assert!(!written.is_valid(&order), "{shown}");
    }
}

#[test]
fn every_required_field_is_required_and_no_other() {
    let (written, read) = validators();
    for field in ORDER_FIELDS {
        let order = changed("", |order| {
            order.as_object_mut().expect("an object").remove(field.name);
        });
        assert_eq!(
            parse(order.to_string().as_bytes()).is_ok(),
            !field.required,
            "{}",
            field.name
        );
        assert_eq!(read.is_valid(&order), !field.required, "{}", field.name);
        assert!(!written.is_valid(&order), "{}", field.name);
    }
    let more = changed("", |order| order["more"] = json!(1));
    assert!(!written.is_valid(&more) && read.is_valid(&more));
}

/// The canonical order with something else at this pointer.
fn changed(pointer: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut order: Value = serde_json::from_slice(CANONICAL_ORDER).expect("JSON");
    change(
        order
            .pointer_mut(pointer)
            .expect("the canonical order has this field"),
    );
    order
}

/// The same JSON with its fields' other names. What stands between quotation marks before a colon is the name of a field and nothing else:
/// within a text the marks are escaped.
fn in_camel_case(json: &str, fields: &[Field]) -> String {
    fields.iter().fold(json.to_owned(), |json, field| {
        let json = match field.kind {
            FieldKind::Object { fields } | FieldKind::List { fields, .. } => in_camel_case(&json, fields),
            _ => json,
        };
        match field.other_names {
            [other, ..] => json.replace(&format!("\"{}\":", field.name), &format!("\"{other}\":")),
            [] => json,
        }
    })
}
