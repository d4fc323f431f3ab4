//! One example, or a few, for each row of the format's table.

use crate::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER, sample_order};
use crate::{Faults, Order, limits, parse, render};

/// The canonical sample with one piece of its text replaced.
fn altered(from: &str, to: &str) -> String {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    assert_eq!(
        canonical.matches(from).count(),
        1,
        "{from} stands once in the sample"
    );
    canonical.replacen(from, to, 1)
}

fn accepted(message: &str) -> Order {
    parse(message.as_bytes())
        .unwrap_or_else(|faults| panic!("{faults}\nin {message}"))
        .order
}

fn faults_of(message: &[u8]) -> Faults {
    parse(message).expect_err("the message has faults")
}

/// All faults, as `pointer reason`.
fn refused(message: &str) -> Vec<String> {
    faults_of(message.as_bytes())
        .faults
        .iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.reason))
        .collect()
}

#[test]
fn the_canonical_sample_comes_back_byte_for_byte() {
    let parsed = parse(CANONICAL_ORDER).unwrap();
    assert_eq!(parsed.unknown_fields, 0);
    assert_eq!(parsed.order.json(), CANONICAL_ORDER);
    assert_eq!(render(&parsed.order), CANONICAL_ORDER);
}

#[test]
fn the_camel_case_sample_means_an_order_too() {
    let parsed = parse(CAMEL_CASE_ORDER).unwrap();
    assert_eq!(parsed.unknown_fields, 0);
    let expected = concat!(
        r#"{"order_uid":"orderUID0","track_number":"TRACK_417","entry":"WBIL","#,
        r#""delivery":{"name":"John Doe","phone":"+1234567890","zip":"","city":"Test City","address":"123 Test St","#,
        r#""region":"","email":""},"payment":{"transaction":"TXN_417","request_id":"","currency":"USD","#,
        r#""provider":"test_provider","amount":5417.25,"payment_dt":1718103753,"bank":"","delivery_cost":0,"#,
        r#""goods_total":0,"custom_fee":0},"items":["#,
        r#"{"chrt_id":41703,"track_number":"TRACK_417","price":17,"rid":"","name":"Test Item 1","sale":0,"size":"","#,
        r#""total_price":0,"nm_id":417,"brand":"TestBrand","status":1},"#,
        r#"{"chrt_id":41703,"track_number":"TRACK_417","price":17,"rid":"","name":"Test Item 2","sale":0,"size":"","#,
        r#""total_price":0,"nm_id":417,"brand":"TestBrand","status":2}],"locale":"en","internal_signature":"","#,
        r#""customer_id":"test_customer","delivery_service":"test_delivery","shardkey":"","sm_id":0,"#,
        r#""date_created":"2024-06-11T11:02:33.482913Z","oof_shard":""}"#,
    );
    assert_eq!(str::from_utf8(parsed.order.json()).unwrap(), expected);
}
