//! What the adapter needs to be told. Nothing here reads the environment.

use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;

use crate::address::{NatsUrl, Secret};
use crate::names::{NatsName, NatsSubject};

/// Where the broker is, what is shared under which names, and how long everything may take.
///
/// Every field has a default. Durations are written as `100ms`, `5s` or `168h`. What must hold between them: `heartbeat` at most half of
/// `pull_expires`; the service's own progress notices well under `ack_wait`; `ack_wait` above the longest a batch may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsSettings {
    /// Where the broker is.
    pub url: NatsUrl,
    /// As whom to connect, together with `password`.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<Secret>,
    /// A token that is all there is to show.
    pub token: Option<Secret>,
    /// The seed of an NKey, which begins with `SU`.
    pub nkey: Option<Secret>,
    /// A `.creds` file, as `nsc` writes them.
    pub credentials_file: Option<PathBuf>,
    /// Encrypt, whatever the URL says and the broker offers.
    pub require_tls: bool,
    /// A PEM file of the certificates that may sign the broker's; the system's where absent.
    pub root_certificates: Option<PathBuf>,
    /// A PEM file of the certificate to show to the broker, together with `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// A PEM file of the key of `client_certificate`.
    pub client_key: Option<PathBuf>,

    /// The stream that stores the orders.
    pub stream: NatsName,
    /// The subject that they are published to.
    pub subject: NatsSubject,
    /// The durable consumer that all replicas share.
    pub consumer: NatsName,
    /// On how many servers of a cluster the stream is kept, where it has to be created.
    pub replicas: usize,
    /// For how long an order can be read. One that nobody read for so long is lost, so an existing stream must keep them at least
    /// as long.
    #[serde(with = "duration")]
    pub max_age: Duration,
    /// For how long a message's id is remembered, where the stream has to be created.
    #[serde(with = "duration")]
    pub duplicate_window: Duration,
    /// After how long without an answer a message is delivered again, where the consumer has to be created.
    #[serde(with = "duration")]
    pub ack_wait: Duration,
    /// How many messages may be under way to all replicas together. A constant: one that depends on the number of replicas would make
    /// them overwrite each other's.
    pub max_ack_pending: usize,

    /// How many messages are fetched at a time. At most about four times as many wait in memory.
    pub pull_messages: usize,
    /// How many bytes are fetched at a time; raised to what the broker's largest message needs. At most about four times as
    /// many wait in memory.
    pub pull_bytes: usize,
    /// For how long the broker keeps a request for messages.
    #[serde(with = "duration")]
    pub pull_expires: Duration,
    /// How often the broker says that it is still there while it has no message. After two times twice this without a word
    /// the subscription ends.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How many bytes of messages may be on their way to the broker at once. Whoever publishes more waits.
    pub publish_window: usize,

    /// How often the connection is tried. After three tries without an answer it is given up for lost.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// How long a server may take to greet.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// The longest wait before another attempt to connect.
    #[serde(with = "duration")]
    pub reconnect_at_most: Duration,
    /// How long the broker may take to answer a question about a stream or a consumer.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// How long a message may take from `publish` to its acknowledgement.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
}

impl Default for NatsSettings {
    fn default() -> Self {
        NatsSettings {
            url: "nats://127.0.0.1:4222".parse().expect("the default URL is one"),
            user: None,
            password: None,
            token: None,
            nkey: None,
            credentials_file: None,
            require_tls: false,
            root_certificates: None,
            client_certificate: None,
            client_key: None,
            stream: NatsName::new("ORDERS").expect("the default stream is a name"),
            subject: NatsSubject::new("orders").expect("the default subject is one"),
            consumer: NatsName::new("order-tracker").expect("the default consumer is a name"),
            replicas: 1,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            duplicate_window: Duration::from_secs(2 * 60),
            ack_wait: Duration::from_secs(15),
            max_ack_pending: 20_000,
            pull_messages: 1_000,
            pull_bytes: 8 << 20,
            pull_expires: Duration::from_secs(5),
            heartbeat: Duration::from_secs(2),
            publish_window: 32 << 20,
            ping_interval: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(3),
            reconnect_at_most: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(5),
        }
    }
}

/// Why settings cannot be used, whatever the broker says.
#[derive(Debug, thiserror::Error)]
pub enum NatsSettingsError {
    /// More than one way to say who we are.
    #[error(
        "only one of user and password, token, nkey and credentials_file may be given, the URL's included"
    )]
    SeveralCredentials,
    /// One of a pair is missing.
    #[error("{0}")]
    Incomplete(&'static str),
    /// A number or a duration that cannot work.
    #[error("{0}")]
    Impossible(&'static str),
    /// A file that cannot be read, or does not hold what it should.
    #[error("{setting}: {source}")]
    File {
        /// Which setting names it.
        setting: &'static str,
        /// What is wrong with it.
        source: std::io::Error,
    },
}

/// Who we are to the broker.
#[derive(Debug)]
pub(crate) enum Credentials<'a> {
    Nobody,
    User(&'a str, &'a Secret),
    Token(&'a Secret),
    NKey(&'a Secret),
    File(&'a PathBuf),
}

impl NatsSettings {
    /// Checks what no single field's type can.
    ///
    /// Needs no broker, so that a program can tell of wrong settings before it does anything else.
    pub fn check(&self) -> Result<(), NatsSettingsError> {
        self.credentials()?;
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return Err(NatsSettingsError::Incomplete(
                "client_certificate and client_key must be given together",
            ));
        }
        let possible = [
            (self.replicas > 0, "replicas must be at least 1"),
            (self.pull_messages > 0, "pull_messages must be at least 1"),
            (self.max_ack_pending > 0, "max_ack_pending must be at least 1"),
            (!self.heartbeat.is_zero(), "heartbeat must be more than 0s"),
            (
                self.heartbeat * 2 <= self.pull_expires,
                "heartbeat must be at most half of pull_expires",
            ),
            (!self.ack_wait.is_zero(), "ack_wait must be more than 0s"),
            (
                self.duplicate_window <= self.max_age,
                "duplicate_window must be at most max_age",
            ),
            (
                !self.ping_interval.is_zero(),
                "ping_interval must be more than 0s",
            ),
        ];
        match possible.into_iter().find(|(possible, _)| !possible) {
            Some((_, fault)) => Err(NatsSettingsError::Impossible(fault)),
            None => Ok(()),
        }
    }

    pub(crate) fn credentials(&self) -> Result<Credentials<'_>, NatsSettingsError> {
        let mut given = Vec::new();
        match (self.user.as_deref(), self.password.as_ref()) {
            (Some(user), Some(password)) => given.push(Credentials::User(user, password)),
            (None, None) => {}
            _ => {
                return Err(NatsSettingsError::Incomplete(
                    "user and password must be given together",
                ));
            }
        }
        match self.url.credentials() {
            (Some(user), Some(password)) => given.push(Credentials::User(user.expose(), password)),
            (Some(token), None) => given.push(Credentials::Token(token)),
            (None, _) => {}
        }
        given.extend(self.token.as_ref().map(Credentials::Token));
        given.extend(self.nkey.as_ref().map(Credentials::NKey));
        given.extend(self.credentials_file.as_ref().map(Credentials::File));
        match given.pop() {
            Some(_) if !given.is_empty() => Err(NatsSettingsError::SeveralCredentials),
            Some(credentials) => Ok(credentials),
            None => Ok(Credentials::Nobody),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<NatsSettings, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn nothing_must_be_given() {
        let settings = settings("{}").unwrap();
        settings.check().unwrap();
        assert_eq!(
            (settings.stream.as_str(), settings.subject.as_str()),
            ("ORDERS", "orders")
        );
        assert_eq!(settings.url.to_string(), "nats://127.0.0.1:4222");
    }

    #[test]
    fn secrets_are_never_shown() {
        let given = r#"{"user": "shop", "password": "hunter2", "token": "hunter2", "nkey": "hunter2"}"#;
        let shown = format!("{:?}", settings(given).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        let shown = format!(
            "{:?}",
            settings(r#"{"url": "nats://u:hunter2@h"}"#)
                .unwrap()
                .credentials()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_is_unknown_or_wrong_is_named() {
        for (json, expected) in [
            (r#"{"ur": "nats://h"}"#, "unknown field `ur`"),
            (r#"{"url": "http://h"}"#, "nats://host:port"),
            (r#"{"stream": "a.b"}"#, "must be 1 to 128 of"),
            (r#"{"subject": "orders.>"}"#, "without spaces or the wildcards"),
            (r#"{"ack_wait": "soon"}"#, "duration"),
        ] {
            let error = settings(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        for (json, expected) in [
            (r#"{"user": "shop"}"#, "user and password must be given together"),
            (r#"{"url": "nats://u:p@h", "token": "t"}"#, "only one of"),
            (r#"{"nkey": "n", "credentials_file": "f"}"#, "only one of"),
            (r#"{"client_key": "f"}"#, "client_certificate and client_key"),
            (
                r#"{"heartbeat": "3s", "pull_expires": "5s"}"#,
                "at most half of pull_expires",
            ),
            (r#"{"replicas": 0}"#, "replicas must be at least 1"),
        ] {
            let error = settings(json).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
