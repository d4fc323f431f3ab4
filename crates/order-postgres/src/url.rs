//! Where the database is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use tokio_postgres::config::{Host, SslMode};

/// Where a database is: `postgres://user:password@host:port/database`. Never shows its password.
///
/// Several hosts may be given, separated by commas; the one that accepts writes is used. `sslmode=require` (or
/// `verify-full`, which means the same here) encrypts and checks the server's certificate and name; anything else does not encrypt.
#[derive(Clone)]
pub struct PostgresUrl {
    config: tokio_postgres::Config,
}

/// Why a text is not a [`PostgresUrl`]. Never quotes it: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresUrlError {
    /// It is not a URL of PostgreSQL.
    #[error("must be `postgres://user:password@host:port/database`: {0}")]
    Malformed(String),
    /// It does not say where the database is.
    #[error("must name a host, as in `postgres://user:password@host:port/database`")]
    NoHost,
}

impl PostgresUrl {
    pub(crate) fn config(&self) -> &tokio_postgres::Config {
        &self.config
    }

    pub(crate) fn asks_for_tls(&self) -> bool {
        // `prefer` is the driver's default, so that it cannot be told from silence; and without a check of the certificate
        // that falls back to plain text it would protect from nobody who can change the traffic.
        self.config.get_ssl_mode() == SslMode::Require
    }
}

impl FromStr for PostgresUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The driver knows no `verify-…`: whether it verifies is up to the connector, and ours always does.
        let text = text
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let config: tokio_postgres::Config = text.parse().map_err(|error: tokio_postgres::Error| {
            // The source names an option or what was expected; the driver's own text says only that something is wrong.
            let source = std::error::Error::source(&error).map(ToString::to_string);
            PostgresUrlError::Malformed(source.unwrap_or_else(|| error.to_string()))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PostgresUrlError::NoHost);
        }
        Ok(PostgresUrl { config })
    }
}

impl<'de> Deserialize<'de> for PostgresUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Hosts and database, for a log: neither user nor password.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

/// A password. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes a text as a password.
    pub fn new(text: impl Into<String>) -> Self {
        Password(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_database_are_shown_and_nothing_else() {
        let url: PostgresUrl = "postgres://u:hunter2@one:1,two:2/shop?sslmode=verify-full"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "one:1,two:2/shop");
        assert_eq!(format!("{url:?}"), "PostgresUrl(one:1,two:2/shop)");
        assert!(url.asks_for_tls());
        assert!(!"postgres://h/x".parse::<PostgresUrl>().unwrap().asks_for_tls());
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_quoted() {
        for bad in [
            "postgres://u:hunter2@h:port/x",
            "postgres://u:hunter2@h/x?nonsense=1",
            "u:hunter2@h/x",
        ] {
            let error = bad.parse::<PostgresUrl>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(matches!(
            "postgres:///x".parse::<PostgresUrl>(),
            Err(PostgresUrlError::NoHost)
        ));
    }
}
