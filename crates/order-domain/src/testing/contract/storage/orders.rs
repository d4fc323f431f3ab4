//! The rules of [`OrderRepository`](crate::OrderRepository).

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};

use super::{
    PATIENCE, Storage, document, entries_after, find, head, revision, store, store_batch, uid, version,
};
use crate::testing::orders::{CAMEL_CASE_ORDER, sample_order, sample_order_version};
use crate::{
    Amount, Batch, Item, Order, OrderDocument, OrderParts, RevisedOrder, StoreOutcome, UtcDateTime, limits,
    parse,
};

/// What was stored comes back, byte for byte.
pub async fn what_is_stored_is_found_as_the_same_bytes(storage: &Storage) {
    let camel_case = parse(CAMEL_CASE_ORDER).expect("the sample is an order").order;
    let camel_case = RevisedOrder {
        revision: revision(7, 7),
        order: camel_case,
    };
    let versions = vec![version("one", 0), version("two", 5), camel_case];
    let report = store(storage, versions.clone()).await;
    assert_eq!(report.outcomes, [StoreOutcome::Stored; 3]);
    for version in &versions {
        assert_eq!(
            find(storage, version.order.order_uid.as_str()).await,
            Some(document(version))
        );
    }
}

/// The longest texts, the largest numbers, the first and the last moment, no items and the most.
pub async fn an_order_at_every_limit_survives(storage: &Storage) {
    let amount = |text: &str| {
        let order = format!("{{\"amount\": {text}}}");
        let parsed: serde_json::Value = serde_json::from_str(&order).expect("JSON");
        Amount::new(parsed["amount"].to_string().parse().expect("a decimal")).expect("an amount")
    };
    let moment =
        |micros| UtcDateTime::from_unix_micros(micros).expect("a moment within the years 0001 to 9999");
    let item = Item {
        chrt_id: i64::MIN,
        track_number: "t".into(),
        price: amount("-999999999999999999"),
        name: "\u{1}\"\\/ ünïcode 🚀 \u{2028}".into(),
        sale: i32::MIN,
        total_price: amount("99999999999999.9999"),
        nm_id: i64::MAX,
        brand: "b".into(),
        status: i32::MAX,
        ..Item::default()
    };
    let mut first = OrderParts {
        items: Vec::new(),
        ..sample_order("first").into_parts()
    };
    first.date_created = moment(-62_135_596_800_000_000);
    first.payment.amount = amount("-0.0001");
    first.payment.payment_dt = i64::MIN;
    let mut last = OrderParts {
        items: vec![item; 1_000],
        ..sample_order(&"x".repeat(64)).into_parts()
    };
    last.date_created = moment(253_402_300_799_999_999);
    last.payment.payment_dt = i64::MAX;
    last.sm_id = i32::MAX;
    last.entry = "é".repeat(limits::TEXT_BYTES / 2).into();
    last.customer_id = "c".repeat(limits::SEARCHABLE_TEXT_BYTES).into();

    let versions = [first, last].map(|parts| RevisedOrder {
        revision: revision(1, i64::MAX.unsigned_abs()),
        order: Order::new(parts).expect("an order at its limits is still one"),
    });
    store(storage, versions.to_vec()).await;
    for version in &versions {
        assert_eq!(
            find(storage, version.order.order_uid.as_str()).await,
            Some(document(version))
        );
    }
}

/// Absence is an answer, not an error.
pub async fn an_unknown_order_is_absent(storage: &Storage) {
    store(storage, vec![version("known", 0)]).await;
    assert_eq!(find(storage, "unknown").await, None);
    assert_eq!(find(storage, "KNOWN").await, None);
}

/// Nothing of the version before is left, items least of all.
pub async fn a_newer_version_replaces_the_order_as_a_whole(storage: &Storage) {
    let (three_items, one_item) = (version("a", 2), version("a", 3));
    assert!(three_items.order.items.len() > one_item.order.items.len());
    store(storage, vec![three_items]).await;
    let report = store(storage, vec![one_item.clone()]).await;
    assert_eq!(report.outcomes, [StoreOutcome::Stored]);
    assert_eq!(find(storage, "a").await, Some(document(&one_item)));
    let grown = version("a", 5);
    store(storage, vec![grown.clone()]).await;
    assert_eq!(find(storage, "a").await, Some(document(&grown)));
}

/// Whatever comes when: the newest version that came is what stands.
pub async fn the_newest_version_wins_in_any_order_of_delivery(storage: &Storage) {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (index, order) in orders.into_iter().enumerate() {
        let name = format!("order-{index}");
        let mut newest = None;
        for number in order {
            let given = version(&name, number);
            let report = store(storage, vec![given.clone()]).await;
            match newest {
                Some(kept) if kept > number => {
                    let by = version(&name, kept).revision;
                    assert_eq!(report.outcomes, [StoreOutcome::Superseded { by }], "{order:?}");
                }
                _ => {
                    assert_eq!(report.outcomes, [StoreOutcome::Stored], "{order:?}");
                    newest = Some(number);
                }
            }
            let expected = newest.map(|kept| document(&version(&name, kept)));
            assert_eq!(find(storage, &name).await, expected, "{order:?}");
        }
    }
}

/// A recreated stream hands out old sequences again, and its versions are newer all the same.
pub async fn the_time_leads_and_the_sequence_breaks_ties(storage: &Storage) {
    let steps = [
        (revision(100, 50), true),
        (revision(99, 900), false),
        (revision(100, 49), false),
        (revision(100, 51), true),
        (revision(101, 1), true),
        (revision(-5, 2), false),
    ];
    for (number, (revision, newer)) in (0..).zip(steps) {
        let order = sample_order_version("a", number);
        let report = store(storage, vec![RevisedOrder { revision, order }]).await;
        assert_eq!(report.outcomes == [StoreOutcome::Stored], newer, "{revision}");
    }
}

/// A batch whose fate is unknown may be stored again.
pub async fn the_same_batch_again_changes_nothing(storage: &Storage) {
    let versions: Vec<_> = ["a", "b", "c"].into_iter().map(|uid| version(uid, 4)).collect();
    let before = head(storage).await;
    let first = store(storage, versions.clone()).await;
    let again = store(storage, versions.clone()).await;
    let by = versions[0].revision;
    assert_eq!(again.outcomes, [StoreOutcome::Superseded { by }; 3]);
    assert_eq!(again.logged, None);
    assert_eq!(
        Some(head(storage).await),
        first.logged.map(|logged| logged.cursor)
    );
    assert_eq!(entries_after(storage, before, 100).await.0.len(), 1);
    for version in &versions {
        assert_eq!(
            find(storage, version.order.order_uid.as_str()).await,
            Some(document(version))
        );
    }
}

/// New, newer and older side by side; outcomes stand in the order of the batch.
pub async fn each_order_of_a_batch_has_its_own_outcome(storage: &Storage) {
    store(storage, vec![version("b", 5), version("c", 5), version("e", 5)]).await;
    let batch = vec![
        version("d", 1),
        version("c", 9),
        version("b", 3),
        version("a", 1),
        version("e", 5),
    ];
    let report = store(storage, batch).await;
    let superseded = StoreOutcome::Superseded {
        by: version("b", 5).revision,
    };
    let stored = StoreOutcome::Stored;
    assert_eq!(report.outcomes, [stored, superseded, stored, stored, superseded]);
    for (name, number) in [("a", 1), ("b", 5), ("c", 9), ("d", 1), ("e", 5)] {
        assert_eq!(find(storage, name).await, Some(document(&version(name, number))));
    }
}

/// Nothing is stored, and nothing fails.
pub async fn an_empty_batch_is_stored_without_a_trace(storage: &Storage) {
    let before = head(storage).await;
    let report = store_batch(storage, &Batch::default()).await;
    assert_eq!((report.outcomes, report.logged), (Vec::new(), None));
    assert_eq!(head(storage).await, before);
}

/// An article is not an item: two orders have it, and one order has it twice.
pub async fn orders_that_share_an_article_keep_their_items(storage: &Storage) {
    let (one, mut two) = (version("one", 2), version("two", 1));
    let mut parts = two.order.into_parts();
    parts.items = vec![one.order.items[0].clone(); 2];
    two.order = Order::new(parts).expect("an article may stand in an order twice");
    store(storage, vec![one.clone()]).await;
    store(storage, vec![two.clone()]).await;
    assert_eq!(find(storage, "one").await, Some(document(&one)));
    assert_eq!(find(storage, "two").await, Some(document(&two)));
    let fewer = version("two", 3);
    store(storage, vec![fewer]).await;
    assert_eq!(find(storage, "one").await, Some(document(&one)));
}

/// Four writers store versions of the same orders in orders of their own.
pub async fn batches_stored_at_once_do_not_fail(storage: &Storage) {
    const ROUNDS: u32 = 8;
    let writers = (0..4_u32).map(|writer| {
        let storage = storage.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut versions: Vec<_> = (0..30)
                    .map(|order| version(&format!("order-{order}"), round * 4 + writer))
                    .collect();
                // Each writer has an order of its own, which must not matter.
                versions.rotate_left((writer as usize * 7 + round as usize) % 30);
                if writer % 2 == 0 {
                    versions.reverse();
                }
                store(&storage, versions).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        tokio::time::timeout(PATIENCE, writer)
            .await
            .expect("in time")
            .expect("no writer fails");
    }
    for order in 0..30 {
        let name = format!("order-{order}");
        assert_eq!(
            find(storage, &name).await,
            Some(document(&version(&name, ROUNDS * 4 - 1)))
        );
    }
}

/// A reader sees one version or another, never the items of one with the payment of another.
pub async fn an_order_is_found_whole_while_it_is_replaced(storage: &Storage) {
    let versions: Vec<_> = (0..60).map(|number| version("a", number)).collect();
    let documents: BTreeMap<_, _> = versions
        .iter()
        .map(|version| (version.revision, document(version)))
        .collect();
    store(storage, vec![versions[0].clone()]).await;
    let writing = async {
        for version in &versions[1..] {
            store(storage, vec![version.clone()]).await;
        }
    };
    let reading = async {
        let last = versions[versions.len() - 1].revision;
        let mut seen = versions[0].revision;
        while seen < last {
            let found = find(storage, "a").await.expect("the order is there all the time");
            assert_eq!(documents.get(&found.revision), Some(&found));
            assert!(found.revision >= seen, "a later read found an older version");
            seen = found.revision;
        }
    };
    let both = async { tokio::join!(writing, reading) };
    tokio::time::timeout(PATIENCE, both).await.expect("in time");
}

/// By the date in the order, not by when it was stored; and no more than wanted. In order where they weigh a byte too much.
pub async fn the_newest_are_those_created_last(storage: &Storage) {
    let mut created = Vec::new();
    for day in [3, 1, 4, 0, 2_i64] {
        let mut parts = sample_order(&format!("day-{day}")).into_parts();
        let moment = UtcDateTime::from_unix_micros(day * 86_400_000_000);
        parts.date_created = moment.expect("a day in 1970");
        let order = Order::new(parts).expect("an order of another day is one");
        created.push(RevisedOrder {
            revision: revision(1, 1),
            order,
        });
    }
    store(storage, created).await;
    for (limit, expected) in [
        (0, vec![]),
        (2, vec![4, 3]),
        (5, vec![4, 3, 2, 1, 0]),
        (9, vec![4, 3, 2, 1, 0]),
    ] {
        let read = newest(storage, limit).await;
        let days: Vec<String> = read.iter().map(|document| document.uid.to_string()).collect();
        assert_eq!(
            days,
            expected
                .iter()
                .map(|day| format!("day-{day}"))
                .collect::<Vec<_>>()
        );
        for document in read {
            assert_eq!(find(storage, document.uid.as_str()).await, Some(document));
        }
    }

    let in_order = newest(storage, 5).await;
    let weight: usize = in_order.iter().map(OrderDocument::weight).sum();
    let stream = storage.orders.newest(5, weight as u64 - 1);
    let too_heavy: Vec<_> = stream.try_concat().await.expect("they can be read");
    assert_eq!(too_heavy, in_order);
}

/// What was committed before the call is in it; what is committed once it has begun is not.
pub async fn the_newest_are_of_one_snapshot(storage: &Storage) {
    let of_version =
        |orders, number| (0..orders).map(move |order| version(&format!("order-{order}"), number));
    for (orders, number, max_bytes) in [(1_500, 1, 0), (1_501, 3, u64::MAX)] {
        store(storage, of_version(orders, number).collect()).await;
        let mut stream = storage.orders.newest(2_000, max_bytes);
        let mut read = stream
            .next()
            .await
            .expect("there are orders")
            .expect("they can be read");
        assert!(read.len() < 1_500, "the rest is read later");
        store(storage, of_version(orders + 1, number + 1).collect()).await;
        while let Some(chunk) = stream.next().await {
            read.extend(chunk.expect("they can be read"));
        }
        drop(stream);
        let expected: BTreeMap<_, _> = of_version(orders, number)
            .map(|it| (it.order.order_uid.clone(), document(&it)))
            .collect();
        let read: BTreeMap<_, _> = read
            .into_iter()
            .map(|document| (document.uid.clone(), document))
            .collect();
        assert_eq!(read, expected);
        assert_eq!(newest(storage, 2_000).await.len(), orders + 1);
    }
}

/// Each order once, and none of the chunks so large that memory would grow with the limit.
pub async fn the_newest_come_in_chunks(storage: &Storage) {
    let versions: Vec<_> = (0..2_300)
        .map(|order| version(&format!("order-{order}"), 0))
        .collect();
    store(storage, versions).await;
    for max_bytes in [0, u64::MAX] {
        let chunks = storage.orders.newest(usize::MAX, max_bytes).try_collect().await;
        let chunks: Vec<Vec<OrderDocument>> = chunks.expect("they can be read");
        assert!(chunks.iter().all(|chunk| (1..=1_000).contains(&chunk.len())));
        let mut uids: Vec<_> = chunks
            .into_iter()
            .flatten()
            .map(|document| document.uid)
            .collect();
        assert_eq!(uids.len(), 2_300);
        uids.sort();
        uids.dedup();
        assert_eq!(uids.len(), 2_300);
        assert!(uids.contains(&uid("order-0")));
    }
}

/// In order, however few they are.
async fn newest(storage: &Storage, limit: usize) -> Vec<OrderDocument> {
    storage
        .orders
        .newest(limit, 0)
        .try_concat()
        .await
        .expect("they can be read")
}
