//! What the adapter needs to be told. Nothing here reads the environment.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};

use crate::url::{Password, PostgresUrl};

/// Where the database is, what is shared under which names, and how long everything may take.
///
/// Every field but the URL has a default that suits production. Durations are written as `100ms`, `5s` or `2m`. What must hold
/// between them: `read_deadline` below the caller's own bound; `batch_deadline` below the broker's time for an
/// acknowledgement; `log_deadline` below the lease; `lock_timeout` below `batch_deadline`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Where the database is, and as whom to connect.
    pub url: PostgresUrl,
    /// The password, where the URL does not hold it: a secret is often kept apart from what is none.
    pub password: Option<Password>,
    /// A PEM file of the certificates that may sign the server's; the system's where absent. Only read where the URL asks for
    /// TLS (`sslmode=require`).
    pub root_certificates: Option<PathBuf>,

    /// The schema that holds the tables. Several instances may share a database under different ones.
    pub schema: SchemaName,
    /// The channel on which a commit is announced; `<schema>_commits` where absent. Replicas of one instance share it.
    pub notification_channel: Option<SchemaName>,
    /// What the lock on the commit log is derived from; the schema where absent. Replicas of one instance share it.
    pub lock_key: Option<String>,

    /// The most connections that store batches.
    pub ingest_connections: NonZeroUsize,
    /// The most connections that read orders and dead letters.
    pub read_connections: NonZeroUsize,
    /// The most connections that read the commit log, beside one that listens.
    pub log_connections: NonZeroUsize,

    /// From how many orders on a batch first asks which of them are stored, and copies the others into the tables: a round trip
    /// more, and half the work of the database. Smaller batches leave it to statements to find out. After many batches of nothing but
    /// new orders the question is left out.
    pub copy_from: usize,

    /// How long a host may take to answer, greeting and TLS included, before the next one is tried.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// How long creating a connection may take over all hosts.
    #[serde(deserialize_with = "duration")]
    pub create_timeout: Duration,
    /// How long to wait for a free connection to the commit log or for storing.
    #[serde(deserialize_with = "duration")]
    pub wait_timeout: Duration,
    /// How long a read waits for a statement to take it, and that for a free connection, before it is turned away. Short: a queue helps
    /// nobody under overload.
    #[serde(deserialize_with = "duration")]
    pub read_queue_timeout: Duration,
    /// How long a connection that has rested may take to prove that it still lives.
    #[serde(deserialize_with = "duration")]
    pub recycle_timeout: Duration,
    /// How long what was sent may stay unacknowledged before the connection is given up.
    #[serde(deserialize_with = "duration")]
    pub tcp_user_timeout: Duration,
    /// How long a connection may be silent before the system asks whether the other side is there.
    #[serde(deserialize_with = "duration")]
    pub keepalives_idle: Duration,

    /// How long storing a batch may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub batch_deadline: Duration,
    /// How long finding an order may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub read_deadline: Duration,
    /// How long a look at the commit log may take, waiting for a connection included.
    #[serde(deserialize_with = "duration")]
    pub log_deadline: Duration,
    /// How long one step of a bulk read, of listing dead letters or of pruning may take.
    #[serde(deserialize_with = "duration")]
    pub bulk_deadline: Duration,

    /// How long the server lets a statement wait for a lock: another replica that froze while it held one must not hold up all.
    #[serde(deserialize_with = "duration")]
    pub lock_timeout: Duration,
    /// How long the server lets a transaction rest before it ends the connection, and with it the locks of a replica that froze.
    #[serde(deserialize_with = "duration")]
    pub idle_in_transaction_timeout: Duration,
    /// How long a start waits for another one's migration.
    #[serde(deserialize_with = "duration")]
    pub migration_wait: Duration,
}

impl PostgresSettings {
    /// The defaults, for this database.
    pub fn new(url: PostgresUrl) -> Self {
        PostgresSettings {
            url,
            password: None,
            root_certificates: None,
            schema: SchemaName("order_tracker".to_owned()),
            notification_channel: None,
            lock_key: None,
            ingest_connections: connections(4),
            read_connections: connections(8),
            log_connections: connections(2),
            copy_from: 50,
            connect_timeout: Duration::from_secs(2),
            create_timeout: Duration::from_secs(5),
            wait_timeout: Duration::from_secs(5),
            read_queue_timeout: Duration::from_millis(100),
            recycle_timeout: Duration::from_secs(1),
            tcp_user_timeout: Duration::from_secs(10),
            keepalives_idle: Duration::from_secs(10),
            batch_deadline: Duration::from_secs(10),
            read_deadline: Duration::from_millis(1_500),
            log_deadline: Duration::from_secs(1),
            bulk_deadline: Duration::from_secs(10),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_timeout: Duration::from_secs(5),
            migration_wait: Duration::from_secs(60),
        }
    }

    /// The channel on which a commit is announced.
    pub fn channel(&self) -> String {
        match &self.notification_channel {
            Some(channel) => channel.0.clone(),
            // A name has at most 63 bytes; the schema's is kept whole where it can be.
            None => format!("{:.55}_commits", self.schema.0),
        }
    }

    /// What the lock on the commit log is derived from.
    pub fn commit_lock(&self) -> &str {
        self.lock_key.as_deref().unwrap_or(&self.schema.0)
    }
}

impl Default for PostgresSettings {
    /// The defaults, for the database `orders` on this machine.
    fn default() -> Self {
        let url = "postgres://orders@127.0.0.1:5432/orders";
        PostgresSettings::new(url.parse().expect("the default URL is one"))
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let parsed = String::deserialize(deserializer)?.parse::<SignedDuration>().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| de::Error::custom("must be a duration, such as `100ms`, `5s` or `2m`"))
}

fn connections(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).expect("a default number of connections is not zero")
}

/// The name of a schema or a channel: 1 to 63 of `A-Z a-z 0-9 _ -`, not beginning with `pg_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaName(String);

/// Why a text is not a [`SchemaName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 63 of A-Z a-z 0-9 _ - and not begin with `pg_`")]
pub struct SchemaNameError;

impl SchemaName {
    /// Checks `text` and takes it as a name.
    pub fn new(text: &str) -> Result<Self, SchemaNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let fits = (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with("pg_");
        if fits {
            Ok(SchemaName(text.to_owned()))
        } else {
            Err(SchemaNameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as SQL. It holds no quotation mark, so that putting it in a pair is all there is to do.
    pub(crate) fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = SchemaNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for SchemaName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SchemaName::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<PostgresSettings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_url_is_all_that_must_be_given() {
        let settings =
            settings(r#"{"url": "postgres://u:p@db:5433/shop", "read_deadline": "750ms"}"#).unwrap();
        assert_eq!(settings.schema.as_str(), "order_tracker");
        assert_eq!(settings.channel(), "order_tracker_commits");
        assert_eq!(settings.commit_lock(), "order_tracker");
        assert_eq!(settings.read_deadline, Duration::from_millis(750));
        assert_eq!(settings.lock_timeout, Duration::from_secs(2));
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = settings(r#"{"url": "postgres://u:hunter2@h/shop", "password": "hunter2"}"#).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        for (json, expected) in [
            (r#"{"ur": "postgres://h/x"}"#, "unknown field `ur`"),
            (r#"{"schema": "a b"}"#, "must be 1 to 63 of"),
            (r#"{"read_connections": 0}"#, "nonzero"),
            (r#"{"lock_timeout": "soon"}"#, "must be a duration"),
        ] {
            let error = settings(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_long_schema_still_has_a_channel_of_its_own() {
        let schema = SchemaName::new(&"s".repeat(63)).unwrap();
        let settings = PostgresSettings {
            schema,
            ..PostgresSettings::default()
        };
        assert_eq!(settings.channel().len(), 63);
    }
}
