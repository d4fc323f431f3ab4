//! The real PostgreSQL, the real nats-server and the replicas of one run, and what is done to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::sleep;
use xtask::account::Account;
use xtask::folders;
use xtask::process::{ProcessId, Signal};
use xtask::servers::{Binaries, Durability, Nats, Postgres, Role, Running};
use xtask::watchdog::Watchdog;

use super::broker;
use super::checker::{Violation, ViolationKind};
use super::family::Frozen;
use super::faults::{Fault, FaultKind};
use super::proxy::{Passage, Proxy};
use super::replica::Replica;

/// How long a server may take to stop before the watchdog kills it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that runs. All of it is stopped, and its data are removed, when this is dropped, however that comes.
#[derive(Debug)]
pub(super) struct World {
    /// The replicas.
    pub(super) replicas: Vec<Replica>,
    postgres: Postgres,
    postgres_url: String,
    postgres_runs: tokio::sync::Mutex<Running>,
    nats: Nats,
    nats_runs: tokio::sync::Mutex<Running>,
    /// What was found while faults were injected.
    found: Mutex<Vec<Violation>>,
    starts: AtomicU32,
    logs: PathBuf,
    // Last, so that it is dropped last: it stops what is left.
    watchdog: Mutex<Watchdog>,
}

impl World {
    /// Starts everything on free ports, with nothing in it. Logs are written to `logs`.
    ///
    /// PostgreSQL has fsync on. The broker has its default `sync_interval` of two minutes: it hands each message to the operating
    /// system before it acknowledges it, and a killed process loses nothing of that. Only a machine that loses power
    /// does, which nothing here can do, so `always` would only make fewer messages to lose.
    ///
    /// # Errors
    ///
    /// Where something does not start.
    pub(super) async fn start(
        binaries: Binaries,
        service: &Path,
        replicas: usize,
        other_settings: &[(String, String)],
        logs: &Path,
    ) -> Result<Arc<World>> {
        let mut watchdog = Watchdog::start()?;
        let account = Account::for_postgres();
        let folder = folders::temporary("order-tracker-chaos", &account)?;
        // Told first, and so done last.
        watchdog.remove_at_end(&folder)?;
        let postgres = Postgres {
            binaries: binaries.postgres,
            account,
            data: folder.join("postgres"),
            log: logs.join("postgres-0.log"),
            durability: Durability::Kept,
            settings: Vec::new(),
        };
        let nats = Nats {
            binary: binaries.nats,
            store: folder.join("nats"),
            log: logs.join("nats-0.log"),
        };
        let started = tokio::task::spawn_blocking(move || {
            // Not a secret: the server is gone in minutes, and reachable from this machine only.
            postgres.prepare(Role::Owner, "chaos")?;
            let postgres_runs = postgres.start(None, |started| {
                watchdog.stop_at_end(&started.process, Postgres::STOP, PATIENCE)
            })?;
            let nats_runs = nats.start(None, |started| {
                watchdog.stop_at_end(&started.process, Nats::STOP, PATIENCE)
            })?;
            anyhow::Ok((postgres, postgres_runs, nats, nats_runs, watchdog))
        });
        let (postgres, postgres_runs, nats, nats_runs, watchdog) = started.await??;

        let postgres_url = Postgres::url(&postgres_runs, "chaos");
        let mut prepared = Vec::new();
        for index in 0..replicas {
            let ways = (
                Proxy::open(postgres_runs.address()).await?,
                Proxy::open(nats_runs.address()).await?,
            );
            let log = logs.join(format!("replica-{index}.log"));
            prepared.push(Replica::new(
                service,
                &folder,
                log,
                &postgres_url,
                ways,
                other_settings,
            )?);
        }
        let world = Arc::new(World {
            replicas: prepared,
            postgres,
            postgres_url,
            postgres_runs: tokio::sync::Mutex::new(postgres_runs),
            nats,
            nats_runs: tokio::sync::Mutex::new(nats_runs),
            found: Mutex::default(),
            starts: AtomicU32::new(0),
            logs: logs.to_path_buf(),
            watchdog: Mutex::new(watchdog),
        });
        for index in 0..replicas {
            world.start_replica(index).await?;
        }
        Ok(world)
    }

    /// Where PostgreSQL is reached directly.
    pub(super) fn postgres_url(&self) -> &str {
        &self.postgres_url
    }

    /// Where the broker is reached directly.
    pub(super) async fn nats_url(&self) -> String {
        format!("nats://{}", self.nats_runs.lock().await.address())
    }

    /// Injects a fault and ends it again: returns when all is as it was before.
    ///
    /// # Errors
    ///
    /// Where something cannot be stopped or started, which is a fault of ours and not a finding.
    pub(super) async fn inject(self: &Arc<Self>, fault: Fault) -> Result<()> {
        let Fault { replica, lasts, .. } = fault;
        match fault.kind {
            FaultKind::KillReplica => {
                self.replicas[replica].kill().await?;
                sleep(lasts).await;
                self.start_replica(replica).await
            }
            FaultKind::StopReplica => self.stop_replica(replica).await,
            FaultKind::FreezeReplica => {
                if let Some(process) = self.replicas[replica].process().await {
                    self.freeze(&process, lasts).await?;
                }
                Ok(())
            }
            FaultKind::KillPostgres => self.restart_postgres(Signal::KILL, lasts).await,
            FaultKind::RestartPostgres => self.restart_postgres(Postgres::STOP, lasts).await,
            FaultKind::FreezePostgres => {
                let running = self.postgres_runs.lock().await;
                self.freeze(&running.process, lasts).await
            }
            FaultKind::KillNats => self.restart_nats(Signal::KILL, lasts, |_| Ok(())).await,
            FaultKind::RestartNats => self.restart_nats(Nats::STOP, lasts, |_| Ok(())).await,
            FaultKind::FreezeNats => {
                let running = self.nats_runs.lock().await;
                self.freeze(&running.process, lasts).await
            }
            FaultKind::CutPostgres | FaultKind::SilencePostgres | FaultKind::DelayPostgres => {
                disturb(&self.replicas[replica].postgres, &fault).await;
                Ok(())
            }
            FaultKind::CutNats | FaultKind::SilenceNats => {
                disturb(&self.replicas[replica].nats, &fault).await;
                Ok(())
            }
            FaultKind::DeleteConsumer => broker::delete_consumer(&self.nats_url().await).await,
            FaultKind::RecreateStream => broker::delete_stream(&self.nats_url().await).await,
            FaultKind::RestoreStore => self.restore_store().await,
        }
    }

    /// Whether there is a copy of the broker's store to go back to.
    pub(super) fn has_copy(&self) -> bool {
        self.copy().exists()
    }

    /// Keeps a copy of the broker's store as it is now. The broker is stopped for that.
    ///
    /// # Errors
    ///
    /// Where it cannot be stopped, copied or started.
    pub(super) async fn copy_store(self: &Arc<Self>) -> Result<()> {
        let copy = self.copy();
        self.restart_nats(Nats::STOP, Duration::ZERO, move |store| copy_folder(store, &copy))
            .await
    }

    /// Forgets the copy: the stream it belongs to is gone for good.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed.
    pub(super) fn forget_copy(&self) -> Result<()> {
        if self.has_copy() {
            fs::remove_dir_all(self.copy()).context("cannot remove the copy of the broker's store")?;
        }
        Ok(())
    }

    /// What was found beside what the checker finds: replicas that ended or panicked. A replica that ended is started again.
    ///
    /// # Errors
    ///
    /// Where it cannot be.
    pub(super) async fn findings(self: &Arc<Self>) -> Result<Vec<Violation>> {
        let mut found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, replica) in self.replicas.iter().enumerate() {
            if let Some(status) = replica.ended_by_itself().await {
                let text = format!("replica {index} ended by itself: {status}");
                found.push(Violation::new(ViolationKind::Wrong, text));
                self.start_replica(index).await?;
            }
            let panics = replica.panics().into_iter();
            found.extend(panics.map(|panic| {
                Violation::new(ViolationKind::Wrong, format!("replica {index} panicked: {panic}"))
            }));
        }
        Ok(found)
    }

    async fn start_replica(&self, index: usize) -> Result<()> {
        self.replicas[index]
            .start(|process| self.stop_at_end(process, Signal::KILL))
            .await
    }

    async fn stop_replica(&self, index: usize) -> Result<()> {
        match self.replicas[index].terminate().await? {
            Some(status) if status.success() => {}
            ended => {
                let how = ended.map_or("not at all".to_owned(), |status| status.to_string());
                let text = format!("replica {index} was asked to end and ended with {how}");
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push(Violation::new(ViolationKind::Wrong, text));
            }
        }
        self.start_replica(index).await
    }

    async fn freeze(&self, process: &ProcessId, lasts: Duration) -> Result<()> {
        let frozen = Frozen::freeze(process, |child| self.stop_at_end(child, Signal::KILL))?;
        sleep(lasts).await;
        drop(frozen);
        Ok(())
    }

    async fn restart_postgres(self: &Arc<Self>, how: Signal, lasts: Duration) -> Result<()> {
        let mut running = self.postgres_runs.lock().await;
        stop(running.process.clone(), how).await?;
        sleep(lasts).await;
        let server = Postgres {
            log: self.next_log("postgres"),
            ..self.postgres.clone()
        };
        let (world, port) = (Arc::clone(self), running.port);
        let started = tokio::task::spawn_blocking(move || {
            server.start(Some(port), |started| {
                world.stop_at_end(&started.process, Postgres::STOP)
            })
        });
        *running = started.await??;
        Ok(())
    }

    /// Stops the broker, has `meanwhile` do something with its store, and starts it again.
    async fn restart_nats(
        self: &Arc<Self>,
        how: Signal,
        lasts: Duration,
        meanwhile: impl FnOnce(&Path) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut running = self.nats_runs.lock().await;
        stop(running.process.clone(), how).await?;
        sleep(lasts).await;
        let server = Nats {
            log: self.next_log("nats"),
            ..self.nats.clone()
        };
        let (world, port) = (Arc::clone(self), running.port);
        let started = tokio::task::spawn_blocking(move || {
            meanwhile(&server.store)?;
            server.start(Some(port), |started| {
                world.stop_at_end(&started.process, Nats::STOP)
            })
        });
        *running = started.await??;
        Ok(())
    }

    async fn restore_store(self: &Arc<Self>) -> Result<()> {
        let copy = self.copy();
        self.restart_nats(Signal::KILL, Duration::ZERO, move |store| {
            fs::remove_dir_all(store).context("cannot remove the broker's store")?;
            fs::rename(&copy, store).context("cannot put the older store in its place")
        })
        .await
    }

    fn copy(&self) -> PathBuf {
        self.nats.store.with_extension("copy")
    }

    fn stop_at_end(&self, process: &ProcessId, signal: Signal) -> Result<()> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if signal == Signal::KILL {
            Duration::ZERO
        } else {
            PATIENCE
        };
        watchdog.stop_at_end(process, signal, patience)
    }

    /// A log of its own for every start: a server begins its log anew.
    fn next_log(&self, name: &str) -> PathBuf {
        let number = 1 + self.starts.fetch_add(1, Ordering::Relaxed);
        self.logs.join(format!("{name}-{number}.log"))
    }
}

async fn stop(process: ProcessId, how: Signal) -> Result<()> {
    tokio::task::spawn_blocking(move || process.stop(how, Duration::from_secs(20))).await??;
    Ok(())
}

async fn disturb(way: &Proxy, fault: &Fault) {
    way.set(match fault.kind {
        FaultKind::CutPostgres | FaultKind::CutNats => Passage::Cut,
        FaultKind::DelayPostgres => Passage::Late,
        _ => fault.silence,
    });
    sleep(fault.lasts).await;
    if fault.cut_after {
        way.set(Passage::Cut);
        sleep(Duration::from_millis(20)).await;
    }
    way.set(Passage::Open);
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}
