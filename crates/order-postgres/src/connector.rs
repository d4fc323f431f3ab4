//! Opens connections: the host that accepts writes, encrypted where asked, with the session set up.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::failure::{Failure, error_chain};
use crate::settings::PostgresSettings;
use crate::tls;

/// Why the settings cannot serve, whatever the database says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SetupError(pub(crate) String);

/// Opens connections to one database, on one runtime.
///
/// A connection lives on the runtime that opened it: were it that of an HTTP worker, it would die with the worker. So all of
/// them are opened by tasks of one runtime, whoever asks.
pub(crate) struct Connector {
    hosts: Vec<Config>,
    /// The host to try first: the one that answered last.
    preferred: AtomicUsize,
    tls: Option<MakeRustlsConnect>,
    host_timeout: Duration,
    settings: PostgresSettings,
    runtime: Handle,
}

/// An open connection, and the task that reads from it; aborting the task closes it.
pub(crate) type Opened = (Client, JoinHandle<()>);

/// What a connection is for: it is named so in `pg_stat_activity`, and its statements are bounded accordingly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) purpose: &'static str,
    /// How long the server works on a statement that nobody waits for any more. `None` for what writes: a statement that is
    /// cancelled while its commit waits for a standby answers success without having it.
    pub(crate) statement_timeout: Option<Duration>,
}

impl Connector {
    /// Takes the runtime of the caller for all connections. Does not touch the network.
    pub(crate) fn new(settings: &PostgresSettings) -> Result<Arc<Self>, SetupError> {
        let tls = match settings.url.asks_for_tls() {
            true => Some(tls::connector(settings.root_certificates.as_deref())?),
            false => None,
        };
        let runtime = Handle::try_current()
            .map_err(|_| SetupError("connections need a tokio runtime to live on".to_owned()))?;
        Ok(Arc::new(Connector {
            hosts: one_config_a_host(settings),
            preferred: AtomicUsize::new(0),
            tls,
            host_timeout: settings.connect_timeout,
            settings: settings.clone(),
            runtime,
        }))
    }

    /// The same on another runtime.
    pub(crate) fn on(&self, runtime: &Handle) -> Arc<Self> {
        Arc::new(Connector {
            hosts: self.hosts.clone(),
            preferred: AtomicUsize::new(0),
            tls: self.tls.clone(),
            host_timeout: self.host_timeout,
            settings: self.settings.clone(),
            runtime: runtime.clone(),
        })
    }

    pub(crate) fn settings(&self) -> &PostgresSettings {
        &self.settings
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Opens a connection. Dropping the future does not stop the attempt, which ends by itself within its own time.
    ///
    /// `notified` is called with what each notice says on a channel that the connection listens to.
    pub(crate) async fn open(
        self: &Arc<Self>,
        session: Session,
        notified: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Opened, Failure> {
        let connector = Arc::clone(self);
        let attempt = self
            .runtime
            .spawn(async move { connector.try_hosts(session, Arc::new(notified)).await });
        attempt.await.map_err(Failure::unavailable)?
    }

    async fn try_hosts(
        &self,
        session: Session,
        notified: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Opened, Failure> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = Failure::unavailable("no host is known");
        for index in (0..self.hosts.len()).map(|step| (first + step) % self.hosts.len()) {
            let config = &self.hosts[index];
            let opening = self.open_host(config, session, Arc::clone(&notified));
            match timeout(self.host_timeout, opening).await {
                Ok(Ok(opened)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(opened);
                }
                Ok(Err(error)) => failure = error,
                // A host that is frozen takes the connection and then says nothing. Another caller need not wait for it too.
                Err(_) => {
                    let next = (index + 1) % self.hosts.len();
                    let _ =
                        self.preferred
                            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
                    failure = Failure::unavailable(format!("no answer within {:?}", self.host_timeout));
                }
            }
        }
        Err(failure)
    }

    async fn open_host(
        &self,
        config: &Config,
        session: Session,
        notified: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Opened, Failure> {
        match &self.tls {
            Some(tls) => self.set_up(config, tls.clone(), session, notified).await,
            None => self.set_up(config, NoTls, session, notified).await,
        }
    }

    async fn set_up<T>(
        &self,
        config: &Config,
        tls: T,
        session: Session,
        notified: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Opened, Failure>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = config.connect(tls).await?;
        let encoding = connection
            .parameter("server_encoding")
            .unwrap_or("unknown")
            .to_owned();
        let task = AbortOnDrop(Some(tokio::spawn(drive(connection, notified))));
        // Another encoding would refuse characters that an order may hold, and good orders would look like poison.
        if encoding != "UTF8" {
            let reason = format!("the database's encoding is {encoding}; create it with ENCODING 'UTF8'");
            return Err(Failure::other(reason));
        }
        client.batch_execute(&self.session_sql(session)).await?;
        Ok((client, task.keep()))
    }

    fn session_sql(&self, session: Session) -> String {
        let settings = &self.settings;
        let millis = |duration: Duration| duration.as_millis().max(1);
        let mut sql = format!(
            "SET search_path TO {schema}; SET synchronous_commit TO on; SET default_transaction_isolation TO 'read committed'; \
             SET lock_timeout TO {lock}; SET idle_in_transaction_session_timeout TO {idle}; SET statement_timeout TO {statement}; ",
            schema = settings.schema.quoted(),
            lock = millis(settings.lock_timeout),
            idle = millis(settings.idle_in_transaction_timeout),
            statement = session.statement_timeout.map_or(0, millis),
        );
        // Every statement of ours finds its rows by a key. A plan that was made while a table was small, and is kept, must
        // not read the table from end to end once it has grown. Compiling statements this short never pays.
        sql.push_str("SET enable_seqscan TO off; SET jit TO off");
        if settings.url.config().get_application_name().is_none() {
            sql.push_str(&format!(
                "; SET application_name TO 'order-postgres {}'",
                session.purpose
            ));
        }
        sql
    }
}

/// Reads from a connection until it ends.
async fn drive<S, T>(mut connection: Connection<S, T>, notified: Arc<dyn Fn(&str) + Send + Sync>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notice))) => notified(notice.payload()),
            Some(Ok(_)) => {}
            // Whoever uses the connection is told as well, and decides what it means.
            Some(Err(error)) => {
                tracing::debug!(error = error_chain(&error), "a connection to the database ended");
                return;
            }
            None => return,
        }
    }
}

/// Closes a connection whose setting-up failed or was given up.
struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    fn keep(mut self) -> JoinHandle<()> {
        self.0.take().expect("the task is taken once, here")
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// Divides a list of hosts, so that each has a time-out of its own and the one that works can be remembered.
///
/// The driver goes through a list itself, but from its beginning each time: with a frozen host first, a short time-out would
/// never see the second.
fn one_config_a_host(settings: &PostgresSettings) -> Vec<Config> {
    let all = settings.url.config();
    let (names, addresses, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    (0..names.len().max(addresses.len()))
        .map(|index| {
            let mut one = Config::new();
            match names.get(index) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                #[cfg(unix)]
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            if let Some(address) = addresses.get(index) {
                one.hostaddr(*address);
            }
            if let Some(port) = ports.get(index).or(ports.first()) {
                one.port(*port);
            }
            if let Some(user) = all.get_user() {
                one.user(user);
            }
            let apart = settings
                .password
                .as_ref()
                .map(|password| password.reveal().as_bytes());
            if let Some(password) = apart.or(all.get_password()) {
                one.password(password);
            }
            if let Some(name) = all.get_dbname() {
                one.dbname(name);
            }
            if let Some(options) = all.get_options() {
                one.options(options);
            }
            if let Some(name) = all.get_application_name() {
                one.application_name(name);
            }
            one.ssl_mode(all.get_ssl_mode())
                .ssl_negotiation(all.get_ssl_negotiation())
                .channel_binding(all.get_channel_binding())
                .connect_timeout(settings.connect_timeout)
                .tcp_user_timeout(settings.tcp_user_timeout)
                // The system counts in whole seconds, and refuses every connection that asks for none.
                .keepalives_idle(settings.keepalives_idle.max(Duration::from_secs(1)))
                .keepalives_interval((settings.keepalives_idle / 3).max(Duration::from_secs(1)))
                .keepalives_retries(3)
                // A standby reads older versions than were committed, and cannot store: reads go to the primary too.
                .target_session_attrs(TargetSessionAttrs::ReadWrite);
            one
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Password;

    #[test]
    fn each_host_keeps_its_port_and_what_all_share() {
        let url = "postgres://u:p@one:1,two:2/shop?application_name=x"
            .parse()
            .unwrap();
        let hosts = one_config_a_host(&PostgresSettings::new(url));
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts[1].get_hosts(), [Host::Tcp("two".to_owned())]);
        assert_eq!(hosts[1].get_ports(), [2]);
        assert_eq!(
            (hosts[0].get_user(), hosts[0].get_password()),
            (Some("u"), Some(&b"p"[..]))
        );
        assert_eq!(
            (hosts[0].get_dbname(), hosts[0].get_application_name()),
            (Some("shop"), Some("x"))
        );
        let apart = PostgresSettings {
            password: Some(Password::new("apart")),
            ..PostgresSettings::default()
        };
        assert_eq!(one_config_a_host(&apart)[0].get_password(), Some(&b"apart"[..]));
        assert_eq!(hosts[0].get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn a_keepalive_of_no_whole_second_is_not_asked_for() {
        let short = PostgresSettings {
            keepalives_idle: Duration::from_millis(200),
            ..PostgresSettings::default()
        };
        let host = &one_config_a_host(&short)[0];
        let second = Duration::from_secs(1);
        assert_eq!(
            (host.get_keepalives_idle(), host.get_keepalives_interval()),
            (second, Some(second))
        );
    }
}
