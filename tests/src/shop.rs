//! The shared side of a test: a schema of its own, a stream of its own, and a publisher.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_nats::jetstream::stream::{Config, Info};
use bytes::Bytes;
use order_app::{Settings, Sources};
use order_domain::{BusError, Order, OrderBus, OutgoingMessage, PublishAck};
use order_nats::NatsOrderBus;
use tokio_postgres::NoTls;

use crate::{Proxy, Replica};

/// How long anything may take that only has to happen, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// One instance of the whole system, shared with no other test.
pub struct Shop {
    postgres_url: String,
    nats_url: String,
    environment: HashMap<String, String>,
    name: String,
    bus: Arc<NatsOrderBus>,
    published: AtomicU64,
}

impl Shop {
    /// A shop with nothing in it. Its stream is there, so that orders can be published before a replica runs.
    ///
    /// # Panics
    ///
    /// If the servers are not there.
    pub async fn open() -> Self {
        let (postgres, nats) = (given("ORDERS_TEST_POSTGRES_URL"), given("ORDERS_TEST_NATS_URL"));
        Shop::open_on(&postgres, &nats).await
    }

    /// A shop on these servers.
    ///
    /// # Panics
    ///
    /// If they are not there.
    pub async fn open_on(postgres_url: &str, nats_url: &str) -> Self {
        let name = format!("t{:x}_{:x}", std::process::id(), unique());
        let environment: HashMap<_, _> = [
            ("POSTGRES__URL", postgres_url.to_owned()),
            ("POSTGRES__SCHEMA", name.clone()),
            ("NATS__URL", nats_url.to_owned()),
            ("NATS__STREAM", name.clone()),
            ("NATS__SUBJECT", format!("{name}.orders")),
            ("NATS__CONSUMER", name.clone()),
            ("NATS__ACK_WAIT", "5s".to_owned()),
            ("POSTGRES__BATCH_DEADLINE", "4s".to_owned()),
            ("INGEST__PROGRESS_EVERY", "1s".to_owned()),
            ("HTTP__ADDRESS", "127.0.0.1:0".to_owned()),
            ("HTTP__WORKERS", "1".to_owned()),
            ("MANAGEMENT__ADDRESS", "127.0.0.1:0".to_owned()),
            ("SHUTDOWN__DRAIN_DELAY", "0s".to_owned()),
        ]
        .map(|(name, value)| (format!("ORDERS__{name}"), value))
        .into();
        let settings = load(&environment);
        let bus = NatsOrderBus::connect(settings.nats.clone())
            .await
            .expect("the settings are of use");
        let opened = bus
            .subscribe()
            .await
            .expect("the broker is there; run `cargo xtask test`");
        opened.release(&[], PATIENCE).await;
        Shop {
            postgres_url: postgres_url.to_owned(),
            nats_url: nats_url.to_owned(),
            environment,
            name,
            bus: Arc::new(bus),
            published: AtomicU64::new(0),
        }
    }

    /// The settings of a replica of this shop, as variables of the environment.
    pub fn environment(&self) -> &HashMap<String, String> {
        &self.environment
    }

    /// The name of its stream.
    pub fn stream(&self) -> &str {
        &self.name
    }

    /// The name of its schema.
    pub fn schema(&self) -> &str {
        &self.name
    }

    /// Sets a variable (without `ORDERS__`) for the replicas that are started from here on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment
            .insert(format!("ORDERS__{name}"), value.to_owned());
    }

    /// The settings of a replica of this shop.
    pub fn settings(&self) -> Settings {
        load(&self.environment)
    }

    /// Starts a replica, and waits until it is ready.
    pub async fn replica(&self) -> Replica {
        let replica = Replica::start(self.settings()).await;
        replica.ready().await;
        replica
    }

    /// Publishes a message and waits until the broker has stored it.
    pub async fn publish(&self, payload: impl Into<Bytes>) -> PublishAck {
        self.try_publish(payload).await.expect("the broker stores it")
    }

    /// Tries to publish a message, once, for tests in which the broker may be away.
    ///
    /// # Errors
    ///
    /// Those of the bus.
    pub async fn try_publish(&self, payload: impl Into<Bytes>) -> Result<PublishAck, BusError> {
        let id = format!("{}-{}", self.name, self.published.fetch_add(1, SeqCst));
        let message = OutgoingMessage {
            id,
            headers: Vec::new(),
            payload: payload.into(),
        };
        self.bus.publish(message).await
    }

    /// Publishes an order.
    pub async fn publish_order(&self, order: &Order) -> PublishAck {
        self.publish(order.json().clone()).await
    }

    /// Asks the database itself.
    pub async fn query(&self, sql: &str) -> Vec<tokio_postgres::Row> {
        let (client, connection) = tokio_postgres::connect(&self.postgres_url, NoTls)
            .await
            .expect("the database is there; run `cargo xtask test`");
        let connection = tokio::spawn(connection);
        client
            .batch_execute(&format!("SET search_path TO \"{}\"", self.name))
            .await
            .expect("a search path");
        let rows = client
            .query(sql, &[])
            .await
            .unwrap_or_else(|error| panic!("failed to ask {sql:?}: {error}"));
        drop(client);
        let _ = connection.await;
        rows
    }

    /// The number that a query answers.
    pub async fn count(&self, sql: &str) -> i64 {
        self.query(sql).await[0].get(0)
    }

    /// Waits until a query answers this number.
    pub async fn count_becomes(&self, expected: i64, sql: &str) {
        let mut last = None;
        let reached = eventually(async || {
            last = Some(self.count(sql).await);
            last == Some(expected)
        });
        assert!(reached.await, "{sql} answers {last:?}, not {expected}");
    }

    /// Everything that the four tables and the dead letters hold, but for when it was written.
    pub async fn contents(&self) -> Vec<String> {
        let mut contents = Vec::new();
        for (table, columns) in [
            ("orders", "to_jsonb(it) - 'stored_at'"),
            ("delivery", "to_jsonb(it)"),
            ("payment", "to_jsonb(it)"),
            ("items", "to_jsonb(it)"),
            ("dead_letters", "to_jsonb(it) - 'recorded_at'"),
        ] {
            let sql = format!("SELECT '{table}: ' || ({columns})::text FROM {table} AS it ORDER BY 1");
            contents.extend(self.query(&sql).await.iter().map(|row| row.get::<_, String>(0)));
        }
        contents
    }

    /// Deletes the consumer that the replicas share, so that the next one delivers everything anew.
    pub async fn forget_what_was_consumed(&self) {
        let stream = self
            .jetstream()
            .await
            .get_stream(&self.name)
            .await
            .expect("the stream is there");
        stream
            .delete_consumer(&self.name)
            .await
            .expect("the consumer can be deleted");
    }

    /// How many of the published messages the broker was told never to deliver again.
    pub async fn acknowledged(&self) -> u64 {
        let stream = self
            .jetstream()
            .await
            .get_stream(&self.name)
            .await
            .expect("the stream is there");
        let consumer = stream
            .consumer_info(&self.name)
            .await
            .expect("the consumer is there");
        let published = stream.cached_info().state.messages;
        published - consumer.num_pending - consumer.num_ack_pending as u64
    }

    /// How many messages the stream holds.
    pub async fn messages(&self) -> u64 {
        let stream = self.jetstream().await.get_stream(&self.name).await;
        stream.expect("the stream is there").cached_info().state.messages
    }

    /// A header of a published message.
    pub async fn header_of(&self, sequence: u64, name: &str) -> String {
        let stream = self.jetstream().await.get_stream(&self.name).await;
        let stream = stream.expect("the stream is there");
        let message = stream.get_raw_message(sequence).await;
        let message = message.expect("the message is there");
        message
            .headers
            .get(name)
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Lets the stream hold no more messages than it does now, so that it refuses every further one.
    pub async fn fill_stream(&self) {
        self.change_stream(|info| Config {
            max_messages: info.state.messages as i64,
            ..info.config.clone()
        })
        .await;
    }

    /// Lets the stream hold so many bytes at most.
    pub async fn limit_stream(&self, bytes: i64) {
        self.change_stream(|info| Config {
            max_bytes: bytes,
            ..info.config.clone()
        })
        .await;
    }

    async fn change_stream(&self, changed: impl FnOnce(&Info) -> Config) {
        let jetstream = self.jetstream().await;
        let stream = jetstream
            .get_stream(&self.name)
            .await
            .expect("the stream is there");
        let changed = changed(stream.cached_info());
        jetstream
            .update_stream(changed)
            .await
            .expect("the stream can be changed");
    }

    /// How many consumers the stream has.
    pub async fn consumers(&self) -> usize {
        let stream = self.jetstream().await.get_stream(&self.name).await;
        stream
            .expect("the stream is there")
            .cached_info()
            .state
            .consumer_count
    }

    /// Removes what the shop has on the servers. Not done by a test that fails, so that one can look at it.
    pub async fn close(self) {
        self.query(&format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.name))
            .await;
        self.delete_stream(&self.name).await;
    }

    /// Deletes a stream.
    pub async fn delete_stream(&self, name: &str) {
        self.jetstream()
            .await
            .delete_stream(name)
            .await
            .expect("the stream can be deleted");
    }

    async fn jetstream(&self) -> async_nats::jetstream::Context {
        let client = async_nats::connect(&self.nats_url)
            .await
            .expect("the broker is there");
        async_nats::jetstream::new(client)
    }

    /// A way to one of the servers, by the variable that names it (without `ORDERS__`): closed at first. Replicas that are
    /// started from here on go that way.
    pub async fn through_proxy(&mut self, variable: &str) -> Proxy {
        let url = self.environment[&format!("ORDERS__{variable}")].clone();
        let (before, rest) = url.split_once("://").expect("a URL");
        let authority = rest.split('/').next().expect("an authority");
        let host = authority.rsplit('@').next().expect("a host");
        let server = tokio::net::lookup_host(host)
            .await
            .expect("a host and a port")
            .next()
            .expect("an address");
        let proxy = Proxy::closed(server).await;
        let through = authority.replace(host, &proxy.address().to_string());
        self.set(
            variable,
            &format!("{before}://{}", rest.replacen(authority, &through, 1)),
        );
        proxy
    }
}

/// Asks again and again until the answer is yes; no if that takes too long.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let patience = tokio::time::sleep(PATIENCE);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            biased;
            yes = holds() => if yes { return true },
            () = &mut patience => return false,
        }
        if patience.is_elapsed() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn load(environment: &HashMap<String, String>) -> Settings {
    Sources {
        environment: environment.clone(),
        ..Sources::default()
    }
    .load()
    .expect("the settings are valid")
}

fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Two runs on the same servers may have the same process id; hardly in the same microsecond.
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    now.as_micros() as u64 + NEXT.fetch_add(1, SeqCst)
}

pub(crate) fn given(variable: &str) -> String {
    perhaps_given(variable).unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where their servers are"
)]
pub(crate) fn perhaps_given(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}
