//! Servers that are gone or frozen, and commits whose answer was lost.

use std::time::Duration;

use order_domain::{
    Batch, CommitLog, CommitLogError, DeadLetterError, DeadLetters, LogPage, OrderRepository, OrderUid,
    RepositoryError, Revision, StoreOutcome,
};
use order_postgres::{PostgresSettings, PostgresStore};
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::proxy::{Proxy, Wire};
use crate::storing::{batch, letter, version, wait_until};

/// A database behind a wire, with time-outs short enough for a test.
async fn behind_a_wire() -> (Database, Proxy, PostgresStore) {
    let database = Database::new().await;
    let proxy = Proxy::to(database.address()).await;
    let settings = PostgresSettings {
        connect_timeout: Duration::from_millis(500),
        create_timeout: Duration::from_millis(500),
        wait_timeout: Duration::from_millis(500),
        recycle_timeout: Duration::from_millis(500),
        batch_deadline: Duration::from_secs(3),
        read_deadline: Duration::from_secs(1),
        log_deadline: Duration::from_secs(1),
        bulk_deadline: Duration::from_secs(1),
        ..database.settings_through(proxy.port)
    };
    let store = PostgresStore::connect(&settings).expect("the settings serve");
    (database, proxy, store)
}

fn uid() -> OrderUid {
    OrderUid::new("a").expect("a uid")
}

async fn assert_unavailable(store: &PostgresStore) {
    let orders = store.orders();
    let stored = orders.store(&batch([version("a", 7)])).await;
    assert!(
        matches!(stored, Err(RepositoryError::Unavailable(_))),
        "{stored:?}"
    );
    let found = orders.find(&uid()).await;
    assert!(matches!(found, Err(RepositoryError::Unavailable(_))), "{found:?}");
    let newest = futures::StreamExt::next(&mut orders.newest(1, 0)).await;
    assert!(
        matches!(newest, Some(Err(RepositoryError::Unavailable(_)))),
        "{newest:?}"
    );
    let head = store.commit_log().head().await;
    assert!(matches!(head, Err(CommitLogError::Unavailable(_))), "{head:?}");
    let letter = store
        .dead_letters()
        .find(Revision {
            published_at: 0,
            sequence: 0,
        })
        .await;
    assert!(
        matches!(letter, Err(DeadLetterError::Unavailable(_))),
        "{letter:?}"
    );
}

async fn assert_all_work(store: &PostgresStore, number: u32) {
    let orders = store.orders();
    let given = version("a", number);
    wait_until(async || orders.store(&batch([given.clone()])).await.is_ok()).await;
    wait_until(async || orders.find(&uid()).await.is_ok()).await;
    assert_eq!(
        orders.find(&uid()).await.expect("read"),
        Some(given.order.document(given.revision))
    );
    wait_until(async || store.commit_log().head().await.is_ok()).await;
}

#[tokio::test]
async fn a_store_can_be_made_before_its_server_is_there() {
    let (_database, proxy, store) = behind_a_wire().await;
    proxy.set(Wire::Cut);
    assert_unavailable(&store).await;
    proxy.set(Wire::Whole);
    assert_all_work(&store, 8).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_unavailable_until_it_is_back() {
    let (_database, proxy, store) = behind_a_wire().await;
    assert_all_work(&store, 1).await;
    proxy.set(Wire::Cut);
    assert_unavailable(&store).await;
    proxy.set(Wire::Whole);
    assert_all_work(&store, 8).await;
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_until_it_thaws() {
    let (_database, proxy, store) = behind_a_wire().await;
    assert_all_work(&store, 1).await;
    proxy.set(Wire::Frozen);
    assert_unavailable(&store).await;
    proxy.set(Wire::Whole);
    // What was sent before may have been stored meanwhile; a newer version is stored in any case.
    assert_all_work(&store, 8).await;
}

#[tokio::test]
async fn a_server_too_far_away_to_open_a_connection_in_time_is_reached_all_the_same() {
    let (database, proxy, _) = behind_a_wire().await;
    // Four answers until a connection is open, and two until a look is done.
    proxy.set(Wire::Late(Duration::from_millis(150)));
    let settings = PostgresSettings {
        log_deadline: Duration::from_millis(500),
        ..database.settings_through(proxy.port)
    };
    let log = PostgresStore::connect(&settings)
        .expect("the settings serve")
        .commit_log();
    let first = log.head().await;
    assert!(matches!(first, Err(CommitLogError::Unavailable(_))), "{first:?}");
    wait_until(async || log.head().await.is_ok()).await;
}

#[tokio::test]
async fn a_frozen_first_host_does_not_hide_the_second() {
    let (database, proxy, _) = behind_a_wire().await;
    proxy.set(Wire::Frozen);
    let url = format!(
        "postgres://{}@127.0.0.1:{},{}{}",
        database.user(),
        proxy.port,
        database.address(),
        database.path()
    );
    let settings = PostgresSettings {
        url: url.parse().expect("a URL"),
        connect_timeout: Duration::from_millis(400),
        // Too short for the first host's time-out and an answer of the second: the order of trying has to be remembered.
        read_deadline: Duration::from_millis(300),
        ..database.settings.clone()
    };
    let orders = PostgresStore::connect(&settings)
        .expect("the settings serve")
        .orders();
    wait_until(async || orders.find(&uid()).await.is_ok()).await;
}

#[tokio::test]
async fn a_commit_without_an_answer_can_be_stored_again() {
    let (database, proxy, store) = behind_a_wire().await;
    let orders = store.orders();
    // The connection is there and knows its statements, so that COMMIT is the first answer to be missed.
    orders
        .store(&batch([version("before", 0)]))
        .await
        .expect("stored");
    let start = store.commit_log().head().await.expect("a head");
    let given = version("a", 2);
    proxy.set(Wire::CutAfterCommit);
    let unknown = orders.store(&batch([given.clone()])).await;
    assert!(
        matches!(unknown, Err(RepositoryError::Unavailable(_))),
        "{unknown:?}"
    );
    wait_until(async || database.sql("SELECT count(*) FROM orders").await == "2").await;

    proxy.set(Wire::Whole);
    let again = orders.store(&batch([given.clone()])).await.expect("stored");
    assert_eq!(again.outcomes, [StoreOutcome::Superseded { by: given.revision }]);
    assert_eq!(again.logged, None);
    let Ok(LogPage::Entries { entries, .. }) = store.commit_log().read_after(start, 10).await else {
        panic!("the log leads on from its beginning");
    };
    assert_eq!(entries.len(), 1, "the effect is there once");
}

#[tokio::test]
async fn who_holds_the_log_for_long_delays_the_others_and_does_not_stop_them() {
    let mut database = Database::new().await;
    database.settings.lock_timeout = Duration::from_millis(200);
    let orders = database.store().orders();
    let holder = database.session().await;
    let sql = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{}', 0))",
        database.settings.schema
    );
    holder.batch_execute(&sql).await.expect("locked");
    let Err(RepositoryError::Unavailable(source)) = orders.store(&batch([version("a", 0)])).await else {
        panic!("it was stored although the log was held");
    };
    // It was the server that gave up, well before the deadline of the batch.
    assert!(source.to_string().contains("55P03"), "{source}");
    assert_eq!(
        orders.find(&uid()).await.expect("read"),
        None,
        "what was refused was not stored"
    );
    // Dead letters change no order, and need no place in the log.
    let letters = Batch::new(Vec::new(), vec![letter(1)]);
    orders.store(&letters).await.expect("stored");
    holder.batch_execute("COMMIT").await.expect("released");
    orders.store(&batch([version("a", 0)])).await.expect("stored");
}

#[tokio::test]
async fn who_comes_after_a_time_out_does_not_wait_for_what_timed_out() {
    let mut database = Database::new().await;
    database.settings.read_connections = 1.try_into().expect("not zero");
    database.settings.read_deadline = Duration::from_millis(500);
    database.settings.lock_timeout = Duration::from_secs(60);
    let store = database.store();
    wait_until(async || store.orders().find(&uid()).await.is_ok()).await;
    let holder = database.session().await;
    holder
        .batch_execute("BEGIN; LOCK TABLE orders")
        .await
        .expect("locked");
    let late = store.orders().find(&uid()).await;
    assert!(matches!(late, Err(RepositoryError::Unavailable(_))), "{late:?}");
    // On the same pool, which has room for one connection, of which the server still waits for the table.
    let letter = store
        .dead_letters()
        .find(Revision {
            published_at: 0,
            sequence: 0,
        })
        .await;
    holder.batch_execute("COMMIT").await.expect("released");
    assert!(matches!(letter, Ok(None)), "{letter:?}");
}

/// Freezes a replica that has stored a version of order `a` and written its entry, but not committed.
async fn freeze_before_commit(database: &Database, proxy: &Proxy) -> JoinHandle<()> {
    let settings = database.settings_through(proxy.port);
    let frozen = PostgresStore::connect(&settings)
        .expect("the settings serve")
        .orders();
    frozen.store(&batch([version("a", 0)])).await.expect("stored");
    proxy.set(Wire::FrozenBeforeCommit);
    let freezing = tokio::spawn(async move {
        let fate = frozen.store(&batch([version("a", 1)])).await;
        assert!(fate.is_err(), "{fate:?}");
    });
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'
         AND pid IN (SELECT pid FROM pg_locks WHERE relation = '{}.commit_log'::regclass)",
        database.settings.schema
    );
    wait_until(async || database.sql(&waits).await == "1").await;
    freezing
}

#[tokio::test]
async fn no_entry_becomes_visible_before_one_that_was_written_earlier() {
    let (mut database, proxy, _) = behind_a_wire().await;
    database.settings.lock_timeout = Duration::from_millis(200);
    let freezing = freeze_before_commit(&database, &proxy).await;
    // Another order, so that nothing but the log stands between the two.
    let other = database.store();
    let refused = other.orders().store(&batch([version("b", 0)])).await;
    assert!(
        matches!(refused, Err(RepositoryError::Unavailable(_))),
        "{refused:?}"
    );
    freezing.abort();
    wait_until(async || other.orders().store(&batch([version("b", 0)])).await.is_ok()).await;
}

#[tokio::test]
async fn a_replica_that_froze_within_its_transaction_is_ended_by_the_server() {
    let (mut database, proxy, _) = behind_a_wire().await;
    database.settings.lock_timeout = Duration::from_millis(200);
    database.settings.idle_in_transaction_timeout = Duration::from_millis(500);
    let freezing = freeze_before_commit(&database, &proxy).await;
    let other = database.store().orders();
    wait_until(async || {
        other
            .store(&batch([version("a", 2), version("b", 0)]))
            .await
            .is_ok()
    })
    .await;
    freezing.await.expect("what was frozen did not happen");
    let found = other.find(&uid()).await.expect("read").expect("stored");
    assert_eq!(found.revision, version("a", 2).revision);
}
