use std::collections::{BTreeSet, HashSet};

use order_domain::{Amount, parse};

use super::*;

const MIXED: Mix = Mix {
    bad_percent: 20.0,
    update_percent: 30.0,
    spelling: Spelling::Canonical,
};

fn messages(seed: u64, mix: Mix, count: usize) -> Vec<Message> {
    OrderGenerator::new(seed, mix).take(count).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    assert_eq!(messages(1, MIXED, 500), messages(1, MIXED, 500));
    let uids = |seed| -> HashSet<OrderUid> {
        let generator = OrderGenerator::new(seed, Mix::default());
        (0..500).map(|number| generator.uid(number)).collect()
    };
    assert_eq!(uids(1).len(), 500);
    assert!(uids(1).is_disjoint(&uids(2)));
}

#[test]
fn a_good_message_is_the_order_it_says() {
    for message in messages(
        2,
        Mix {
            bad_percent: 0.0,
            ..MIXED
        },
        2_000,
    ) {
        let Expected::Served { uid, json, .. } = &message.expected else {
            panic!("none was to be bad");
        };
        let parsed = parse(&message.payload).unwrap();
        assert_eq!((&parsed.order.order_uid, parsed.order.json()), (uid, json));
        assert_eq!(parsed.unknown_fields, 0);
    }
}

#[test]
fn a_bad_message_of_any_kind_is_refused() {
    let generator = OrderGenerator::new(3, Mix::default());
    for kind in BadKind::ALL {
        for number in 0..200 {
            let payload = kind.spoil(generator.order(number), &mut Dice::new(number, 0));
            let faults = parse(&payload).expect_err(kind.name()).to_string();
            let reasons: &[&str] = match kind {
                // The break may go through the middle of a letter.
                BadKind::Truncated => &["must be JSON", "must be UTF-8"],
                BadKind::WrongType => &["must "],
                BadKind::MissingField => &["is missing"],
                BadKind::Nul => &["must not contain NUL"],
                BadKind::Oversize => &["must have at most 524288 bytes"],
            };
            assert!(
                reasons.iter().any(|reason| faults.contains(reason)),
                "{}: {faults}",
                kind.name()
            );
            // The broker takes at most 1 MiB with headers; more would test the broker, not the service.
            assert!(payload.len() < 1024 * 1024 - 4096, "{} bytes", payload.len());
        }
    }
}

#[test]
fn the_mix_is_what_was_asked_for() {
    let all = messages(4, MIXED, 10_000);
    let bad: Vec<BadKind> = all
        .iter()
        .filter_map(|message| match message.expected {
            Expected::Refused(kind) => kind,
            Expected::Served { .. } => None,
        })
        .collect();
    let updates = all
        .iter()
        .filter(|message| matches!(message.expected, Expected::Served { update: true, .. }));
    assert!((1_800..2_200).contains(&bad.len()), "{} bad", bad.len());
    assert!((2_800..3_200).contains(&updates.count()));
    assert_eq!(BTreeSet::from_iter(bad), BTreeSet::from(BadKind::ALL));
    let plain = messages(4, Mix::default(), 1_000);
    assert!(
        plain
            .iter()
            .all(|message| matches!(message.expected, Expected::Served { update: false, .. }))
    );
}

#[test]
fn an_update_is_another_version_of_an_earlier_order() {
    let mut versions = HashMap::<OrderUid, Vec<Order>>::new();
    let (mut fewer_items, mut other_prices) = (0, 0);
    for message in messages(
        5,
        Mix {
            bad_percent: 5.0,
            ..MIXED
        },
        3_000,
    ) {
        let Expected::Served { uid, update, .. } = message.expected else {
            continue;
        };
        let order = parse(&message.payload).unwrap().order;
        let earlier = versions.entry(uid).or_default();
        assert_eq!(update, !earlier.is_empty());
        assert!(!earlier.contains(&order));
        if let Some(first) = earlier.first() {
            fewer_items += usize::from(order.items.len() < first.items.len());
            other_prices += usize::from(order.payment.amount != first.payment.amount);
        }
        earlier.push(order);
    }
    assert!(
        fewer_items > 50 && other_prices > 50,
        "{fewer_items} with fewer items, {other_prices} other prices"
    );
}

#[test]
fn orders_are_varied() {
    let generator = OrderGenerator::new(6, Mix::default());
    let orders: Vec<Order> = (0..2_000).map(|number| generator.order(number)).collect();
    let counts: BTreeSet<usize> = orders.iter().map(|order| order.items.len()).collect();
    assert_eq!(counts, BTreeSet::from_iter(1..=8));
    let bytes: HashSet<u8> = orders
        .iter()
        .flat_map(|order| order.json().iter().copied())
        .collect();
    assert!(
        bytes.contains(&b'\\') && bytes.contains(&0xf0),
        "escapes and letters of four bytes"
    );
    let scales: BTreeSet<u32> = orders
        .iter()
        .flat_map(|order| order.items.iter().map(|item| item.price.as_decimal().scale()))
        .collect();
    assert_eq!(scales, BTreeSet::from_iter(0..=4));
    assert!(
        orders
            .iter()
            .any(|order| order.payment.custom_fee < Amount::default())
    );
    let articles: Vec<i64> = orders
        .iter()
        .flat_map(|order| order.items.iter().map(|item| item.chrt_id))
        .collect();
    assert!(
        articles.iter().collect::<HashSet<_>>().len() < articles.len(),
        "orders share articles"
    );
}

#[test]
fn camel_case_is_the_same_order_in_other_words() {
    let mix = |spelling| Mix {
        update_percent: 20.0,
        spelling,
        ..Mix::default()
    };
    let pairs = messages(7, mix(Spelling::Canonical), 1_000)
        .into_iter()
        .zip(messages(7, mix(Spelling::Camel), 1_000));
    for (canonical, camel) in pairs {
        assert_eq!(canonical.expected, camel.expected);
        let text = str::from_utf8(&camel.payload).unwrap();
        assert!(
            text.contains(r#""orderUid":"#) && !text.contains(r#""order_uid":"#),
            "{text}"
        );
        let parsed = parse(&camel.payload).unwrap();
        assert_eq!(parsed.order.json(), &canonical.payload);
        assert_eq!(parsed.unknown_fields, 0);
    }
}
