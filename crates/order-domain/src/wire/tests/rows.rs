//! What is accepted, and as what: an example for each row of the format's table and each liberty of the reader.

use super::{accepted, altered};
use crate::testing::orders::{CAMEL_CASE_ORDER, CANONICAL_ORDER};
use crate::wire::{Field, FieldKind, ORDER_FIELDS};
use crate::{limits, parse, render};

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

#[test]
fn optional_fields_may_be_absent_or_null() {
    for (field, written) in [
        (r#""entry":"WBIL","#, r#""entry":"","#),
        (r#""zip":"2639809","#, r#""zip":"","#),
        (r#""bank":"alpha","#, r#""bank":"","#),
        (r#""delivery_cost":1500,"#, r#""delivery_cost":0,"#),
        (r#""sale":30,"#, r#""sale":0,"#),
        (r#""sm_id":99,"#, r#""sm_id":0,"#),
        (r#""shardkey":"9","#, r#""shardkey":"","#),
    ] {
        let expected = altered(field, written);
        let (name, _) = field.split_once(':').unwrap();
        for message in [altered(field, ""), altered(field, &format!("{name}:null,"))] {
            assert_eq!(accepted(&message).json(), expected.as_bytes(), "{message}");
        }
    }
}

#[test]
fn items_may_be_absent_null_or_none() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    let start = canonical.find(r#""items":"#).unwrap();
    let end = canonical.find(r#""locale""#).unwrap();
    for items in ["", r#""items":null,"#, r#""items":[],"#] {
        let message = format!("{}{items}{}", &canonical[..start], &canonical[end..]);
        let order = accepted(&message);
        assert!(order.items.is_empty());
        assert!(str::from_utf8(order.json()).unwrap().contains(r#""items":[],"#));
    }
}

#[test]
fn both_spellings_may_be_mixed_and_names_may_have_escapes() {
    for (from, to) in [
        (
            r#""track_number":"WBILMTESTTRACK","entry""#,
            r#""trackNumber":"WBILMTESTTRACK","entry""#,
        ),
        (r#""shardkey""#, r#""shardKey""#),
        (r#""chrt_id""#, r#""chrtId""#),
        (r#""sm_id""#, r#""\u0073m_id""#),
    ] {
        assert_eq!(accepted(&altered(from, to)).json(), CANONICAL_ORDER, "{to}");
    }
}

#[test]
fn unknown_fields_are_read_over_and_counted() {
    for (to, unknown) in [
        (r#""zip":"2639809","floor":3,"#, 1),
        (
            r#""zip":"2639809","floor":{"zip":["\ud800",{"a":1e999}]},"floor":null,"#,
            2,
        ),
        (r#""zip":"2639809","Zip":"","ZIP":"","#, 2),
        (r#""zip":"2639809","order_uid":"another","orderUid":7,"#, 0),
    ] {
        let parsed = parse(altered(r#""zip":"2639809","#, to).as_bytes()).unwrap();
        assert_eq!(parsed.unknown_fields, unknown, "{to}");
        assert_eq!(parsed.order.json(), CANONICAL_ORDER, "{to}");
    }
    let message = altered(
        r#""locale":"en","#,
        r#""locale":"en","price":5,"delivery_id":{},"#,
    );
    assert_eq!(parse(message.as_bytes()).unwrap().unknown_fields, 2);
}

#[test]
fn nesting_is_read_over_however_deep() {
    let deep = format!(
        r#""locale":"en","deep":{}{},"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    assert_eq!(
        parse(altered(r#""locale":"en","#, &deep).as_bytes())
            .unwrap()
            .unknown_fields,
        1
    );
}

#[test]
fn space_between_tokens_and_around_the_message_is_read_over() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    let spaced = canonical.replace(r#"",""#, "\"\n\t,\r \"");
    assert_eq!(accepted(&format!(" \n{spaced}\r\n ")).json(), CANONICAL_ORDER);
}

#[test]
fn text_is_written_with_the_fewest_escapes() {
    let message = altered(
        r#""Ploshad Mira 15""#,
        r#""\u0041\/\"\\\u00e9\ud83d\ude9a\u0007\b\t\u001F\u007f\u2028""#,
    );
    let order = accepted(&message);
    assert_eq!(
        order.delivery.address,
        "A/\"\\é🚚\u{7}\u{8}\t\u{1f}\u{7f}\u{2028}"
    );
    let written = "\"A/\\\"\\\\é🚚\\u0007\\b\\t\\u001f\u{7f}\u{2028}\"";
    assert!(str::from_utf8(order.json()).unwrap().contains(written));
}

#[test]
fn text_may_have_as_many_bytes_as_its_limit() {
    let plain = "é".repeat(limits::TEXT_BYTES / 2);
    assert_eq!(
        accepted(&altered("Ploshad Mira 15", &plain)).delivery.address,
        plain
    );
    let searchable = "é".repeat(limits::SEARCHABLE_TEXT_BYTES / 2);
    assert_eq!(
        accepted(&altered(r#""test""#, &format!("\"{searchable}\""))).customer_id,
        searchable
    );
    // The limit is of the text, not of its JSON.
    let escaped = r"\u0001".repeat(limits::TEXT_BYTES);
    assert_eq!(
        accepted(&altered("Ploshad Mira 15", &escaped))
            .delivery
            .address
            .len(),
        limits::TEXT_BYTES
    );
}

#[test]
fn amounts_are_exact_and_written_without_exponent_trailing_zeros_or_minus_zero() {
    for (number, written) in [
        ("150.50", "150.5"),
        ("-150.50", "-150.5"),
        ("-0.0", "0"),
        ("1.5e2", "150"),
        ("100", "100"),
        ("0.1", "0.1"),
        ("99999999999999.9999", "99999999999999.9999"),
        ("999999999999999999", "999999999999999999"),
        ("0.0001", "0.0001"),
    ] {
        let order = accepted(&altered(r#""amount":1817"#, &format!(r#""amount":{number}"#)));
        assert_eq!(order.payment.amount.to_string(), written);
        assert!(
            str::from_utf8(order.json())
                .unwrap()
                .contains(&format!(r#""amount":{written},"#)),
            "{number}"
        );
    }
}

#[test]
fn integers_reach_their_limits() {
    let order = accepted(&altered(
        r#""chrt_id":9934930"#,
        r#""chrt_id":9223372036854775807"#,
    ));
    assert_eq!(order.items[0].chrt_id, i64::MAX);
    let order = accepted(&altered(r#""nm_id":2389212"#, r#""nm_id":-9223372036854775808"#));
    assert_eq!(order.items[0].nm_id, i64::MIN);
    let order = accepted(&altered(r#""status":202"#, r#""status":-2147483648"#));
    assert_eq!(order.items[0].status, i32::MIN);
    let order = accepted(&altered(r#""sm_id":99"#, r#""sm_id":-0"#));
    assert!(str::from_utf8(order.json()).unwrap().contains(r#""sm_id":0,"#));
}

#[test]
fn dates_are_written_in_utc_cut_to_microseconds() {
    for (date, written) in [
        (
            "2024-06-11T14:02:33.482913746+03:00",
            "2024-06-11T11:02:33.482913Z",
        ),
        ("2024-06-11T14:02:33.500Z", "2024-06-11T14:02:33.5Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
        (r"2024\u002d06-11T14:02:33Z", "2024-06-11T14:02:33Z"),
    ] {
        let order = accepted(&altered("2021-11-26T06:22:19Z", date));
        assert_eq!(order.date_created.to_string(), written);
        assert!(str::from_utf8(order.json()).unwrap().contains(written));
    }
}

#[test]
fn the_payments_time_is_unix_seconds_or_a_date_cut_to_seconds() {
    for (given, seconds) in [
        ("1637907727", 1_637_907_727),
        ("0", 0),
        ("-9223372036854775808", i64::MIN),
        (r#""2021-11-26T06:22:07.999999999Z""#, 1_637_907_727),
        (r#""0001-01-01T00:00:00Z""#, -62_135_596_800),
        (r#""1969-12-31T23:59:58.5Z""#, -2),
    ] {
        let order = accepted(&altered("1637907727", given));
        assert_eq!(order.payment.payment_dt, seconds, "{given}");
        assert!(
            str::from_utf8(order.json())
                .unwrap()
                .contains(&format!(r#""payment_dt":{seconds},"#))
        );
    }
}

#[test]
fn the_table_is_that_of_the_design() {
    fn list(prefix: &str, fields: &[Field], rows: &mut Vec<String>) {
        for field in fields {
            let (kind, inner) = match field.kind {
                FieldKind::Uid => ("uid".to_owned(), None),
                FieldKind::Text { max_bytes } => (format!("text {max_bytes}"), None),
                FieldKind::Amount => ("amount".to_owned(), None),
                FieldKind::Integer { bits } => (format!("int {bits}"), None),
                FieldKind::DateTime => ("moment".to_owned(), None),
                FieldKind::UnixSeconds => ("seconds".to_owned(), None),
                FieldKind::Object { fields } => ("object".to_owned(), Some(fields)),
                FieldKind::List { fields, max_len } => (format!("list {max_len}"), Some(fields)),
            };
            let presence = if field.required { "required" } else { "optional" };
            let names = [&[field.name], field.other_names].concat().join(" ");
            rows.push(format!("{kind:9} {presence}  {prefix}{names}"));
            if let Some(inner) = inner {
                list(&format!("{prefix}{}.", field.name), inner, rows);
            }
        }
    }

    let mut rows = Vec::new();
    list("", ORDER_FIELDS, &mut rows);
    let expected = "
        uid       required  order_uid orderUid
        text 256  required  track_number trackNumber
        text 2048 optional  entry
        object    required  delivery
        text 2048 required  delivery.name
        text 2048 required  delivery.phone
        text 2048 optional  delivery.zip
        text 2048 required  delivery.city
        text 2048 required  delivery.address
        text 2048 optional  delivery.region
        text 2048 optional  delivery.email
        object    required  payment
        text 256  required  payment.transaction
        text 2048 optional  payment.request_id requestId
        text 2048 required  payment.currency
        text 2048 required  payment.provider
        amount    required  payment.amount
        seconds   required  payment.payment_dt paymentDt
        text 2048 optional  payment.bank
        amount    optional  payment.delivery_cost deliveryCost
        amount    required  payment.goods_total goodsTotal
        amount    required  payment.custom_fee customFee
        list 1000 optional  items
        int 64    required  items.chrt_id chrtId
        text 256  required  items.track_number trackNumber
        amount    required  items.price
        text 2048 optional  items.rid
        text 2048 required  items.name
        int 32    optional  items.sale
        text 2048 optional  items.size
        amount    required  items.total_price totalPrice
        int 64    required  items.nm_id nmId
        text 2048 required  items.brand
        int 32    required  items.status
        text 2048 required  locale
        text 2048 optional  internal_signature internalSignature
        text 256  required  customer_id customerId
        text 2048 required  delivery_service deliveryService
        text 2048 optional  shardkey shardKey
        int 32    optional  sm_id smId
        moment    required  date_created dateCreated
        text 2048 optional  oof_shard oofShard";
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(rows, expected);
}

#[test]
fn an_order_may_have_as_many_items_as_the_limit() {
    let mut parts = parse(CANONICAL_ORDER).unwrap().order.into_parts();
    parts.items = vec![parts.items[0].clone(); limits::ITEMS];
    for (index, item) in (0_i64..).zip(&mut parts.items) {
        item.chrt_id = index;
    }
    let order = accepted(str::from_utf8(&render(&parts)).unwrap());
    assert_eq!(order.into_parts(), parts, "all items, in their order");
}
