//! What storing does to the tables, and how it takes their objections.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use order_domain::testing::orders::sample_order_version;
use order_domain::{
    Amount, Batch, CommitLog, DeadLetter, DeadLetters, Order, OrderRepository, OrderUid, RawMessage,
    RepositoryError, RevisedOrder, Revision, StoreOutcome,
};
use order_postgres::{PostgresSettings, PostgresStore};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::database::Database;

/// A version of an order; a later one is newer.
pub(crate) fn version(uid: &str, version: u32) -> RevisedOrder {
    let revision = revision(u64::from(version));
    RevisedOrder {
        revision,
        order: sample_order_version(uid, version),
    }
}

pub(crate) fn batch(versions: impl IntoIterator<Item = RevisedOrder>) -> Batch {
    Batch::new(versions.into_iter().collect(), Vec::new())
}

fn revision(sequence: u64) -> Revision {
    Revision {
        published_at: 1_700_000_000_000_000,
        sequence,
    }
}

pub(crate) fn letter(sequence: u64) -> DeadLetter {
    let message = RawMessage {
        subject: "orders".to_owned(),
        headers: Vec::new(),
        payload: Bytes::from_static(b"{"),
    };
    DeadLetter {
        revision: revision(sequence),
        message,
        reason: "cut off".to_owned(),
        order_uid: None,
    }
}

/// Whether what is new is copied, or left to statements.
const EITHER_WAY: [usize; 2] = [1, usize::MAX];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_batches_with_shuffled_keys_never_deadlock() {
    for copy_from in EITHER_WAY {
        overlapping_batches(copy_from).await;
    }
}

async fn overlapping_batches(copy_from: usize) {
    let mut database = Database::new().await;
    database.settings.copy_from = copy_from;
    let writers: Vec<_> = (0..4_u32)
        .map(|writer| {
            // As four replicas do: each with connections of its own.
            let orders = database.store().orders();
            tokio::spawn(async move {
                for round in 0..12 {
                    let mut versions: Vec<_> = (0..60)
                        .map(|order| version(&format!("order-{order}"), round * 4 + writer))
                        .collect();
                    let mut letters: Vec<_> = (0..60)
                        .map(|sequence| letter(sequence + u64::from(round) * 40))
                        .collect();
                    let by = (writer * 17 + round * 5) as usize % 60;
                    versions.rotate_left(by);
                    letters.rotate_right(by);
                    orders
                        .store(&Batch::new(versions, letters))
                        .await
                        .expect("no writer is sacrificed");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer fails");
    }
}

#[tokio::test]
async fn storing_again_writes_no_row() {
    let database = Database::new().await;
    let orders = database.store().orders();
    let again = batch([version("a", 2), version("b", 1)]);
    orders.store(&again).await.expect("stored");
    // Where each row lies and which transaction wrote it.
    let rows = "SELECT string_agg(ctid || ' ' || xmin, ',' ORDER BY ctid) FROM ";
    let mut before = Vec::new();
    for table in ["orders", "delivery", "payment", "items", "commit_log"] {
        before.push((table, database.sql(&format!("{rows}{table}")).await));
    }
    orders.store(&again).await.expect("stored");
    for (table, rows_before) in before {
        assert_eq!(
            database.sql(&format!("{rows}{table}")).await,
            rows_before,
            "{table}"
        );
    }
}

#[tokio::test]
async fn items_that_another_batch_added_while_this_one_waited_are_removed_too() {
    let database = Database::new().await;
    let orders = database.store().orders();
    orders.store(&batch([version("a", 3)])).await.expect("stored");

    // Another replica holds the order, with three items where there was one, and has not committed yet.
    let other = database.session().await;
    let change = "BEGIN; UPDATE orders SET sequence = 5;
        INSERT INTO items SELECT order_uid, position + more, chrt_id, track_number, price, rid, name, sale, size, total_price,
            nm_id, brand, status FROM items, generate_series(1, 2) AS more";
    other.batch_execute(change).await.expect("changed");
    let newer = version("a", 6);
    let waiting = tokio::spawn({
        let (orders, newer) = (Arc::clone(&orders), newer.clone());
        async move { orders.store(&batch([newer])).await }
    });
    let blocked = blocked_by(&other).await;
    wait_until(async || database.sql(&blocked).await != "0").await;
    other.batch_execute("COMMIT").await.expect("committed");

    let report = waiting.await.expect("no panic").expect("stored");
    assert_eq!(report.outcomes, [StoreOutcome::Stored]);
    assert_eq!(
        orders.find(&newer.order.order_uid).await.expect("read"),
        Some(newer.order.document(newer.revision))
    );
}

#[tokio::test]
async fn an_order_that_another_replica_stores_while_it_is_copied_is_not_taken_for_new() {
    for (others_fate, expected) in [
        ("COMMIT", StoreOutcome::Superseded { by: revision(9) }),
        ("ROLLBACK", StoreOutcome::Stored),
    ] {
        let mut database = Database::new().await;
        database.settings.copy_from = 1;
        let orders = database.store().orders();
        orders.store(&batch([version("a", 1)])).await.expect("stored");

        // Another replica has stored a newer version of an order that nobody had, and has not committed yet.
        let other = database.session().await;
        other.batch_execute("BEGIN").await.expect("begun");
        for table in ["orders", "delivery", "payment", "items"] {
            let row =
                format!("(jsonb_populate_record({table}, '{{\"order_uid\": \"b\", \"sequence\": 9}}')).*");
            let copied = format!("INSERT INTO {table} SELECT {row} FROM {table} WHERE order_uid = 'a'");
            other.batch_execute(&copied).await.expect("inserted");
        }
        let storing = tokio::spawn({
            let orders = Arc::clone(&orders);
            async move { orders.store(&batch([version("b", 5), version("c", 1)])).await }
        });
        wait_until(async || database.sql(&blocked_by(&other).await).await != "0").await;
        other.batch_execute(others_fate).await.expect("ended");

        let report = storing.await.expect("no panic").expect("stored");
        assert_eq!(report.outcomes, [expected, StoreOutcome::Stored]);
        let sequence = database
            .sql("SELECT sequence FROM orders WHERE order_uid = 'b'")
            .await;
        assert_eq!(sequence, if others_fate == "COMMIT" { "9" } else { "5" });
    }
}

#[tokio::test]
async fn after_many_new_orders_a_stored_one_is_not_taken_for_new() {
    let mut database = Database::new().await;
    database.settings.copy_from = 1;
    let orders = database.store().orders();
    for number in 0..20 {
        let report = orders
            .store(&batch([version(&format!("order-{number}"), 5)]))
            .await
            .expect("stored");
        assert_eq!(report.outcomes, [StoreOutcome::Stored]);
    }

    let newer = version("order-7", 6);
    let given = [version("order-3", 4), newer.clone(), version("order-new", 1)];
    let report = orders.store(&batch(given)).await.expect("stored");
    let superseded = StoreOutcome::Superseded { by: revision(5) };
    assert_eq!(
        report.outcomes,
        [superseded, StoreOutcome::Stored, StoreOutcome::Stored]
    );
    let found = orders.find(&newer.order.order_uid).await.expect("read");
    assert_eq!(found, Some(newer.order.document(newer.revision)));
}

#[tokio::test]
async fn parts_of_an_order_that_was_deleted_by_hand_are_replaced() {
    let mut database = Database::new().await;
    database.settings.copy_from = 1;
    let orders = database.store().orders();
    let old = version("a", 1);
    orders.store(&batch([old])).await.expect("stored");
    database.sql("DELETE FROM orders").await;

    let new = version("a", 2);
    let report = orders.store(&batch([new.clone()])).await.expect("stored");
    assert_eq!(report.outcomes, [StoreOutcome::Stored]);
    let found = orders.find(&new.order.order_uid).await.expect("read");
    assert_eq!(found, Some(new.order.document(new.revision)));
}

#[tokio::test]
async fn a_value_that_a_table_refuses_is_rejected_and_leaves_no_trace() {
    for copy_from in EITHER_WAY {
        a_value_that_a_table_refuses(copy_from).await;
    }
}

async fn a_value_that_a_table_refuses(copy_from: usize) {
    let mut database = Database::new().await;
    database.settings.copy_from = copy_from;
    let before = database.store().commit_log().head().await.expect("a head");
    let poison = poison();
    let neighbours = || [version("a", 1), version("b", 1)];
    for (objection, way_back) in [
        // SQLSTATE 22003, 23514, and 54000: an index entry has room for a third of a page.
        (
            "ALTER TABLE payment ALTER amount TYPE numeric(5, 1)",
            "ALTER TABLE payment ALTER amount TYPE numeric(22, 4)",
        ),
        (
            "ALTER TABLE items ADD CONSTRAINT short CHECK (sale < 90)",
            "ALTER TABLE items DROP CONSTRAINT short",
        ),
        (
            "CREATE INDEX wide ON orders ((entry || shardkey))",
            "DROP INDEX wide",
        ),
    ] {
        database.sql(objection).await;
        let store = database.store();
        let orders = store.orders();
        let whole = Batch::new(
            [&neighbours()[..], slice::from_ref(&poison)].concat(),
            vec![letter(1)],
        );
        let refused = orders.store(&whole).await;
        assert!(
            matches!(refused, Err(RepositoryError::Rejected(_))),
            "{objection}: {refused:?}"
        );
        assert_eq!(
            database.sql("SELECT count(*) FROM orders").await,
            "0",
            "{objection}"
        );
        assert_eq!(
            store.dead_letters().find(revision(1)).await.expect("read"),
            None,
            "{objection}"
        );
        assert_eq!(
            store.commit_log().head().await.expect("a head"),
            before,
            "{objection}"
        );

        // The same connection stores the half without it.
        let Ok((good, alone)) = whole.bisect() else {
            panic!("three orders can be divided")
        };
        assert_eq!(
            orders.store(&good).await.expect("stored").outcomes,
            [StoreOutcome::Stored]
        );
        assert!(matches!(
            orders.store(&alone).await,
            Err(RepositoryError::Rejected(_))
        ));
        database.sql(way_back).await;
        database
            .sql("TRUNCATE orders, delivery, payment, items, dead_letters")
            .await;
        database.sql("DELETE FROM commit_log WHERE changes > 0").await;
    }
    let report = database
        .store()
        .orders()
        .store(&batch([poison]))
        .await
        .expect("stored");
    assert_eq!(report.outcomes, [StoreOutcome::Stored]);
}

/// An order by every rule of the wire, with values that a table may still refuse.
fn poison() -> RevisedOrder {
    let mut parts = version("poison", 0).order.into_parts();
    parts.payment.amount = Amount::new(12_345_678.into()).expect("an amount");
    parts.items[0].sale = 99;
    // Texts that cannot be compressed, from a generator of pseudo-random numbers.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + u8::try_from((state >> 16) % 90).expect("less than 90"))
    };
    parts.entry = (0..2_000).map(|_| noise()).collect();
    parts.shardkey = (0..2_000).map(|_| noise()).collect();
    RevisedOrder {
        revision: revision(1),
        order: Order::new(parts).expect("an order"),
    }
}

#[tokio::test]
async fn a_new_required_column_is_our_fault_and_not_the_orders() {
    let database = Database::new().await;
    let orders = database.store().orders();
    database
        .sql("ALTER TABLE delivery ADD COLUMN floor text NOT NULL")
        .await;
    let Err(RepositoryError::Other(source)) = orders.store(&batch([version("a", 0)])).await else {
        panic!("an order was blamed, or nothing at all");
    };
    let told = source.to_string();
    assert!(told.contains("23502") && told.contains("column floor"), "{told}");
    let sample = version("a", 0).order;
    assert!(
        !told.contains(sample.delivery.name.as_str()) && !told.contains(sample.delivery.phone.as_str()),
        "{told}"
    );

    database.sql("ALTER TABLE delivery DROP COLUMN floor").await;
    orders.store(&batch([version("a", 0)])).await.expect("stored");
}

#[tokio::test]
async fn a_migration_costs_a_prepared_statement_one_try() {
    let database = Database::new().await;
    let orders = database.store().orders();
    let stored = version("a", 0);
    let (uid, document) = (
        stored.order.order_uid.clone(),
        stored.order.document(stored.revision),
    );
    orders.store(&batch([stored])).await.expect("stored");
    assert_eq!(orders.find(&uid).await.expect("read").as_ref(), Some(&document));
    database
        .sql("ALTER TABLE payment ALTER amount TYPE numeric(30, 6)")
        .await;
    let first = orders.find(&uid).await;
    assert!(matches!(first, Err(RepositoryError::Unavailable(_))), "{first:?}");
    assert_eq!(orders.find(&uid).await.expect("read"), Some(document));
}

#[tokio::test]
async fn a_dead_letter_with_a_nul_in_every_text_is_stored() {
    let database = Database::new().await;
    let store = database.store();
    let mut nul = letter(1);
    nul.message.headers = vec![("na\0me".to_owned(), "val\0ue".to_owned())];
    nul.message.subject = "or\0ders".to_owned();
    nul.reason = "a \0 stands in it".to_owned();
    store
        .orders()
        .store(&Batch::new(Vec::new(), vec![nul.clone()]))
        .await
        .expect("stored");
    let found = store
        .dead_letters()
        .find(nul.revision)
        .await
        .expect("read")
        .expect("recorded")
        .letter;
    assert_eq!(found.message.headers, nul.message.headers);
    assert_eq!(
        (&*found.message.subject, &*found.reason),
        ("or\u{FFFD}ders", "a \u{FFFD} stands in it")
    );
}

#[tokio::test]
async fn a_bulk_read_holds_up_nobody_and_leaves_no_connection() {
    let mut database = Database::new().await;
    database.settings.read_connections = 1.try_into().expect("not zero");
    let (user, address, path) = (database.user(), database.address(), database.path());
    let name = format!("bulk-of-{}", database.settings.schema);
    let url = format!("postgres://{user}@{address}{path}?application_name={name}");
    database.settings.url = url.parse().expect("a URL");
    let store = database.store();
    let orders = store.orders();
    // More than is read ahead of who takes it.
    orders
        .store(&batch(
            (0..5_000).map(|order| version(&format!("order-{order}"), 0)),
        ))
        .await
        .expect("stored");
    let uid = OrderUid::new("order-1").expect("a uid");
    let find = async || orders.find(&uid).await.expect("read").expect("stored");
    find().await;
    store.commit_log().head().await.expect("read");
    let count = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
    let before = database.sql(&count).await;

    let mut reading = orders.newest(usize::MAX, 0);
    let first = futures::StreamExt::next(&mut reading).await.expect("a chunk");
    assert!(!first.expect("read").is_empty());
    assert_ne!(database.sql(&count).await, before);
    find().await;
    orders
        .store(&batch([version("order-1", 1)]))
        .await
        .expect("stored");
    store.commit_log().head().await.expect("read");
    // There are no more connections for another one, which says so instead of waiting for them.
    let another = futures::StreamExt::next(&mut orders.newest(1, 0)).await;
    assert!(matches!(another, Some(Err(RepositoryError::Unavailable(_)))));

    drop(reading);
    wait_until(async || database.sql(&count).await == before).await;
}

#[tokio::test]
async fn a_database_in_another_encoding_is_refused_by_name() {
    let database = Database::unmigrated();
    let name = format!("{}_ascii", database.settings.schema);
    database
        .sql(&format!(
            "CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        ))
        .await;
    let url = format!("postgres://{}@{}/{name}", database.user(), database.address());
    let settings = PostgresSettings::new(url.parse().expect("a URL"));
    let found = PostgresStore::connect(&settings)
        .expect("the settings serve")
        .orders();
    let refused = found.find(&OrderUid::new("a").expect("a uid")).await;
    database.sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
    let Err(RepositoryError::Other(source)) = refused else {
        panic!("it was not refused: {refused:?}")
    };
    assert!(source.to_string().contains("SQL_ASCII"), "{source}");
}

/// A query for how many wait for a lock that this session holds.
async fn blocked_by(session: &Client) -> String {
    let row = session.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = row.expect("a pid").get(0);
    format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND {pid} = ANY (pg_blocking_pids(pid))")
}

/// Asks until the answer is yes.
pub(crate) async fn wait_until(mut asked: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !asked().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), asking)
        .await
        .expect("it comes true");
}
