//! What is refused, where the fault is said to be, and in which words.

use super::{accepted, altered, faults_of};
use crate::testing::orders::CANONICAL_ORDER;
use crate::{OrderUid, limits, parse};

/// All faults of a message, as `pointer reason`.
fn refused(message: &str) -> Vec<String> {
    let faults = faults_of(message.as_bytes()).faults;
    faults
        .iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.reason))
        .collect()
}

#[test]
fn each_row_says_what_it_wants() {
    let long = "é".repeat(1_025);
    let searchable = "x".repeat(257);
    let uid = "/order_uid must be 1 to 64 of A-Z a-z 0-9 . _ - and neither `.` nor `..`";
    let amount = "/payment/amount must have at most 18 digits, at most 4 of them after the point";
    let date = "/date_created must be an RFC 3339 date and time in the years 0001 to 9999 of UTC";
    for (from, to, fault) in [
        (
            r#""order_uid":"b563feb7b2b84b6test""#,
            r#""order_uid":"a b""#,
            uid,
        ),
        (r#""order_uid":"b563feb7b2b84b6test""#, r#""order_uid":"""#, uid),
        (
            r#""order_uid":"b563feb7b2b84b6test""#,
            r#""order_uid":7"#,
            "/order_uid must be a string, is a number",
        ),
        (
            r#""order_uid":"b563feb7b2b84b6test","#,
            "",
            "/order_uid is missing",
        ),
        (r#""locale":"en""#, r#""locale":null"#, "/locale is missing"),
        (r#""locale":"en""#, r#""locale":"""#, "/locale must not be empty"),
        (
            r#""locale":"en""#,
            r#""locale":{"a":"en"}"#,
            "/locale must be a string, is an object",
        ),
        (
            r#""locale":"en""#,
            r#""locale":true"#,
            "/locale must be a string, is a boolean",
        ),
        (
            r#""locale":"en""#,
            r#""locale":"e\u0000""#,
            "/locale must not contain NUL",
        ),
        (
            r#""entry":"WBIL""#,
            r#""entry":"\u0000""#,
            "/entry must not contain NUL",
        ),
        (
            r#""entry":"WBIL""#,
            r#""entry":"\ud83d""#,
            "/entry must be Unicode text, has an escape of half a character",
        ),
        (
            r#""entry":"WBIL""#,
            &format!(r#""entry":"{long}""#),
            "/entry must have at most 2048 bytes, has 2050",
        ),
        (
            r#""customer_id":"test""#,
            &format!(r#""customer_id":"{}""#, searchable),
            "/customer_id must have at most 256 bytes, has 257",
        ),
        (
            r#""chrt_id":9934930,"track_number":"WBILMTESTTRACK""#,
            &format!(r#""chrt_id":9934930,"track_number":"{}""#, searchable),
            "/items/0/track_number must have at most 256 bytes, has 257",
        ),
        (
            r#""amount":1817"#,
            r#""amount":"1817""#,
            "/payment/amount must be a number, is a string",
        ),
        (r#""amount":1817"#, r#""amount":0.00001"#, amount),
        (r#""amount":1817"#, r#""amount":1e999999999"#, amount),
        (r#""amount":1817"#, r#""amount":1000000000000000000"#, amount),
        (
            r#""payment_dt":1637907727"#,
            r#""paymentDt":[]"#,
            "/payment/payment_dt must be Unix seconds, a 64-bit integer, or an RFC 3339 date and time, is an array",
        ),
        (
            r#""payment_dt":1637907727"#,
            r#""payment_dt":"yesterday""#,
            "/payment/payment_dt must be an RFC 3339 date and time in the years 0001 to 9999 of UTC",
        ),
        (
            r#""chrt_id":9934930"#,
            r#""chrtId":"9934930""#,
            "/items/0/chrt_id must be a 64-bit integer, is a string",
        ),
        (
            r#""chrt_id":9934930"#,
            r#""chrt_id":9934930.0"#,
            "/items/0/chrt_id must be a 64-bit integer, has a fraction or an exponent",
        ),
        (
            r#""nm_id":2389212"#,
            r#""nm_id":9223372036854775808"#,
            "/items/0/nm_id must be a 64-bit integer, is out of its range",
        ),
        (
            r#""sm_id":99"#,
            r#""sm_id":2147483648"#,
            "/sm_id must be a 32-bit integer, is out of its range",
        ),
        (
            r#""date_created":"2021-11-26T06:22:19Z""#,
            r#""date_created":"2021-11-26T06:22:19""#,
            date,
        ),
        (
            r#""date_created":"2021-11-26T06:22:19Z""#,
            r#""date_created":"0001-01-01T00:00:00+01:00""#,
            date,
        ),
        (
            r#""date_created":"2021-11-26T06:22:19Z""#,
            r#""date_created":1637907727"#,
            "/date_created must be an RFC 3339 date and time, is a number",
        ),
        (
            r#""locale":"en""#,
            r#""locale":"en","locale":"en""#,
            "/locale is given twice",
        ),
        (
            r#""locale":"en""#,
            r#""locale":"en","locale":null"#,
            "/locale is given twice",
        ),
        (
            r#""sm_id":99"#,
            r#""sm_id":99,"smId":99,"sm_id":99"#,
            "/sm_id is given 3 times",
        ),
        (
            r#""price":453"#,
            r#""price":453,"price":453"#,
            "/items/0/price is given twice",
        ),
        (
            r#""price":453"#,
            r#""price":453,"\ud83d":1"#,
            "/items/0 must have names of Unicode text, has an escape of half a character",
        ),
    ] {
        assert_eq!(refused(&altered(from, to)), [fault]);
    }
}

#[test]
fn parts_of_another_kind_are_one_fault_each() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    let between = |from: &str, to: &str| {
        let start = canonical.find(from).unwrap();
        let end = canonical.find(to).unwrap();
        canonical[start..end].to_owned()
    };
    let delivery = between(r#""delivery""#, r#""payment""#);
    let payment = between(r#""payment""#, r#""items""#);
    let items = between(r#""items""#, r#""locale""#);
    assert_eq!(refused(&altered(&delivery, "")), ["/delivery is missing"]);
    assert_eq!(
        refused(&altered(&delivery, r#""delivery":null,"#)),
        ["/delivery is missing"]
    );
    assert_eq!(
        refused(&altered(&delivery, r#""delivery":[],"#)),
        ["/delivery must be an object, is an array"]
    );
    assert_eq!(
        refused(&altered(&payment, r#""payment":"","#)),
        ["/payment must be an object, is a string"]
    );
    assert_eq!(
        refused(&altered(&items, r#""items":{},"#)),
        ["/items must be an array, is an object"]
    );
    assert_eq!(
        refused(&altered(&items, r#""items":[null,3],"#)),
        [
            "/items/0 must be an object, is null",
            "/items/1 must be an object, is a number"
        ],
    );
}

#[test]
fn all_faults_are_named_in_the_order_of_the_canonical_fields() {
    let message = r#"{"oofShard":7,"items":[{},{"chrtId":1,"trackNumber":"t","price":"1","name":"n","totalPrice":1,
        "nmId":1.5,"brand":"","status":1}],"payment":{"customFee":0,"goodsTotal":null,"amount":true,"currency":"USD",
        "provider":"p","transaction":"t","paymentDt":1},"delivery":7,"orderUid":"x","order_uid":"x","date_created":"now"}"#;
    assert_eq!(
        refused(message),
        [
            "/order_uid is given twice",
            "/track_number is missing",
            "/delivery must be an object, is a number",
            "/payment/amount must be a number, is a boolean",
            "/payment/goods_total is missing",
            "/items/0/chrt_id is missing",
            "/items/0/track_number is missing",
            "/items/0/price is missing",
            "/items/0/name is missing",
            "/items/0/total_price is missing",
            "/items/0/nm_id is missing",
            "/items/0/brand is missing",
            "/items/0/status is missing",
            "/items/1/price must be a number, is a string",
            "/items/1/nm_id must be a 64-bit integer, has a fraction or an exponent",
            "/items/1/brand must not be empty",
            "/locale is missing",
            "/customer_id is missing",
            "/delivery_service is missing",
            "/date_created must be an RFC 3339 date and time in the years 0001 to 9999 of UTC",
            "/oof_shard must be a string, is a number",
        ],
    );
}

#[test]
fn what_is_not_json_is_one_fault_with_its_place() {
    for (message, fault) in [
        ("", " must be JSON: EOF while parsing a value at line 1 column 0"),
        ("order", " must be JSON: expected value at line 1 column 1"),
        (
            "{\"order_uid\":\"x\",\n}",
            " must be JSON: key must be a string at line 2 column 1",
        ),
        (
            r#"{"order_uid":"secr"#,
            " must be JSON: EOF while parsing a string at line 1 column 18",
        ),
        ("{} {}", " must be JSON: trailing characters at line 1 column 4"),
        (
            "{\"a\":\"\u{1}\"}",
            " must be JSON: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 6",
        ),
        ("\u{feff}{}", " must be JSON: expected value at line 1 column 1"),
        ("[]", " must be an object, is an array"),
        ("null", " must be an object, is null"),
        ("7", " must be an object, is a number"),
        (
            r#"{"\ud800":1}"#,
            " must have names of Unicode text, has an escape of half a character",
        ),
    ] {
        assert_eq!(refused(message), [fault], "{message:?}");
        let not_json = faults_of(message.as_bytes()).not_json;
        assert_eq!(not_json, fault.starts_with(" must be JSON"), "{message:?}");
    }
}

#[test]
fn nothing_may_follow_an_order() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    for more in ["x", "}", canonical, "\0"] {
        let fault = format!(
            " must be JSON: trailing characters at line 1 column {}",
            canonical.len() + 1
        );
        assert_eq!(refused(&format!("{canonical}{more}")), [fault]);
    }
}

#[test]
fn what_is_not_utf8_is_one_fault_even_where_it_would_be_read_over() {
    let mut message = altered(r#""locale":"en","#, r#""locale":"en","note":"?","#).into_bytes();
    let at = message.iter().position(|byte| *byte == b'?').unwrap();
    message[at] = 0xff;
    let faults = faults_of(&message);
    assert_eq!(
        faults.to_string(),
        format!("the message must be UTF-8, is not from byte {at} on")
    );
    assert!(faults.not_json);
    assert_eq!(faults.order_uid, OrderUid::new("b563feb7b2b84b6test").ok());
}

#[test]
fn the_uid_is_told_where_it_can_be_read() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    let uid_of = |message: &str| faults_of(message.as_bytes()).order_uid.map(|uid| uid.to_string());
    let uid = Some("b563feb7b2b84b6test".to_owned());
    assert_eq!(uid_of(&altered(r#""sm_id":99"#, r#""sm_id":[]"#)), uid);
    assert_eq!(
        uid_of(&canonical[..canonical.len() - 1]),
        uid,
        "the text breaks off after the uid"
    );
    assert_eq!(
        uid_of(&canonical[..20]),
        None,
        "the text breaks off within the uid"
    );
    assert_eq!(
        uid_of(r#"{"orderUid":"x","orderUid":"y"}"#),
        None,
        "nobody knows which"
    );
    assert_eq!(
        uid_of(r#"{"delivery":{"order_uid":"x"}}"#),
        None,
        "an inner uid means nothing"
    );
    assert_eq!(uid_of(r#"{"order_uid":"a/b"}"#), None);
}

#[test]
fn too_many_items_are_counted_and_only_the_first_ones_are_looked_at() {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    let start = canonical.find("[{").unwrap() + 1;
    let end = canonical.find("}]").unwrap() + 1;
    let item = &canonical[start..end];
    let mut items = vec![item; limits::ITEMS];
    items.push("7");
    assert_eq!(
        refused(&altered(item, &items.join(","))),
        [format!(
            "/items must have at most 1000 elements, has {}",
            limits::ITEMS + 1
        )],
    );
}

#[test]
fn the_whole_has_a_limit_of_its_own() {
    let order = accepted(str::from_utf8(CANONICAL_ORDER).unwrap());
    let mut parts = order.into_parts();
    parts.items = vec![parts.items[0].clone(); limits::ITEMS];
    // As many bytes as the limit leaves go into the names and brands of the items.
    let mut left = limits::JSON_BYTES - crate::render(&parts).len();
    for item in &mut parts.items {
        let more = left.min(limits::TEXT_BYTES - item.name.len());
        item.name.push_str(&"x".repeat(more));
        left -= more;
    }
    assert_eq!(left, 0);
    let message = crate::render(&parts);
    assert_eq!(message.len(), limits::JSON_BYTES);
    assert_eq!(parse(&message).unwrap().order.json().len(), limits::JSON_BYTES);
    // What counts is what is written, not what was sent.
    let spaced = [b" ".repeat(limits::JSON_BYTES), message.to_vec()].concat();
    assert!(parse(&spaced).is_ok());

    parts.oof_shard.push('x');
    assert_eq!(
        refused(str::from_utf8(&crate::render(&parts)).unwrap()),
        [format!(
            " must have at most 524288 bytes as canonical JSON, has {}",
            limits::JSON_BYTES + 1
        )],
    );
}

#[test]
fn of_very_many_faults_the_rest_is_only_counted() {
    let message = altered(r#""chrt_id":9934930"#, r#""chrt_id":"""#);
    let start = message.find("[{").unwrap() + 1;
    let end = message.find("}]").unwrap() + 1;
    let message = message.replacen(&message[start..end], &vec!["{}"; 50].join(","), 1);
    let faults = faults_of(message.as_bytes());
    // 50 items, of which each lacks its 8 required fields.
    assert_eq!(faults.faults.len(), 101);
    assert_eq!(faults.faults[99].pointer, "/items/12/name");
    assert_eq!(faults.faults[100].to_string(), "the message has 300 more faults");
}

#[test]
fn the_line_for_a_dead_letter_names_faults_and_no_values() {
    let message = altered(r#""name":"Test Testov""#, r#""name":["Test Testov"]"#)
        .replace("test@gmail.com", "\\u0000test@gmail.com");
    assert_eq!(
        faults_of(message.as_bytes()).to_string(),
        "/delivery/name must be a string, is an array; /delivery/email must not contain NUL",
    );
    let empty = ["{}"; 10].join(",");
    let start = message.find("[{").unwrap() + 1;
    let end = message.find("}]").unwrap() + 1;
    let line = faults_of(message.replacen(&message[start..end], &empty, 1).as_bytes()).to_string();
    assert!(
        line.ends_with("; /items/2/track_number is missing; and more"),
        "{line}"
    );
}
