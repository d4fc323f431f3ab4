//! The database that the service writes to, as its settings say.

use anyhow::{Context, Result, bail};
use order_postgres::{PostgresSettings, PostgresStore};
use serde_json::{Map, Value};
use xtask::environment;
use xtask::servers::development::{Development, POSTGRES_URL, Server};

/// The settings of the service that matter to whoever reads and writes its tables, as they end in the names of their variables.
const SETTINGS: &[&str] = &[
    "URL",
    "PASSWORD",
    "ROOT_CERTIFICATES",
    "SCHEMA",
    "NOTIFICATION_CHANNEL",
    "LOCK_KEY",
];

/// The ports on that database: the environment's, and where that names none, the one that `cargo xtask up` or `services up` runs.
///
/// To be called on a tokio runtime.
///
/// # Errors
///
/// Where a setting is wrong, or no PostgreSQL runs.
pub(crate) fn connect() -> Result<PostgresStore> {
    Ok(PostgresStore::connect(&settings()?)?)
}

fn settings() -> Result<PostgresSettings> {
    let mut given = Map::new();
    for setting in SETTINGS {
        if let Some(value) = environment::setting(&format!("ORDERS__POSTGRES__{setting}"))? {
            given.insert(setting.to_lowercase(), Value::String(value));
        }
    }
    if !given.contains_key("url") {
        let Some(Server::Own { url, .. }) = Development::open()?.postgres()? else {
            bail!("no PostgreSQL runs: `cargo xtask up` starts one with the service, or set {POSTGRES_URL}");
        };
        given.insert("url".to_owned(), Value::String(url));
    }
    serde_json::from_value(Value::Object(given)).context("a setting ORDERS__POSTGRES__… is wrong")
}
