//! Following the log over restores, and over connections that end.

use std::time::Duration;

use order_domain::testing::contract::storage::settle;
use order_domain::{CommitLog, LogCursor, LogPage, OrderRepository};
use tokio::time::timeout;

use crate::database::Database;
use crate::storing::{batch, version, wait_until};

#[tokio::test]
async fn a_restored_database_is_a_gap_although_positions_come_again() {
    let database = Database::new().await;
    let (orders, log) = (database.store().orders(), database.store().commit_log());
    orders.store(&batch([version("a", 0)])).await.expect("stored");
    let kept = log.head().await.expect("a head");
    let lost = orders
        .store(&batch([version("a", 1)]))
        .await
        .expect("stored")
        .logged
        .expect("an order changed")
        .cursor;

    // As a backup from between the two has it.
    let restore = format!(
        "DELETE FROM commit_log WHERE position = {0};
         SELECT setval(pg_get_serial_sequence('commit_log', 'position'), {1})",
        lost.position, kept.position
    );
    database.sql(&restore).await;
    assert_eq!(log.read_after(lost, 10).await.expect("read"), LogPage::Gap);
    let other = orders
        .store(&batch([version("b", 1)]))
        .await
        .expect("stored")
        .logged
        .expect("an order changed")
        .cursor;
    assert_eq!(other.position, lost.position);
    assert_eq!(log.read_after(lost, 10).await.expect("read"), LogPage::Gap);
    assert!(
        matches!(log.read_after(kept, 10).await.expect("read"), LogPage::Entries { entries, .. } if entries.len() == 1)
    );
}

#[tokio::test]
async fn a_listener_whose_connection_ends_listens_again() {
    let database = Database::new().await;
    let (orders, log) = (database.store().orders(), database.store().commit_log());
    let channel = database.settings.channel();
    let listener = format!("SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN \"{channel}\"'");
    settle(&*log).await;
    let first = database.sql(&listener).await;
    assert!(!first.is_empty(), "nobody listens to {channel}");

    database
        .sql(&format!("SELECT pg_terminate_backend({first})"))
        .await;
    wait_until(async || {
        let now = database.sql(&listener).await;
        !now.is_empty() && now != first
    })
    .await;
    let cursor = settle(&*log).await;
    orders.store(&batch([version("a", 0)])).await.expect("stored");
    timeout(Duration::from_secs(30), log.changed(cursor))
        .await
        .expect("the commit is announced");
}

#[tokio::test]
async fn everyone_who_waits_is_woken_by_one_commit() {
    let database = Database::new().await;
    let (orders, log) = (database.store().orders(), database.store().commit_log());
    let cursor = settle(&*log).await;
    let waiting = async { tokio::join!(log.changed(cursor), log.changed(cursor)) };
    let committing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        orders.store(&batch([version("a", 0)])).await.expect("stored");
    };
    let both = async { tokio::join!(waiting, committing) };
    timeout(Duration::from_secs(30), both)
        .await
        .expect("both are woken");
}

#[tokio::test]
async fn a_listener_that_cannot_connect_waits_instead_of_spinning() {
    let mut database = Database::unmigrated();
    // Nobody listens there; the port is the one of a socket that was closed again.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .and_then(|it| it.local_addr())
        .expect("a port");
    database.settings = database.settings_through(closed.port());
    let log = database.store().commit_log();
    let cursor = LogCursor { position: 0, mark: 0 };
    assert!(
        timeout(Duration::from_millis(500), log.changed(cursor))
            .await
            .is_err()
    );
}
