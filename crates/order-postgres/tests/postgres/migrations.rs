//! Migrations by many at once, by older and by newer programs.

use order_postgres::{MigrationError, MigrationState, migrate, migration_status};

use crate::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_start_at_once_all_succeed() {
    for _ in 0..5 {
        let database = Database::unmigrated();
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let settings = database.settings.clone();
                tokio::spawn(async move { migrate(&settings).await })
            })
            .collect();
        let mut applied = 0;
        for start in starts {
            applied += start.await.expect("no panic").expect("migrated").len();
        }
        let known = migration_status(&database.settings)
            .await
            .expect("a status")
            .len();
        assert_eq!(applied, known, "each migration is applied by one of them");
    }
}

#[tokio::test]
async fn the_status_says_what_is_pending_and_what_was_applied() {
    let database = Database::unmigrated();
    let before = migration_status(&database.settings).await.expect("a status");
    assert!(!before.is_empty());
    assert!(
        before
            .iter()
            .all(|migration| migration.state == MigrationState::Pending)
    );
    let schemas = format!(
        "SELECT count(*) FROM pg_namespace WHERE nspname = '{}'",
        database.settings.schema
    );
    assert_eq!(database.sql(&schemas).await, "0", "asking changes nothing");

    let applied = migrate(&database.settings).await.expect("migrated");
    assert_eq!(
        applied,
        migration_status(&database.settings).await.expect("a status")
    );
    assert!(
        applied
            .iter()
            .all(|migration| matches!(migration.state, MigrationState::Applied { .. }))
    );
    assert_eq!(migrate(&database.settings).await.expect("migrated"), []);
}

#[tokio::test]
async fn everything_is_created_in_the_schema() {
    let database = Database::new().await;
    let session = database.session().await;
    for table in [
        "orders",
        "delivery",
        "payment",
        "items",
        "dead_letters",
        "commit_log",
        "refinery_schema_history",
    ] {
        let name = format!("{}.{table}", database.settings.schema);
        let row = session
            .query_one("SELECT to_regclass($1)::text", &[&name])
            .await
            .expect("answered");
        assert!(row.get::<_, Option<String>>(0).is_some(), "{name}");
    }
    let elsewhere = "SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'public' AND relname IN ('orders', 'items', 'commit_log', 'refinery_schema_history')";
    assert_eq!(database.sql(elsewhere).await, "0");
}

#[tokio::test]
async fn an_older_program_starts_on_a_newer_schema() {
    let database = Database::new().await;
    database
        .sql("INSERT INTO refinery_schema_history VALUES (999, 'of_the_next_release', '2030-01-01T00:00:00Z', '1')")
        .await;
    assert_eq!(migrate(&database.settings).await.expect("nothing to do"), []);
    let status = migration_status(&database.settings).await.expect("a status");
    let newest = status.last().expect("not empty");
    assert_eq!(
        (newest.version, newest.name.as_str()),
        (999, "of_the_next_release")
    );
    assert!(matches!(newest.state, MigrationState::Newer { .. }));
}

#[tokio::test]
async fn a_migration_that_was_edited_after_it_was_applied_is_refused() {
    let database = Database::new().await;
    database
        .sql("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1")
        .await;
    let refused = migrate(&database.settings).await;
    assert!(
        matches!(&refused, Err(MigrationError::Refused(reason)) if reason.to_string().contains("V1__orders")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_migration_added_before_one_that_was_applied_is_refused() {
    let database = Database::new().await;
    database
        .sql("UPDATE refinery_schema_history SET version = 999, name = 'later' WHERE version = 1")
        .await;
    let refused = migrate(&database.settings).await;
    assert!(
        matches!(&refused, Err(MigrationError::Refused(reason)) if reason.to_string().contains("V1__orders")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_a_schema_that_does_not_fit() {
    let mut database = Database::unmigrated();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .and_then(|it| it.local_addr())
        .expect("a port");
    database.settings = database.settings_through(closed.port());
    let refused = migrate(&database.settings).await;
    assert!(
        matches!(refused, Err(MigrationError::Unavailable(_))),
        "{refused:?}"
    );
}
