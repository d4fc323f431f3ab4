//! One replica: the real binary, in a process of its own, behind proxies of its own.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use xtask::ports;
use xtask::process::ProcessId;

use super::proxy::Proxy;

/// How long the service may take to end, by its setting, and some more for a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// The settings of all replicas: every wait scaled down from what `.env.example` says, so that a round is short.
///
/// The lease bounds how old an answer may be, and so is what the checker goes by: see [`LEASE`].
const SETTINGS: &[(&str, &str)] = &[
    ("HTTP__WORKERS", "1"),
    ("CACHE__LEASE", "1s"),
    ("READ__JOIN_WITHIN", "400ms"),
    ("READ__DEADLINE", "800ms"),
    ("READ__PROBE_EVERY", "200ms"),
    ("FOLLOWER__POLL", "200ms"),
    ("FOLLOWER__LOOK_DEADLINE", "700ms"),
    ("POSTGRES__CONNECT_TIMEOUT", "500ms"),
    ("POSTGRES__CREATE_TIMEOUT", "1s"),
    ("POSTGRES__WAIT_TIMEOUT", "1s"),
    ("POSTGRES__RECYCLE_TIMEOUT", "300ms"),
    ("POSTGRES__TCP_USER_TIMEOUT", "2s"),
    ("POSTGRES__KEEPALIVES_IDLE", "2s"),
    ("POSTGRES__BATCH_DEADLINE", "1500ms"),
    ("POSTGRES__READ_DEADLINE", "700ms"),
    ("POSTGRES__LOG_DEADLINE", "600ms"),
    ("POSTGRES__BULK_DEADLINE", "3s"),
    ("POSTGRES__LOCK_TIMEOUT", "500ms"),
    ("POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT", "1s"),
    ("NATS__ACK_WAIT", "2s"),
    ("NATS__PULL_MESSAGES", "200"),
    ("NATS__PULL_EXPIRES", "1s"),
    ("NATS__HEARTBEAT", "400ms"),
    ("NATS__PING_INTERVAL", "500ms"),
    ("NATS__CONNECT_TIMEOUT", "1s"),
    ("NATS__RECONNECT_AT_MOST", "300ms"),
    ("NATS__REQUEST_TIMEOUT", "1s"),
    ("INGEST__BATCH__MESSAGES", "100"),
    ("INGEST__PROGRESS_EVERY", "500ms"),
    ("INGEST__ACKNOWLEDGE_WITHIN", "500ms"),
    ("INGEST__FINISH_WITHIN", "2s"),
    ("INGEST__RETRY_AT_MOST", "500ms"),
    ("SHUTDOWN__DRAIN_DELAY", "200ms"),
    ("SHUTDOWN__DEADLINE", "8s"),
    ("LOG__FORMAT", "json"),
    ("LOG__FILTER", "info,order_domain=debug,order_nats=debug"),
];

/// The lease in [`SETTINGS`]: no answer may be older than this, but those marked by `Age`.
pub(super) const LEASE: Duration = Duration::from_secs(1);

/// A replica with all that is needed to start it again. Killed when it is dropped.
#[derive(Debug)]
pub(super) struct Replica {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    /// Its way to PostgreSQL.
    pub(super) postgres: Proxy,
    /// Its way to the broker.
    pub(super) nats: Proxy,
    /// The process; `None` while it is down.
    child: tokio::sync::Mutex<Option<Child>>,
}

impl Replica {
    /// Prepares a replica that runs in `folder` and reaches its servers through these ways. `other_settings` win over our own.
    ///
    /// # Errors
    ///
    /// Where there is no free port.
    pub(super) fn new(
        binary: &Path,
        folder: &Path,
        log: PathBuf,
        postgres_url: &str,
        ways: (Proxy, Proxy),
        other_settings: &[(String, String)],
    ) -> Result<Replica> {
        let (postgres, nats) = ways;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::any()?));
        let (before, rest) = postgres_url
            .rsplit_once('@')
            .context("PostgreSQL's URL has no host")?;
        let database = rest.split_once('/').map_or("", |(_, database)| database);
        let own = [
            (
                "POSTGRES__URL",
                format!("{before}@{}/{database}", postgres.address()),
            ),
            ("NATS__URL", format!("nats://{}", nats.address())),
            ("HTTP__ADDRESS", address.to_string()),
            ("MANAGEMENT__ADDRESS", "127.0.0.1:0".to_owned()),
        ];
        let shared = SETTINGS.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let other = other_settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        Ok(Replica {
            binary: binary.to_path_buf(),
            environment: own
                .into_iter()
                .chain(shared)
                .chain(other)
                .map(|(name, value)| (format!("ORDERS__{name}"), value))
                .collect(),
            folder: folder.to_path_buf(),
            log,
            address,
            postgres,
            nats,
            child: tokio::sync::Mutex::new(None),
        })
    }

    /// Where it answers, whenever it runs.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it, without waiting for anything.
    ///
    /// # Errors
    ///
    /// Where it cannot be started, or `started` fails.
    pub(super) async fn start(&self, started: impl FnOnce(&ProcessId) -> Result<()>) -> Result<()> {
        let child = Command::new(&self.binary)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            // Ctrl-C in the terminal reaches us and not it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::from(self.append()?))
            .stderr(Stdio::from(self.append()?))
            .kill_on_drop(true)
            .spawn()
            .context("cannot run order-tracker")?;
        started(&ProcessId::of(
            child.id().context("order-tracker has no process")?,
        )?)?;
        *self.child.lock().await = Some(child);
        Ok(())
    }

    /// Its process, while there is one.
    pub(super) async fn process(&self) -> Option<ProcessId> {
        let pid = self.child.lock().await.as_ref()?.id()?;
        ProcessId::of(pid).ok()
    }

    /// `kill -9`.
    ///
    /// # Errors
    ///
    /// Where it cannot be killed.
    pub(super) async fn kill(&self) -> Result<()> {
        match self.child.lock().await.take() {
            Some(mut child) => child.kill().await.context("cannot kill order-tracker"),
            None => Ok(()),
        }
    }

    /// SIGTERM. Answers how it ended; `None` where it did not in time, and was killed.
    ///
    /// # Errors
    ///
    /// Where it cannot be signalled.
    pub(super) async fn terminate(&self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.lock().await.take() else {
            return Ok(None);
        };
        if let Some(process) = child.id().and_then(|pid| ProcessId::of(pid).ok()) {
            process.signal(xtask::process::Signal::TERM)?;
        }
        match timeout(ENDS_WITHIN, child.wait()).await {
            Ok(status) => Ok(Some(status?)),
            Err(_) => {
                child.kill().await?;
                Ok(None)
            }
        }
    }

    /// How it ended, where it did by itself.
    pub(super) async fn ended_by_itself(&self) -> Option<ExitStatus> {
        let mut slot = self.child.lock().await;
        let status = slot.as_mut()?.try_wait().ok()??;
        *slot = None;
        Some(status)
    }

    /// What it logged of panics.
    pub(super) fn panics(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let lines = String::from_utf8_lossy(&log);
        let panics = lines.lines().filter(|line| line.contains("panicked at"));
        panics.map(str::to_owned).collect()
    }

    fn append(&self) -> Result<File> {
        let file = OpenOptions::new().append(true).create(true).open(&self.log);
        file.with_context(|| format!("cannot write {}", self.log.display()))
    }
}
