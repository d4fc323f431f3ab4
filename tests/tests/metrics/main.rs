//! What the metrics tell: a scrape of the real binary after real traffic.

mod exposition;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use exposition::Exposition;
use order_domain::testing::orders::{sample_order, sample_order_version};
use order_domain::{OrderBus, TakeLimits};
use order_nats::NatsOrderBus;
use order_tests::{Client, Process, Shop, eventually};
use reqwest::{Method, StatusCode};

const DURATION: &str = "http_server_request_duration_seconds";
const ORDER: &str = "/api/v1/orders/{uid}";

/// Scrapes until something holds.
async fn scrape_until(
    replica: &Client,
    expected: &str,
    mut holds: impl FnMut(&Exposition) -> bool,
) -> Exposition {
    let mut last = None;
    let held = eventually(async || holds(last.insert(Exposition::of(replica).await))).await;
    let last = last.expect("it was scraped");
    assert!(held, "{expected}: {last:#?}");
    last
}

/// How many requests for an order were answered so.
fn answered(scrape: &Exposition, method: &str, status: &str) -> f64 {
    let labels = [
        ("http_request_method", method),
        ("http_response_status_code", status),
        ("http_route", ORDER),
    ];
    scrape.value(DURATION, &labels)
}

/// How many looks into the cache found this.
fn lookups(scrape: &Exposition, result: &str) -> f64 {
    scrape.value("order_tracker_cache_lookups_total", &[("result", result)])
}

#[tokio::test]
async fn every_message_is_counted_by_what_became_of_it() {
    let mut shop = Shop::open().await;
    // On a busy machine too, nothing is delivered again but what this test has delivered again.
    shop.set("NATS__ACK_WAIT", "60s");
    shop.forget_what_was_consumed().await;
    let first_version = sample_order_version("a", 0);
    shop.publish_order(&first_version).await;
    // Someone takes it and hands it back, so that the replica gets what was delivered before.
    let bus = NatsOrderBus::connect(shop.settings().nats)
        .await
        .expect("the settings are of use");
    let mut subscription = bus.subscribe().await.expect("the broker is there");
    let taken = subscription.take(TakeLimits::default()).await.expect("a message");
    assert_eq!(taken.len(), 1);
    let tokens: Vec<_> = taken.into_iter().map(|incoming| incoming.token).collect();
    subscription.release(&tokens, Duration::from_secs(5)).await;

    let mut process = Process::start(shop.environment());
    let replica = process.listening().await;
    replica.serves("a", first_version.json()).await;
    shop.publish_order(&sample_order_version("a", 1)).await;
    replica.serves("a", sample_order_version("a", 1).json()).await;
    let with_unknown = String::from_utf8(sample_order("b").json().to_vec()).expect("JSON");
    shop.publish(with_unknown.replacen('{', r#"{"colour":"red","size":[1,2],"#, 1))
        .await;
    shop.publish("no order").await;
    replica.get_when_there("b").await;
    shop.count_becomes(1, "SELECT count(*) FROM dead_letters").await;

    let consumed = |scrape: &Exposition| {
        let (subject, group) = (&shop.environment()["ORDERS__NATS__SUBJECT"], shop.stream());
        let labels = [
            ("messaging_system", "nats"),
            ("messaging_operation_name", "receive"),
            ("messaging_destination_name", subject),
            ("messaging_consumer_group_name", group),
        ];
        scrape.value("messaging_client_consumed_messages_total", &labels)
    };
    let counted = |scrape: &Exposition, name: &str| scrape.value(&format!("order_tracker_{name}_total"), &[]);
    let batches = |scrape: &Exposition| scrape.value("order_tracker_batch_messages", &[]);
    let processed = |scrape: &Exposition| {
        let labels = [("messaging_operation_name", "process")];
        scrape.value("messaging_process_duration_seconds", &labels)
    };
    let scrape = scrape_until(&replica, "four messages became something", |scrape| {
        counted(scrape, "orders_stored") + counted(scrape, "dead_letters") == 4.0
            && processed(scrape) == batches(scrape)
    })
    .await;
    assert_eq!(consumed(&scrape), 4.0);
    for (name, expected) in [
        ("orders_stored", 3.0),
        ("orders_superseded", 0.0),
        ("dead_letters", 1.0),
        ("messages_redelivered", 1.0),
        ("unknown_fields", 2.0),
        ("clock_stepped_back", 0.0),
        ("commit_failures", 0.0),
    ] {
        assert_eq!(counted(&scrape, name), expected, "{name}");
    }
    assert_eq!(scrape.sum("order_tracker_batch_messages"), 4.0);
    assert_eq!(scrape.value("order_tracker_store_delay_seconds", &[]), 3.0);
    let commits = scrape.value("order_tracker_commit_duration_seconds", &[]);
    assert_eq!(commits, batches(&scrape));

    // The broker delivers all of it anew, as to a consumer that has never been.
    shop.forget_what_was_consumed().await;
    let scrape = scrape_until(&replica, "three versions are there already", |scrape| {
        counted(scrape, "orders_superseded") == 3.0 && consumed(scrape) == 8.0
    })
    .await;
    assert_eq!(counted(&scrape, "orders_stored"), 3.0);
    let backlog = scrape_until(&replica, "nothing is left to read", |scrape| {
        let name = |what: &str| format!("order_tracker_backlog_{what}");
        scrape.families.contains_key(&name("undelivered_messages"))
            && [
                "undelivered_messages",
                "unacknowledged_messages",
                "oldest_age_seconds",
            ]
            .iter()
            .all(|what| scrape.value(&name(what), &[]) == 0.0)
    })
    .await;
    assert_eq!(
        backlog.value("order_tracker_backlog_kept_for_seconds", &[]),
        7.0 * 86_400.0
    );
    assert!(process.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn every_request_is_counted_by_route_and_status() {
    let mut shop = Shop::open().await;
    // So long that it holds on a busy machine too.
    shop.set("CACHE__LEASE", "30s");
    let mut process = Process::start(shop.environment());
    let replica = process.listening().await;
    replica.ready().await;
    shop.publish_order(&sample_order("a")).await;
    // The cache has what its own replica stored, without anyone having asked.
    scrape_until(&replica, "one order is cached", |scrape| {
        scrape.value("order_tracker_cache_orders", &[]) == 1.0
    })
    .await;
    for _ in 0..3 {
        assert_eq!(replica.get("a").await.status, StatusCode::OK);
    }
    let path = "/api/v1/orders/a";
    let any = [("if-none-match", "*")];
    assert_eq!(
        replica.request(Method::GET, path, &any).await.status,
        StatusCode::NOT_MODIFIED
    );
    replica.request(Method::HEAD, path, &[]).await;
    replica.request(Method::DELETE, path, &[]).await;
    let brew = Method::from_bytes(b"BREW").expect("a method");
    replica.request(brew, path, &[]).await;
    for uid in ["b", "b", "not%20a%20uid"] {
        replica.get(uid).await;
    }
    replica.request(Method::GET, "/nothing/here", &[]).await;

    let scrape = Exposition::of(&replica).await;
    for (method, status, expected) in [
        ("GET", "200", 3.0),
        ("GET", "304", 1.0),
        ("GET", "404", 2.0),
        ("GET", "400", 1.0),
        ("HEAD", "200", 1.0),
        ("DELETE", "405", 1.0),
        ("_OTHER", "405", 1.0),
    ] {
        assert_eq!(answered(&scrape, method, status), expected, "{method} {status}");
    }
    let without_route = [
        ("http_request_method", "GET"),
        ("http_response_status_code", "404"),
    ];
    assert_eq!(scrape.value(DURATION, &without_route), 1.0);
    let ready = [
        without_route[0],
        ("http_response_status_code", "200"),
        ("http_route", "/readyz"),
    ];
    assert!(scrape.value(DURATION, &ready) >= 1.0);
    // Only the scrape itself is under way.
    let active = |method| scrape.value("http_server_active_requests", &[("http_request_method", method)]);
    assert_eq!((active("GET"), active("HEAD"), active("_OTHER")), (1.0, 0.0, 0.0));

    assert_eq!(lookups(&scrape, "hit"), 5.0);
    // The second is remembered to be absent for a second, which may have passed.
    assert!(lookups(&scrape, "miss") >= 1.0);
    assert_eq!(lookups(&scrape, "miss") + lookups(&scrape, "absent"), 2.0);
    assert!(scrape.value("order_tracker_cache_bytes", &[]) > 400.0);
    let reads = [("db_client_connection_pool_name", "read")];
    let idle = [reads[0], ("db_client_connection_state", "idle")];
    assert!(scrape.value("db_client_connection_count", &idle) >= 1.0);
    let waits = scrape.value("db_client_connection_wait_time_seconds", &reads);
    assert!(waits >= 1.0, "{waits}");
    assert_eq!(scrape.value("db_client_connection_max", &reads), 8.0);
    assert!(process.terminate().await.success());
    shop.close().await;
}

#[tokio::test]
async fn a_lost_database_and_a_silent_broker_show_and_hold_up_no_scrape() {
    let mut shop = Shop::open().await;
    let mut database = shop.through_proxy("POSTGRES__URL").await;
    let mut broker = shop.through_proxy("NATS__URL").await;
    database.open().await;
    broker.open().await;
    let mut process = Process::start(shop.environment());
    let replica = process.listening().await;
    replica.ready().await;
    shop.publish_order(&sample_order("a")).await;
    replica.get_when_there("a").await;
    let gauge = |scrape: &Exposition, name: &str| scrape.value(&format!("order_tracker_{name}"), &[]);
    let all_is_well = |scrape: &Exposition| {
        ["ready", "database_up", "broker_up", "cache_proven"]
            .iter()
            .all(|name| gauge(scrape, name) == 1.0)
            && gauge(scrape, "ingestion_paused") == 0.0
            && scrape
                .families
                .contains_key("order_tracker_backlog_oldest_age_seconds")
    };
    scrape_until(&replica, "all is well", all_is_well).await;

    database.close();
    shop.publish_order(&sample_order("b")).await;
    let scrape = scrape_until(&replica, "the database is lost", |scrape| {
        gauge(scrape, "database_up") == 0.0
            && gauge(scrape, "ingestion_paused") == 1.0
            && gauge(scrape, "cache_proven") == 0.0
            // What cannot be stored is not acknowledged, and its age is the alarm.
            && gauge(scrape, "backlog_oldest_age_seconds") > 0.0
    })
    .await;
    assert_eq!((gauge(&scrape, "ready"), gauge(&scrape, "broker_up")), (1.0, 1.0));
    assert!(gauge(&scrape, "cache_lease_age_seconds") >= 2.0);
    assert!(gauge(&scrape, "commit_failures_total") >= 1.0);
    assert_eq!(gauge(&scrape, "cache_stale_answers_total"), 0.0);
    let stale = replica.get("a").await;
    assert!(
        stale.status == StatusCode::OK && !stale.header("age").is_empty(),
        "{stale:?}"
    );
    let scrape = Exposition::of(&replica).await;
    assert_eq!(gauge(&scrape, "cache_stale_answers_total"), 1.0);
    assert!(lookups(&scrape, "unproven") >= 1.0);

    broker.silence(true);
    let silent = scrape_until(&replica, "the broker is silent", |scrape| {
        gauge(scrape, "broker_up") == 0.0 && gauge(scrape, "backlog_sample_age_seconds") > 5.0
    })
    .await;
    let age = gauge(&silent, "backlog_oldest_age_seconds");
    assert!(
        age > gauge(&silent, "backlog_sample_age_seconds"),
        "it grows although nobody can be asked"
    );

    broker.silence(false);
    database.open().await;
    scrape_until(&replica, "all is well again", all_is_well).await;
    replica.serves("b", sample_order("b").json()).await;
    assert!(process.terminate().await.success());
    shop.close().await;
}

/// The rows of the tables in `docs/metrics.md`: name, and kind with the labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let document = std::fs::read_to_string(path).expect("the document is there");
    let words =
        |cell: &str| -> BTreeSet<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut rows = BTreeMap::new();
    for line in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, _unit, labels, meaning, _] = cells[..] else {
            panic!("not a row of five cells: {line}")
        };
        assert!(!meaning.is_empty(), "{line}");
        let row = (kind.to_owned(), words(labels));
        assert!(
            rows.insert(name.trim_matches('`').to_owned(), row).is_none(),
            "twice: {line}"
        );
    }
    rows
}

#[tokio::test]
async fn the_document_names_exactly_the_metrics_that_there_are() {
    let shop = Shop::open().await;
    let mut process = Process::start(shop.environment());
    let replica = process.listening().await;
    replica.ready().await;
    replica.get("a").await;
    let scrape = scrape_until(&replica, "the backlog is known", |scrape| {
        scrape
            .families
            .contains_key("order_tracker_backlog_kept_for_seconds")
    })
    .await;
    let there = scrape.families.iter().map(|(name, family)| {
        let labels = family.labels().into_iter().map(str::to_owned).collect();
        (name.clone(), (family.kind.clone(), labels))
    });
    assert_eq!(there.collect::<BTreeMap<_, _>>(), documented());

    let version = replica.manage("/version").await.json();
    let build = ["version", "profile", "commit"].map(|label| (label, version[label].as_str().expect("text")));
    assert_eq!(scrape.value("order_tracker_build_info", &build), 1.0, "{version}");
    assert!(scrape.value("process_resident_memory_bytes", &[]) > 1e6);
    assert!(scrape.value("process_cpu_seconds_total", &[]) > 0.0);
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_secs_f64();
    let began = scrape.value("process_start_time_seconds", &[]);
    assert!(began <= now + 2.0 && began > now - 3_600.0, "{began} at {now}");
    assert!(process.terminate().await.success());
    shop.close().await;
}
