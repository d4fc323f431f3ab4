//! The rules of reading many orders: [`page`](crate::OrderRepository::page) and [`find_many`](crate::OrderRepository::find_many).

use std::collections::{BTreeMap, BTreeSet};

use super::{PATIENCE, Storage, document, find, revision, store, uid, version};
use crate::testing::orders::sample_order;
use crate::{
    FoundOrders, Order, OrderDocument, OrderFilter, OrderPage, OrderPlace, OrderQuery, RevisedOrder,
    SearchText, UtcDateTime,
};

/// More bytes than any of these rules stores.
const ALL_BYTES: usize = 64 << 20;
/// Filters are these texts; a text that no order has is among them.
const TEXTS: [&str; 3] = ["x", "y", "nobody's"];

/// Newest first, over pages of every size, and nothing on the page after the last.
pub async fn pages_hold_every_order_once_and_newest_first(storage: &Storage) {
    assert_eq!(page(storage, &all(), None, 10).await, OrderPage::default());
    let orders: Vec<_> = [5, 3, 8, 1, 9, 2, 7, 4, 6, 0]
        .map(|day| created(&format!("day-{day}"), day * 86_400_000_000, [""; 3]))
        .to_vec();
    store(storage, orders.clone()).await;
    let expected = newest_first(&orders, |_| true);
    for limit in [1, 2, 3, 7, 9, 10, 11, 200] {
        let pages = pages(storage, &all(), limit).await;
        assert_eq!(
            pages.len(),
            10_usize.div_ceil(limit),
            "no page is empty but an only one"
        );
        assert!(pages.iter().rev().skip(1).all(|page| page.len() == limit));
        assert_eq!(pages.concat(), expected, "pages of {limit}");
    }
    assert_eq!(page(storage, &all(), None, 0).await, OrderPage::default());
}

/// A shop that imports its orders gives thousands of them one date; also the first and the last that there can be.
pub async fn orders_of_one_moment_are_paged_by_uid(storage: &Storage) {
    let (first, last) = (-62_135_596_800_000_000, 253_402_300_799_999_999);
    let at =
        |micros, uids: &[&str]| -> Vec<_> { uids.iter().map(|uid| created(uid, micros, [""; 3])).collect() };
    let mut orders: Vec<_> = (0..100)
        .map(|it| created(&format!("of-{it}"), 7, [""; 3]))
        .collect();
    // Byte by byte: capitals before small letters, a dot before both, and one name the beginning of another.
    orders.extend(at(
        7,
        &["A", "a", "a-", "a.b", "a_", "B", "b", "aa", "-", "...", "Z9"],
    ));
    orders.extend(at(first, &["first", "First"]));
    orders.extend(at(last, &["last", "Last"]));
    store(storage, orders.clone()).await;
    let expected = newest_first(&orders, |_| true);
    for limit in [1, 9, 64] {
        assert_eq!(
            pages(storage, &all(), limit).await.concat(),
            expected,
            "pages of {limit}"
        );
    }
}

/// Every combination of the three, over orders that have every combination of texts.
pub async fn a_page_holds_exactly_what_fits_every_filter(storage: &Storage) {
    let mut orders = Vec::new();
    for (number, [track, customer, transaction]) in combinations(&["x", "y"]).into_iter().enumerate() {
        for copy in 0..3_i64 {
            let texts = [track, customer, transaction];
            let uid = format!("{track}{customer}{transaction}-{copy}");
            // Dates that run against the texts, so that one who sorted by them would be found.
            orders.push(created(&uid, (copy * 31 + number as i64 * 7) % 50, texts));
        }
    }
    store(storage, orders.clone()).await;

    let wanted: Vec<Option<&str>> = [None].into_iter().chain(TEXTS.map(Some)).collect();
    for [track_number, customer_id, transaction] in combinations(&wanted) {
        let filter = OrderFilter {
            track_number: track_number.map(text),
            customer_id: customer_id.map(text),
            transaction: transaction.map(text),
        };
        let expected = newest_first(&orders, |order| {
            track_number.is_none_or(|it| it == order.track_number)
                && customer_id.is_none_or(|it| it == order.customer_id)
                && transaction.is_none_or(|it| it == order.payment.transaction)
        });
        for limit in [2, 50] {
            assert_eq!(
                pages(storage, &filter, limit).await.concat(),
                expected,
                "{filter:?}"
            );
        }
    }
}

/// No pattern, no case, no spaces and no language: a text is only itself.
pub async fn texts_are_searched_byte_by_byte(storage: &Storage) {
    let longest = "x".repeat(crate::limits::SEARCHABLE_TEXT_BYTES);
    let texts = [
        "a", "A", "a ", " a", "%", "_", "a%", "'; --", "\\", "\"", "é", "e\u{301}", "ss", "ß", "漢", "\u{1}",
        &longest,
    ];
    let orders: Vec<_> = (0..)
        .zip(texts)
        .map(|(number, text)| created(&format!("order-{number}"), number, [text; 3]))
        .collect();
    store(storage, orders.clone()).await;
    for (order, it) in orders.iter().zip(texts) {
        let only = |which| OrderFilter {
            track_number: (which == 0).then(|| text(it)),
            customer_id: (which == 1).then(|| text(it)),
            transaction: (which == 2).then(|| text(it)),
        };
        for which in 0..3 {
            let found = page(storage, &only(which), None, 10).await;
            assert_eq!(found.orders, [document(order)], "{it:?} as filter {which}");
        }
    }
}

/// Memory is bounded by bytes, not by the number of orders; but a page without an order would lead nowhere.
pub async fn a_page_ends_at_its_bytes_and_holds_one_order_at_least(storage: &Storage) {
    let orders: Vec<_> = (0..12)
        .map(|day| created(&format!("day-{day}"), day, [""; 3]))
        .collect();
    store(storage, orders.clone()).await;
    let expected = newest_first(&orders, |_| true);
    let size = expected[0].json.len();
    for (max_bytes, fit) in [(0, 1), (size - 1, 1), (4 * size + size / 2, 4), (ALL_BYTES, 12)] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let query = OrderQuery {
                filter: all(),
                after,
                limit: 100,
                max_bytes,
            };
            let page = storage.orders.page(&query).await.expect("the repository answers");
            assert!(page.orders.len() <= fit && (page.next.is_none() || page.orders.len() + 1 >= fit));
            assert!(!page.orders.is_empty());
            read.extend(page.orders);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(read, expected, "pages of {max_bytes} bytes");
    }
}

/// What [`find`](crate::OrderRepository::find) keeps holds for a page as well.
pub async fn the_orders_of_a_page_are_whole_while_they_are_replaced(storage: &Storage) {
    whole_while_replaced(storage, |storage| async move {
        page(&storage, &all(), None, 10).await.orders
    })
    .await;
}

/// The same of many that are looked up.
pub async fn many_orders_are_whole_while_they_are_replaced(storage: &Storage) {
    whole_while_replaced(storage, |storage| async move {
        find_many(&storage, &REPLACED, ALL_BYTES).await.orders
    })
    .await;
}

/// Orders that were there before the first page stand in the pages once, whatever is stored before, between and after them; and
/// so they do when they are replaced, as long as their dates stay.
pub async fn paging_skips_and_repeats_nothing_while_others_are_stored(storage: &Storage) {
    const ORDERS: i64 = 400;
    let there: Vec<_> = (0..ORDERS)
        .map(|number| created(&format!("there-{number}"), number / 5 * 1_000, [""; 3]))
        .collect();
    store(storage, there.clone()).await;
    let storing = async {
        for round in 1..40_i64 {
            let added = (0..10).map(|it| {
                created(
                    &format!("added-{round}-{it}"),
                    (round * 37 + it * 211) * 97 % 80_000,
                    [""; 3],
                )
            });
            let replaced = (0..10).map(|it| {
                let mut version = there[((round * 53 + it * 41) % ORDERS) as usize].clone();
                version.revision.published_at += round;
                version
            });
            store(storage, added.chain(replaced).collect()).await;
        }
    };
    let paging = async { pages(storage, &all(), 7).await.concat() };
    let both = async { tokio::join!(storing, paging) };
    let ((), read) = tokio::time::timeout(PATIENCE, both).await.expect("in time");

    let names: Vec<_> = read.iter().map(|document| document.uid.as_str()).collect();
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "an order is repeated"
    );
    let there_before: Vec<_> = names
        .into_iter()
        .filter(|name| name.starts_with("there"))
        .collect();
    let expected = newest_first(&there, |_| true);
    assert_eq!(
        there_before,
        expected.iter().map(|it| it.uid.as_str()).collect::<Vec<_>>()
    );
}

/// In the order asked for, and without those that do not exist.
pub async fn many_orders_are_found_at_once_in_the_order_asked_for(storage: &Storage) {
    let orders: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .zip(0..)
        .map(|(uid, it)| version(uid, it))
        .collect();
    store(storage, orders.clone()).await;
    for (asked, expected) in [
        (vec![], vec![]),
        (vec!["unknown"], vec![]),
        (vec!["c"], vec![2]),
        (vec!["d", "unknown", "a", "A", "c"], vec![3, 0, 2]),
    ] {
        let found = find_many(storage, &asked, ALL_BYTES).await;
        let expected: Vec<_> = expected
            .into_iter()
            .map(|it: usize| document(&orders[it]))
            .collect();
        assert_eq!(
            (found.orders, found.answered),
            (expected, asked.len()),
            "{asked:?}"
        );
    }
    let names: Vec<_> = (0..500).map(|it| format!("of-500-{it}")).collect();
    let orders: Vec<_> = names.iter().step_by(2).map(|name| version(name, 1)).collect();
    store(storage, orders.clone()).await;
    let found = find_many(
        storage,
        &names.iter().map(String::as_str).collect::<Vec<_>>(),
        ALL_BYTES,
    )
    .await;
    assert_eq!(found.orders, orders.iter().map(document).collect::<Vec<_>>());
}

/// What there is no room for is told from what does not exist.
pub async fn many_orders_end_at_their_bytes_and_say_where(storage: &Storage) {
    // Versions with the same number of items, so that all have the same size.
    let orders: Vec<_> = ["a", "b", "c", "d"].map(|uid| version(uid, 0)).to_vec();
    store(storage, orders.clone()).await;
    let documents: Vec<_> = orders.iter().map(document).collect();
    let size = documents[0].json.len();
    let asked = ["no-1", "a", "no-2", "b", "no-3", "c", "d"];
    for (max_bytes, fit, answered) in [
        (0, 1, 3),
        (size, 1, 3),
        (2 * size, 2, 5),
        (3 * size + 1, 3, 6),
        (4 * size, 4, 7),
    ] {
        let found = find_many(storage, &asked, max_bytes).await;
        assert_eq!(found.orders, documents[..fit], "{max_bytes} bytes");
        assert_eq!(found.answered, answered, "{max_bytes} bytes");
    }
    let absent = find_many(storage, &["no-1", "no-2"], 0).await;
    assert_eq!((absent.orders, absent.answered), (Vec::new(), 2));
}

const REPLACED: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Reads the same orders again and again, while all of them are replaced at once each time.
async fn whole_while_replaced<R>(storage: &Storage, read: impl Fn(Storage) -> R + Send + Sync)
where
    R: Future<Output = Vec<OrderDocument>> + Send,
{
    let of = |number| REPLACED.map(|name| version(name, number)).to_vec();
    let documents: BTreeMap<_, _> = (0..40)
        .flat_map(of)
        .map(|version| {
            (
                (version.order.order_uid.clone(), version.revision),
                document(&version),
            )
        })
        .collect();
    store(storage, of(0)).await;
    let writing = async {
        for number in 1..40 {
            store(storage, of(number)).await;
        }
    };
    let reading = async {
        let last = version("a", 39).revision;
        let mut seen = version("a", 0).revision;
        while seen < last {
            let found = read(storage.clone()).await;
            assert_eq!(found.len(), REPLACED.len());
            for document in &found {
                let key = (document.uid.clone(), document.revision);
                assert_eq!(documents.get(&key), Some(document));
                // They were replaced together, so one snapshot has them all in one version.
                assert_eq!(document.revision, found[0].revision, "not of one snapshot");
            }
            assert!(found[0].revision >= seen, "a later read found an older version");
            seen = found[0].revision;
        }
    };
    let both = async { tokio::join!(writing, reading) };
    tokio::time::timeout(PATIENCE, both).await.expect("in time");
    assert_eq!(find(storage, "a").await, Some(document(&version("a", 39))));
}

fn text(text: &str) -> SearchText {
    SearchText::new(text).expect("a rule gives a good text")
}

fn all() -> OrderFilter {
    OrderFilter::default()
}

/// Each choice of one for each of the three.
fn combinations<T: Copy>(of: &[T]) -> Vec<[T; 3]> {
    let mut all = Vec::new();
    for &first in of {
        for &second in of {
            all.extend(of.iter().map(|&third| [first, second, third]));
        }
    }
    all
}

/// An order created at `micros`, with these texts as track number, customer and transaction; an empty one stays the sample's.
fn created(uid: &str, micros: i64, [track_number, customer_id, transaction]: [&str; 3]) -> RevisedOrder {
    let mut parts = sample_order(uid).into_parts();
    parts.date_created = UtcDateTime::from_unix_micros(micros).expect("in the years 0001 to 9999");
    for (field, text) in [
        (&mut parts.track_number, track_number),
        (&mut parts.customer_id, customer_id),
        (&mut parts.payment.transaction, transaction),
    ] {
        if !text.is_empty() {
            *field = text.into();
        }
    }
    RevisedOrder {
        revision: revision(1, 1),
        order: Order::new(parts).expect("an order of another day is one"),
    }
}

/// The documents that are to be read, as a list has them.
fn newest_first(orders: &[RevisedOrder], fits: impl Fn(&Order) -> bool) -> Vec<OrderDocument> {
    let mut fitting: Vec<_> = orders.iter().filter(|it| fits(&it.order)).collect();
    fitting.sort_by(|a, b| {
        let key = |it: &RevisedOrder| (it.order.date_created, it.order.order_uid.clone());
        key(b).cmp(&key(a))
    });
    fitting.into_iter().map(document).collect()
}

async fn page(storage: &Storage, filter: &OrderFilter, after: Option<OrderPlace>, limit: usize) -> OrderPage {
    let query = OrderQuery {
        filter: filter.clone(),
        after,
        limit,
        max_bytes: ALL_BYTES,
    };
    storage.orders.page(&query).await.expect("the repository answers")
}

/// All pages, from the first to the last.
async fn pages(storage: &Storage, filter: &OrderFilter, limit: usize) -> Vec<Vec<OrderDocument>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = page(storage, filter, after, limit).await;
        all.push(page.orders);
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

async fn find_many(storage: &Storage, names: &[&str], max_bytes: usize) -> FoundOrders {
    let uids: Vec<_> = names.iter().map(|name| uid(name)).collect();
    storage
        .orders
        .find_many(&uids, max_bytes)
        .await
        .expect("the repository answers")
}
