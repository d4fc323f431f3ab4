//! The broker that the service reads from, as its settings say.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use order_domain::{BusError, OrderBus};
use order_nats::{NatsOrderBus, NatsSettings};
use serde_json::{Map, Value};
use xtask::environment;
use xtask::servers::development::{Development, NATS_URL, Server};

/// The settings of the service that matter to whoever publishes, as they end in the names of their variables.
const SETTINGS: &[&str] = &[
    "URL",
    "USER",
    "PASSWORD",
    "TOKEN",
    "NKEY",
    "CREDENTIALS_FILE",
    "ROOT_CERTIFICATES",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
    "STREAM",
    "SUBJECT",
    "CONSUMER",
];

/// The settings: the environment's, and where that names no broker, the one that `cargo xtask up` or `services up` runs.
///
/// # Errors
///
/// Where one is wrong, or no broker runs.
pub(crate) fn settings() -> Result<NatsSettings> {
    settings_of(None)
}

/// The settings for the broker at this URL, or as [`settings`] finds one.
///
/// # Errors
///
/// Where one is wrong, or no broker runs.
pub(crate) fn settings_of(url: Option<&str>) -> Result<NatsSettings> {
    let mut given = Map::new();
    for setting in SETTINGS {
        if let Some(value) = variable(setting)? {
            given.insert(setting.to_lowercase(), Value::String(value));
        }
    }
    if let Some(url) = url {
        given.insert("url".to_owned(), Value::String(url.to_owned()));
    }
    if variable("REQUIRE_TLS")?.is_some_and(|value| value == "true") {
        given.insert("require_tls".to_owned(), Value::Bool(true));
    }
    if !given.contains_key("url") {
        let Some(Server::Own { url, .. }) = Development::open()?.nats() else {
            bail!("no nats-server runs: `cargo xtask up` starts one with the service, or set {NATS_URL}");
        };
        given.insert("url".to_owned(), Value::String(url));
    }
    serde_json::from_value(Value::Object(given)).context("a setting ORDERS__NATS__… is wrong")
}

/// Makes the stream where the service has not run yet; waits for a broker that is out of reach.
///
/// # Errors
///
/// Where what is on the broker under our names cannot serve.
pub(super) async fn prepare(bus: &NatsOrderBus) -> Result<()> {
    loop {
        // A consumer that is there has its stream. Subscribing to it would take orders away from the service for a moment.
        if bus.backlog().await.is_ok() {
            return Ok(());
        }
        match bus.subscribe().await {
            Ok(subscription) => {
                subscription.release(&[], Duration::from_secs(1)).await;
                return Ok(());
            }
            Err(BusError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(250)).await,
            Err(error) => bail!("{error}"),
        }
    }
}

/// A setting from the environment.
fn variable(setting: &str) -> Result<Option<String>> {
    environment::setting(&format!("ORDERS__NATS__{setting}"))
}
