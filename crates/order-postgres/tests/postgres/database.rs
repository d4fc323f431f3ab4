//! A schema a test, dropped afterwards, so that tests run side by side on one database.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use order_postgres::{PostgresSettings, PostgresStore, SchemaName, migrate};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// A fresh schema on the test database.
pub(crate) struct Database {
    pub(crate) settings: PostgresSettings,
    url: String,
}

impl Database {
    /// A fresh schema, migrated.
    pub(crate) async fn new() -> Self {
        let database = Self::unmigrated();
        migrate(&database.settings).await.expect("the schema is migrated");
        database
    }

    /// A name for a schema that does not exist yet.
    pub(crate) fn unmigrated() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let url = test_url();
        let mut settings = PostgresSettings::new(url.parse().expect("ORDERS_TEST_POSTGRES_URL is a URL"));
        let name = format!("test_{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        settings.schema = SchemaName::new(&name).expect("a name for a schema");
        Database { settings, url }
    }

    /// A store of its own, as another replica would have.
    pub(crate) fn store(&self) -> PostgresStore {
        PostgresStore::connect(&self.settings).expect("the settings serve")
    }

    /// The settings, with the way to the server replaced by this port of this machine.
    pub(crate) fn settings_through(&self, port: u16) -> PostgresSettings {
        let url = format!("postgres://{}@127.0.0.1:{port}{}", self.user(), self.path());
        PostgresSettings {
            url: url.parse().expect("still a URL"),
            ..self.settings.clone()
        }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        let after_user = self.url.rsplit('@').next().expect("there is always a last part");
        after_user
            .split('/')
            .next()
            .expect("there is always a first part")
            .to_owned()
    }

    /// As whom the tests connect, with a password if there is one.
    pub(crate) fn user(&self) -> String {
        let credentials = self
            .url
            .split("://")
            .nth(1)
            .and_then(|rest| rest.rsplit_once('@'));
        credentials
            .expect("ORDERS_TEST_POSTGRES_URL names a user")
            .0
            .to_owned()
    }

    /// Which database, with the slash before it.
    pub(crate) fn path(&self) -> String {
        let after_host = self.url.rsplit('@').next().and_then(|rest| rest.split_once('/'));
        format!(
            "/{}",
            after_host.expect("ORDERS_TEST_POSTGRES_URL names a database").1
        )
    }

    /// A session of its own in this schema, on which the test plays another client.
    pub(crate) async fn session(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls)
            .await
            .expect("the database answers");
        tokio::spawn(connection);
        let sql = format!("SET search_path TO {}", self.settings.schema);
        client.batch_execute(&sql).await.expect("a search path");
        client
    }

    /// Does what the SQL says, on a session of its own; answers the first column of the first row.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        let answers = self
            .session()
            .await
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let first = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        });
        first.unwrap_or_default()
    }
}

impl Drop for Database {
    /// Also after a test has failed; on a thread of its own, because a runtime cannot wait within another.
    fn drop(&mut self) {
        let (url, sql) = (
            self.url.clone(),
            format!("DROP SCHEMA IF EXISTS {} CASCADE", self.settings.schema),
        );
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
                tokio::spawn(connection);
                client.batch_execute("SET lock_timeout TO '10s'").await?;
                client.batch_execute(&sql).await
            })
        });
        let outcome = dropping.join().expect("the thread ends");
        if let Err(error) = outcome
            && !thread::panicking()
        {
            panic!("the schema was not dropped: {error:?}");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "only the test runner knows where it has started the database"
)]
fn test_url() -> String {
    std::env::var("ORDERS_TEST_POSTGRES_URL")
        .expect("no ORDERS_TEST_POSTGRES_URL: run `cargo xtask test`, which starts a database")
}
