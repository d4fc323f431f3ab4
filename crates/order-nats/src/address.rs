//! Where the broker is, and what is shown to it and to nobody else.

use std::fmt;
use std::str::FromStr;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, de};

/// Where the broker is: `nats://host:port`, or several of a cluster, separated by commas; `tls://` encrypts. Never shows a password.
///
/// A user and a password, or a token, may stand before the host as usual: `nats://user:password@host` or `nats://token@host`.
#[derive(Clone)]
pub struct NatsUrl {
    servers: Vec<ServerAddr>,
    user: Option<Secret>,
    password: Option<Secret>,
}

/// Why a text is not a [`NatsUrl`]. Never quotes it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NatsUrlError {
    /// It is not a URL of NATS.
    #[error("must be `nats://host:port` or `tls://host:port`, several separated by commas")]
    Malformed,
    /// Two servers are given different credentials, but the driver has one for all.
    #[error("must give all servers the same user and password")]
    DifferentCredentials,
}

impl NatsUrl {
    pub(crate) fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    /// User and password; a user alone is a token.
    pub(crate) fn credentials(&self) -> (Option<&Secret>, Option<&Secret>) {
        (self.user.as_ref(), self.password.as_ref())
    }
}

impl FromStr for NatsUrl {
    type Err = NatsUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut servers = Vec::new();
        // The driver reads no credentials from a URL, so they are taken from it here.
        let mut credentials = None;
        for part in text.split(',') {
            let mut url = part
                .trim()
                .parse::<ServerAddr>()
                .map_err(|_| NatsUrlError::Malformed)?
                .into_inner();
            if url.host_str().is_none_or(str::is_empty) || !matches!(url.scheme(), "nats" | "tls") {
                return Err(NatsUrlError::Malformed);
            }
            let decoded = |text: &str| Secret(percent_decode_str(text).decode_utf8_lossy().into_owned());
            let user = (!url.username().is_empty()).then(|| decoded(url.username()));
            let password = url.password().map(decoded);
            if user.is_some() || password.is_some() {
                match &credentials {
                    Some(earlier) if *earlier != (user.clone(), password.clone()) => {
                        return Err(NatsUrlError::DifferentCredentials);
                    }
                    _ => credentials = Some((user, password)),
                }
            }
            // Without them the driver cannot log them either.
            let stripped = url.set_username("").and_then(|()| url.set_password(None));
            stripped.map_err(|()| NatsUrlError::Malformed)?;
            servers.push(ServerAddr::from_url(url).map_err(|_| NatsUrlError::Malformed)?);
        }
        let (user, password) = credentials.unwrap_or_default();
        Ok(NatsUrl {
            servers,
            user,
            password,
        })
    }
}

impl<'de> Deserialize<'de> for NatsUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Hosts and ports, for a log.
impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.servers.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(
                f,
                "{comma}{}://{}:{}",
                server.scheme(),
                server.host(),
                server.port()
            )?;
        }
        Ok(())
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsUrl({self})")
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_from_the_url_and_never_shown() {
        let url: NatsUrl = "nats://shop:hunter%402@one:4222, tls://two".parse().unwrap();
        assert_eq!(url.to_string(), "nats://one:4222,tls://two:4222");
        assert_eq!(
            url.credentials(),
            (Some(&Secret::new("shop")), Some(&Secret::new("hunter@2")))
        );
        let shown = format!("{url:?} {:?} {:?}", url.servers(), url.credentials());
        assert!(!shown.contains("hunter") && !shown.contains("shop"), "{shown}");

        let token: NatsUrl = "nats://s3cret@one".parse().unwrap();
        assert_eq!(token.credentials(), (Some(&Secret::new("s3cret")), None));
    }

    #[test]
    fn what_is_not_a_url_is_refused_without_being_quoted() {
        for bad in [
            "",
            "nats://",
            "http://u:hunter2@one",
            "nats://u:hunter2@one:port",
            "ws://one",
            "nats://one,,",
        ] {
            let error = bad.parse::<NatsUrl>().unwrap_err();
            assert_eq!(error, NatsUrlError::Malformed, "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let different = "nats://a:b@one,nats://c:d@two".parse::<NatsUrl>();
        assert_eq!(different.unwrap_err(), NatsUrlError::DifferentCredentials);
    }
}
