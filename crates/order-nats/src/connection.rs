//! The connection: made once, kept for ever.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::settings::{Credentials, NatsSettings, NatsSettingsError};

/// What the events of a connection add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    connected: bool,
    /// How often it was made. A pull request does not outlive its connection, so whoever waits for one must know.
    times: u64,
}

/// Watches a connection for those who wait on it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    standing: watch::Receiver<Standing>,
    seen: u64,
}

impl Link {
    /// Waits until there is a connection, and takes it as the one to watch. Answers whether there is one within `patience`.
    pub(crate) async fn connected(&mut self, patience: Duration) -> bool {
        let connected = timeout(patience, self.standing.wait_for(|standing| standing.connected)).await;
        match connected {
            Ok(Ok(standing)) => {
                self.seen = standing.times;
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Which connection is watched, counted from 1.
    pub(crate) fn times(&self) -> u64 {
        self.seen
    }

    /// Returns when the connection is another one than the one that [`connected`](Self::connected) found.
    pub(crate) async fn replaced(&mut self) {
        let seen = self.seen;
        if self
            .standing
            .wait_for(|standing| standing.times != seen)
            .await
            .is_err()
        {
            // The client is gone, and with it everything that could still come.
            std::future::pending::<()>().await;
        }
    }
}

/// Begins to connect, and goes on for ever. Does not need the broker to be there.
pub(crate) async fn connect(settings: &NatsSettings) -> Result<(Client, Link), NatsSettingsError> {
    settings.check()?;
    let (sender, standing) = watch::channel(Standing::default());
    let events = EventLog {
        server: settings.url.to_string(),
        failure_told: AtomicBool::new(false),
        sender,
    };
    let events = std::sync::Arc::new(events);
    let most = settings.reconnect_at_most;
    let options = with_files(with_credentials(ConnectOptions::new(), settings).await?, settings)?
        .name("order-tracker")
        .retry_on_initial_connect()
        .reconnect_delay_callback(move |attempts| reconnect_delay(attempts, most))
        .ping_interval(settings.ping_interval)
        .connection_timeout(settings.connect_timeout)
        .request_timeout(Some(settings.request_timeout))
        // Four pulls and their notices must fit, or messages would be thrown away until their time for an answer is up.
        .subscription_capacity((settings.pull_messages * 5).max(4_096))
        .event_callback(move |event| {
            events.note(&event);
            std::future::ready(())
        });
    let connecting = options.connect(settings.url.servers()).await;
    // Without a first attempt to wait for, all that can be wrong is the list of servers.
    let client = connecting.map_err(|error| file_fault("url")(std::io::Error::other(error)))?;
    Ok((client, Link { standing, seen: 0 }))
}

async fn with_credentials(
    options: ConnectOptions,
    settings: &NatsSettings,
) -> Result<ConnectOptions, NatsSettingsError> {
    Ok(match settings.credentials()? {
        Credentials::Nobody => options,
        Credentials::User(user, password) => {
            options.user_and_password(user.to_owned(), password.expose().to_owned())
        }
        Credentials::Token(token) => options.token(token.expose().to_owned()),
        Credentials::NKey(seed) => options.nkey(seed.expose().to_owned()),
        Credentials::File(path) => options
            .credentials_file(path)
            .await
            .map_err(file_fault("credentials_file"))?,
    })
}

fn with_files(
    mut options: ConnectOptions,
    settings: &NatsSettings,
) -> Result<ConnectOptions, NatsSettingsError> {
    let named = [
        ("root_certificates", &settings.root_certificates),
        ("client_certificate", &settings.client_certificate),
        ("client_key", &settings.client_key),
    ];
    // The driver opens them at each attempt to connect, and would only ever log what is wrong with them.
    for (setting, path) in named {
        if let Some(path) = path {
            std::fs::File::open(path).map_err(file_fault(setting))?;
        }
    }
    if let Some(path) = &settings.root_certificates {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&settings.client_certificate, &settings.client_key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if settings.require_tls {
        options = options.require_tls(true);
    }
    Ok(options)
}

fn file_fault(setting: &'static str) -> impl FnOnce(std::io::Error) -> NatsSettingsError {
    move |source| NatsSettingsError::File { setting, source }
}

/// Waits that double up to `most`, each cut by a random part of up to a half, so that replicas that lost a broker together do not come
/// back together.
fn reconnect_delay(attempts: usize, most: Duration) -> Duration {
    // The driver counts from 1, and the first attempt need not wait.
    let doublings = attempts.saturating_sub(2).min(16) as u32;
    let wait = if attempts < 2 {
        Duration::ZERO
    } else {
        Duration::from_millis(50) * 2_u32.pow(doublings)
    };
    wait.min(most).mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// Turns the driver's events into the log and into what [`Link`] watches.
#[derive(Debug)]
struct EventLog {
    server: String,
    /// Whether it was said that connecting fails: each attempt is an event, and one line is enough.
    failure_told: AtomicBool,
    sender: watch::Sender<Standing>,
}

impl EventLog {
    fn note(&self, event: &Event) {
        let server = &self.server;
        match event {
            Event::Connected => {
                self.failure_told.store(false, Relaxed);
                self.sender.send_modify(|standing| {
                    standing.connected = true;
                    standing.times += 1;
                });
                tracing::info!(%server, "connected to the broker");
            }
            Event::Disconnected | Event::Closed => {
                self.sender.send_modify(|standing| standing.connected = false);
                tracing::warn!(%server, "lost the connection to the broker; reconnecting");
            }
            Event::ClientError(error) if !self.failure_told.swap(true, Relaxed) => {
                tracing::warn!(%server, %error, "failed to connect to the broker; trying again until it is there");
            }
            Event::ServerError(error) => tracing::warn!(%server, %error, "the broker reports an error"),
            Event::LameDuckMode => tracing::info!(%server, "the broker is about to end"),
            // Its messages come again when their time for an answer is up.
            Event::SlowConsumer(_) => tracing::warn!(%server, "messages came faster than they were taken"),
            Event::ClientError(_) | Event::Draining => {
                tracing::debug!(%server, %event, "an event of the connection")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_at_once_and_later_ones_wait_up_to_the_cap() {
        let most = Duration::from_secs(2);
        assert_eq!(reconnect_delay(1, most), Duration::ZERO);
        for (attempts, expected) in [(2, 50), (3, 100), (5, 400), (8, 2_000), (1_000_000, 2_000)] {
            let (wait, expected) = (reconnect_delay(attempts, most), Duration::from_millis(expected));
            assert!(
                wait <= expected && wait >= expected / 2,
                "{wait:?} after {attempts}"
            );
        }
    }

    #[tokio::test]
    async fn a_link_tells_a_new_connection_from_the_one_it_watches() {
        let (sender, standing) = watch::channel(Standing::default());
        let events = EventLog {
            server: String::new(),
            failure_told: AtomicBool::new(false),
            sender,
        };
        let mut link = Link { standing, seen: 0 };
        let a_moment = Duration::from_millis(20);
        assert!(!link.connected(a_moment).await);
        events.note(&Event::Connected);
        assert!(link.connected(a_moment).await);
        assert!(timeout(a_moment, link.replaced()).await.is_err());
        events.note(&Event::Disconnected);
        assert!(timeout(a_moment, link.replaced()).await.is_err());
        assert!(!link.connected(a_moment).await);
        events.note(&Event::Connected);
        assert!(timeout(a_moment, link.replaced()).await.is_ok());
    }
}
