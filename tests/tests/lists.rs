//! Lists and look-ups over HTTP: what a page holds, how pages follow each other, and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_domain::{Order, UtcDateTime};
use order_tests::{Answer, Client, Shop, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// An order with its texts and its date, in seconds after 1970.
fn order(uid: &str, second: i64, [track_number, customer_id, transaction]: [&str; 3]) -> Order {
    let mut parts = sample_order(uid).into_parts();
    parts.date_created = UtcDateTime::from_unix_micros(second * 1_000_000).expect("a moment");
    parts.track_number = track_number.into();
    parts.customer_id = customer_id.into();
    parts.payment.transaction = transaction.into();
    Order::new(parts).expect("an order")
}

async fn get(client: &Client, path: &str) -> Answer {
    client.request(Method::GET, path, &[]).await
}

fn uids(orders: &Value) -> Vec<&str> {
    let orders = orders.as_array().expect("an array").iter();
    orders
        .map(|order| order["order_uid"].as_str().expect("a uid"))
        .collect()
}

/// Where the `Link` header leads, or nowhere.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link");
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"");
    Some(target.expect("a link to the next page").to_owned())
}

/// The uids of all pages, from `path` on, as the links lead.
async fn walk(client: &Client, path: &str) -> Vec<String> {
    let (mut all, mut path) = (Vec::new(), path.to_owned());
    loop {
        // A machine that is busy with other tests may be too slow for a page's deadline.
        let mut answer = None;
        let is_answered = eventually(async || {
            let got = get(client, &path).await;
            let is_answer = got.status != StatusCode::SERVICE_UNAVAILABLE;
            answer = Some(got);
            is_answer
        });
        assert!(is_answered.await, "{path}: {answer:?}");
        let answer = answer.expect("it was asked");
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let page = answer.json();
        all.extend(uids(&page["orders"]).into_iter().map(str::to_owned));
        match next(&answer) {
            Some(next) => path = next,
            None => {
                assert_eq!(page.get("next_cursor"), None);
                return all;
            }
        }
    }
}

fn assert_bad_query(answer: &Answer, r#type: &str, named: &str) {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["type"], r#type, "{problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.starts_with(&format!("`{named}` ")), "{detail}");
}

#[tokio::test]
async fn orders_are_listed_by_every_text_and_paged_by_links() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let mut expected = Vec::new();
    for number in 0..12_i64 {
        let texts = [
            ["t 1&", "t-2"][number as usize % 2],
            ["ä", "c"][number as usize / 2 % 2],
            "p",
        ];
        // Four at a time are of one moment.
        let order = order(&format!("order-{number:02}"), number / 4, texts);
        shop.publish_order(&order).await;
        expected.push(order);
    }
    shop.count_becomes(12, "SELECT count(*) FROM orders").await;
    expected.reverse();

    let whole = get(&replica, "/api/v1/orders").await;
    let joined: Vec<&[u8]> = expected.iter().map(|order| &order.json()[..]).collect();
    let body = [b"{\"orders\":[", &joined.join(&b","[..])[..], b"]}"].concat();
    assert_eq!(whole.body, body, "the canonical bytes of each");
    assert_eq!(whole.header("content-type"), "application/json");
    assert_eq!(whole.header("cache-control"), "no-cache");
    assert_eq!(next(&whole), None);
    let head = replica.request(Method::HEAD, "/api/v1/orders?limit=5", &[]).await;
    let page = get(&replica, "/api/v1/orders?limit=5").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for name in ["content-length", "content-type", "link"] {
        assert_eq!(head.header(name), page.header(name), "{name}");
    }
    let cursor = page.json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let link = format!("/api/v1/orders?limit=5&cursor={cursor}");
    assert_eq!(next(&page).as_deref(), Some(&*link));

    let names = |fits: &dyn Fn(&Order) -> bool| -> Vec<String> {
        let fitting = expected.iter().filter(|order| fits(order));
        fitting.map(|order| order.order_uid.to_string()).collect()
    };
    let all = names(&|_| true);
    for limit in [1, 3, 4, 12, 200] {
        assert_eq!(
            walk(&replica, &format!("/api/v1/orders?limit={limit}")).await,
            all
        );
    }
    let walked = walk(&replica, "/api/v1/orders?track_number=t+1%26&limit=2").await;
    assert_eq!(walked, names(&|it| it.track_number == "t 1&"));
    let walked = walk(
        &replica,
        "/api/v1/orders?customer_id=%C3%A4&transaction=p&limit=2",
    )
    .await;
    assert_eq!(walked, names(&|it| it.customer_id == "ä"));
    let walked = walk(
        &replica,
        "/api/v1/orders?customer_id=c&track_number=t-2&transaction=p&limit=1",
    )
    .await;
    assert_eq!(
        walked,
        names(&|it| it.customer_id == "c" && it.track_number == "t-2")
    );
    let nobody = get(&replica, "/api/v1/orders?transaction=P").await;
    assert_eq!(nobody.body, "{\"orders\":[]}");
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_list_refuses_what_it_does_not_understand_by_name() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    for second in 0..3 {
        shop.publish_order(&order(&format!("order-{second}"), second, ["t", "c", "p"]))
            .await;
    }
    shop.count_becomes(3, "SELECT count(*) FROM orders").await;

    let long = format!("track_number={}", "x".repeat(257));
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=abc", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=1", "limit"),
        ("customer_id=a&customer_id=b", "customer_id"),
        ("track_number=", "track_number"),
        ("transaction", "transaction"),
        ("customer_id=a%00b", "customer_id"),
        ("customer_id=%FF", "customer_id"),
        (&*long, "track_number"),
        ("customer=a", "customer"),
        ("Limit=1", "Limit"),
        ("limit=1&%20=1", " "),
    ] {
        let answer = get(&replica, &format!("/api/v1/orders?{query}")).await;
        assert_bad_query(&answer, "/problems/bad-query", named);
    }

    let answer = replica.request(Method::DELETE, "/api/v1/orders", &[]).await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, POST")
    );

    let page = get(&replica, "/api/v1/orders?track_number=t&limit=1").await;
    let cursor = page.json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let second = get(
        &replica,
        &format!("/api/v1/orders?limit=200&cursor={cursor}&track_number=t"),
    )
    .await;
    assert_eq!(
        uids(&second.json()["orders"]),
        ["order-1", "order-0"],
        "the limit may change"
    );
    for query in [
        "cursor=".to_owned(),
        "cursor=abc".to_owned(),
        format!("cursor={cursor}"),
        format!("track_number=T&cursor={cursor}"),
        format!("track_number=t&customer_id=c&cursor={cursor}"),
        format!("track_number=t&cursor={cursor}A"),
        format!("track_number=t&cursor={}", &cursor[..cursor.len() - 8]),
        format!("track_number=t&cursor=B{}", &cursor[1..]),
    ] {
        let answer = get(&replica, &format!("/api/v1/orders?{query}")).await;
        assert_bad_query(&answer, "/problems/bad-cursor", "cursor");
    }
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn a_page_of_large_orders_ends_at_four_mebibytes() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let mut parts = sample_order("large").into_parts();
    let mut item = parts.items[0].clone();
    item.name = "x".repeat(1_700).into();
    parts.items = vec![item; 256];
    for number in 0..20 {
        let mut parts = parts.clone();
        parts.order_uid = format!("large-{number:02}").parse().expect("a uid");
        shop.publish_order(&Order::new(parts).expect("an order")).await;
    }
    shop.count_becomes(20, "SELECT count(*) FROM orders").await;
    let page = get(&replica, "/api/v1/orders?limit=200").await;
    assert_eq!(uids(&page.json()["orders"]).len(), 8, "eight of half a mebibyte");
    assert!(page.body.len() < 4 * 1024 * 1024 + 1_024 && next(&page).is_some());
    assert_eq!(walk(&replica, "/api/v1/orders?limit=200").await.len(), 20);

    let mut asked: Vec<String> = (0..20).map(|number| format!("large-{number:02}")).collect();
    let mut found = Vec::new();
    while !asked.is_empty() {
        let answer = replica
            .post("/api/v1/lookup", &[], json!({ "order_uids": asked }).to_string())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert!(answer.body.len() < 4 * 1024 * 1024 + 1_024);
        let answer = answer.json();
        found.extend(uids(&answer["orders"]).into_iter().map(str::to_owned));
        let remaining = answer.get("remaining").and_then(Value::as_array);
        let remaining = remaining.into_iter().flatten();
        asked = remaining
            .map(|uid| uid.as_str().expect("a uid").to_owned())
            .collect();
    }
    assert_eq!(found.len(), 20);
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 20, "each once");
    replica.stop().await;
    shop.close().await;
}

#[tokio::test]
async fn many_orders_are_looked_up_at_once() {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    let orders: Vec<Order> = (0..20)
        .map(|number| sample_order(&format!("order-{number}")))
        .collect();
    for order in &orders {
        shop.publish_order(order).await;
    }
    shop.count_becomes(20, "SELECT count(*) FROM orders").await;
    for _ in 0..2 {
        let asked = json!({ "order_uids": ["order-7", "no-1", "order-3", "order-7", "no-2"] });
        let answer = replica.post("/api/v1/lookup", &[], asked.to_string()).await;
        let expected = [
            b"{\"orders\":[",
            &orders[7].json()[..],
            b",",
            &orders[3].json()[..],
            b"],\"missing\":[\"no-1\",\"no-2\"]}",
        ];
        assert_eq!(
            (answer.status, answer.body),
            (StatusCode::OK, expected.concat().into())
        );
        assert!(!answer.headers.contains_key("age"));
    }
    let newer = sample_order_version("order-7", 1);
    shop.publish_order(&newer).await;
    replica.serves("order-7", newer.json()).await;
    let asked = json!({ "order_uids": ["order-7"] }).to_string();
    let answer = replica
        .post("/api/v1/lookup", &[("cache-control", "no-cache")], asked)
        .await;
    assert_eq!(answer.json()["orders"][0]["payment"]["amount"], 1_818);

    let many: Vec<String> = (0..501).map(|number| format!("order-{number}")).collect();
    let answer = replica
        .post(
            "/api/v1/lookup",
            &[],
            json!({ "order_uids": many[..500] }).to_string(),
        )
        .await;
    assert_eq!(uids(&answer.json()["orders"]).len(), 20);
    assert_eq!(answer.json()["missing"].as_array().map(Vec::len), Some(480));

    for (bad, pointer) in [
        (json!({ "order_uids": [] }), "/order_uids"),
        (json!({ "order_uids": many }), "/order_uids"),
        (json!({ "order_uids": ["a", "b c", "d", ""] }), "/order_uids/1"),
    ] {
        let answer = replica.post("/api/v1/lookup", &[], bad.to_string()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["type"], "/problems/bad-json");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer);
    }
    for bad in [
        "",
        "[]",
        "{}",
        "{\"order_uids\":\"a\"}",
        "{\"order_uids\":[\"a\"],\"limit\":1}",
    ] {
        let answer = replica.post("/api/v1/lookup", &[], bad).await;
        assert_eq!(
            (answer.status, &answer.json()["type"]),
            (StatusCode::BAD_REQUEST, &json!("/problems/bad-json"))
        );
    }
    let answer = replica
        .post("/api/v1/lookup", &[("content-type", "text/plain")], "x")
        .await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = get(&replica, "/api/v1/lookup").await;
    assert_eq!(
        (answer.status, answer.header("allow")),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
    replica.stop().await;
    shop.close().await;
}

/// What a caller sees who pages through a shop while it goes on.
#[tokio::test]
async fn paging_skips_and_repeats_nothing_while_orders_are_stored() {
    page_through(3_000, 300).await;
}

/// The same with as many as a shop has.
#[tokio::test]
#[ignore = "takes minutes"]
async fn paging_through_100_000_orders_while_10_000_are_stored() {
    page_through(100_000, 10_000).await;
}

/// Pages through `count` orders while `changes` more are published: half of them new orders, of dates before, between and after
/// the others; a quarter new versions of orders, of the same date; a quarter new versions of another date.
///
/// Each order whose date stays is seen once. One whose date changes while the pages are read may be seen at either date, at
/// both, or, where it moves from a page to come to one that was read, at none: that holds for any list, and is not counted.
#[expect(clippy::print_stdout, reason = "the counts are what the long run is for")]
async fn page_through(count: usize, changes: usize) {
    let shop = Shop::open().await;
    let replica = shop.replica().await;
    // Ten at a time are of one moment.
    let date = |number: usize| (number / 10 * 10) as i64;
    let texts = ["t", "c", "p"];
    let publisher = &shop;
    let publish = |order: Order| async move {
        publisher.publish_order(&order).await;
    };
    let there = (0..count).map(|number| order(&format!("there-{number}"), date(number), texts));
    stream::iter(there)
        .map(publish)
        .buffer_unordered(100)
        .collect::<()>()
        .await;
    shop.count_becomes(count as i64, "SELECT count(*) FROM orders")
        .await;

    let mut moved = BTreeSet::new();
    let changes: Vec<Order> = (0..changes)
        .map(|change| {
            let of = change * 7_919 % count;
            match change % 4 {
                0 | 1 => order(&format!("added-{change}"), date(of), texts),
                2 => order(&format!("there-{of}"), date(of), texts),
                _ => {
                    moved.insert(format!("there-{of}"));
                    order(&format!("there-{of}"), date(count - of), texts)
                }
            }
        })
        .collect();
    let before = shop.count("SELECT sum(changes)::bigint FROM commit_log").await;
    let changing = async {
        stream::iter(changes.iter().cloned())
            .map(publish)
            .buffer_unordered(20)
            .collect::<()>()
            .await;
    };
    let paging = async {
        [
            walk(&replica, "/api/v1/orders?limit=200").await,
            walk(&replica, "/api/v1/orders?customer_id=c&limit=200").await,
        ]
    };
    let ((), walks) = tokio::join!(changing, paging);
    let stored_meanwhile = shop.count("SELECT sum(changes)::bigint FROM commit_log").await - before;
    assert!(
        stored_meanwhile > 0,
        "nothing was stored while the pages were read"
    );

    for seen in &walks {
        let mut times = BTreeMap::<&str, usize>::new();
        for uid in seen {
            *times.entry(uid).or_default() += 1;
        }
        let skipped: Vec<String> = (0..count)
            .map(|number| format!("there-{number}"))
            .filter(|uid| !moved.contains(uid) && !times.contains_key(uid.as_str()))
            .collect();
        let repeated: Vec<&&str> = times
            .iter()
            .filter(|(uid, times)| **times > 1 && !moved.contains(**uid))
            .map(|(uid, _)| uid)
            .collect();
        assert_eq!((skipped, repeated), (Vec::new(), Vec::new()));
        let added = times.keys().filter(|uid| uid.starts_with("added")).count();
        println!(
            "{} orders in pages of 200, {added} of them new, {} of dates that changed; {stored_meanwhile} versions were stored in all",
            seen.len(),
            moved.len()
        );
    }
    replica.stop().await;
    shop.close().await;
}
