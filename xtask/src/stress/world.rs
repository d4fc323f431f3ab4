//! The service under load and its servers: those that run already, or throw-away ones.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use xtask::account::Account;
use xtask::load::Endpoint;
use xtask::process::{ProcessId, Signal};
use xtask::progress::Progress;
use xtask::servers::{Binaries, Durability, Nats, Postgres, Role, http_status};
use xtask::watchdog::Watchdog;
use xtask::{environment, folders, ports};

use super::args::Place;
use super::broker::Broker;
use super::database::Database;
use super::environment::{Environment, of_postgres};
use crate::seed::broker::settings_of;

/// How long a server may take to stop before the watchdog kills it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the service may take: its own deadline is 25 s.
const SERVICE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the service may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a run works on.
#[derive(Debug)]
pub(super) struct World {
    /// Where orders are asked for.
    pub(super) endpoint: Endpoint,
    /// Where orders are published, if they can be.
    pub(super) broker: Option<Broker>,
    /// Where their rows are, if that is known.
    pub(super) database: Option<Database>,
    /// Processes whose CPU time is told, by name.
    pub(super) processes: Vec<(&'static str, ProcessId)>,
    nats_sync: &'static str,
    /// The names of this run on servers that stay: removed at its end.
    on_given: Given,
    watchdog: Mutex<Watchdog>,
}

/// Which servers are not ours.
#[derive(Debug, Clone, Copy, Default)]
struct Given {
    nats: bool,
    postgres: bool,
}

/// What is wanted of a service that is started.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Its binary; none where --url names one that runs.
    pub(super) service: Option<PathBuf>,
    /// The bytes that its cache may hold, where misses are wanted.
    pub(super) cache_bytes: Option<u64>,
    /// The name of this run.
    pub(super) run: String,
    /// The folder for logs.
    pub(super) logs: PathBuf,
}

impl World {
    /// Finds or starts everything. Takes seconds, and blocks.
    ///
    /// # Errors
    ///
    /// Where something cannot be started or used.
    pub(super) fn start(place: &Place, wanted: &Wanted) -> Result<World> {
        let mut watchdog = Watchdog::start()?;
        if let Some(url) = &place.url {
            let broker = place.nats.as_deref().map(given_broker).transpose()?;
            let schema = environment::variable("ORDERS__POSTGRES__SCHEMA");
            let database = place.postgres.clone().map(|url| Database {
                url,
                schema: schema.unwrap_or_else(|| "order_tracker".to_owned()),
            });
            return Ok(World {
                endpoint: Endpoint::new(url)?,
                broker,
                database,
                processes: Vec::new(),
                nats_sync: "not told by the broker",
                on_given: Given::default(),
                watchdog: Mutex::new(watchdog),
            });
        }
        let service = wanted.service.as_deref().context("there is no service to run")?;
        let given = Given {
            nats: place.nats.is_some(),
            postgres: place.postgres.is_some(),
        };
        let mut servers = Servers::new(place, &wanted.logs, &mut watchdog)?;
        let schema = format!("stress_{}", wanted.run);
        let names = json!({
            "url": servers.nats_url,
            "stream": format!("STRESS-{}", wanted.run),
            "subject": format!("stress-{}", wanted.run),
            "consumer": "stress",
        });
        let endpoint = start_service(
            service,
            place,
            wanted,
            &mut servers,
            &names,
            &schema,
            &mut watchdog,
        )?;
        Ok(World {
            endpoint,
            broker: Some(Broker {
                settings: serde_json::from_value(names).context("the broker's URL is none")?,
                url: servers.nats_url,
            }),
            database: Some(Database {
                url: servers.postgres_url,
                schema,
            }),
            processes: servers.processes,
            nats_sync: if given.nats {
                "not told by the broker"
            } else {
                "every 2 min (its default)"
            },
            on_given: given,
            watchdog: Mutex::new(watchdog),
        })
    }

    /// Has a process stopped should this one be killed.
    ///
    /// # Errors
    ///
    /// Where the watchdog has gone.
    pub(super) fn stop_at_end(&self, process: &ProcessId) -> Result<()> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.stop_at_end(process, Signal::TERM, Duration::from_secs(2))
    }

    /// On what it runs.
    pub(super) async fn environment(&self, place: &Place) -> Environment {
        let mut environment = Environment::of_this_machine();
        environment.service = match (&place.url, &place.service) {
            (Some(_), _) => "one that ran already".to_owned(),
            (None, Some(binary)) if binary.components().any(|part| part.as_os_str() == "debug") => {
                "debug".to_owned()
            }
            (None, Some(binary)) if binary.components().any(|part| part.as_os_str() == "release") => {
                "release".to_owned()
            }
            (None, _) => "as given".to_owned(),
        };
        environment.postgres = match &self.database {
            Some(database) => match database.connect().await {
                Ok(client) => of_postgres(&client).await,
                Err(error) => format!("not known: {error}"),
            },
            None => "not known".to_owned(),
        };
        environment.nats = match &self.broker {
            Some(broker) => match broker.version().await {
                Ok(version) => format!("{version}, sync {}", self.nats_sync),
                Err(error) => format!("not known: {error}"),
            },
            None => "not known".to_owned(),
        };
        environment
    }

    /// Stops what was started, and removes what was made on servers that stay.
    ///
    /// # Errors
    ///
    /// Where something of that is left behind.
    pub(super) async fn stop(self) -> Result<()> {
        let World {
            watchdog,
            broker,
            database,
            on_given,
            ..
        } = self;
        // It stops the last first, and so the service before its servers.
        tokio::task::spawn_blocking(move || drop(watchdog)).await?;
        let stream = async {
            match broker.filter(|_| on_given.nats) {
                Some(broker) => broker.delete_stream().await,
                None => Ok(()),
            }
        };
        let schema = async {
            match database.filter(|_| on_given.postgres) {
                Some(database) => database.drop_schema().await,
                None => Ok(()),
            }
        };
        let (stream, schema) = tokio::join!(stream, schema);
        stream.and(schema)
    }
}

fn given_broker(url: &str) -> Result<Broker> {
    Ok(Broker {
        url: url.to_owned(),
        settings: settings_of(Some(url))?,
    })
}

/// PostgreSQL and NATS, started where they are not given.
struct Servers {
    postgres_url: String,
    nats_url: String,
    processes: Vec<(&'static str, ProcessId)>,
}

impl Servers {
    fn new(place: &Place, logs: &Path, watchdog: &mut Watchdog) -> Result<Servers> {
        let mut servers = Servers {
            postgres_url: place.postgres.clone().unwrap_or_default(),
            nats_url: place.nats.clone().unwrap_or_default(),
            processes: Vec::new(),
        };
        if place.postgres.is_some() && place.nats.is_some() {
            return Ok(servers);
        }
        let progress = Progress::new(3);
        let account = Account::for_postgres();
        progress.begin("Finding PostgreSQL and nats-server");
        let binaries = Binaries::find(&account, &progress)?;
        progress.end();
        let folder = folders::temporary("order-tracker-stress", &account)?;
        // Told first, and so done last.
        watchdog.remove_at_end(&folder)?;
        if place.postgres.is_none() {
            progress.begin("Starting PostgreSQL, with fsync on");
            let postgres = Postgres {
                binaries: binaries.postgres,
                account,
                data: folder.join("postgres"),
                log: logs.join("postgres.log"),
                durability: Durability::Kept,
                settings: Vec::new(),
            };
            // Not a secret: the server is gone in minutes, and reachable from this machine only.
            postgres.prepare(Role::Owner, "stress")?;
            let running = postgres.start(None, |started| {
                watchdog.stop_at_end(&started.process, Postgres::STOP, PATIENCE)
            })?;
            servers.postgres_url = Postgres::url(&running, "stress");
            servers.processes.push(("PostgreSQL", running.process));
            progress.end();
        }
        if place.nats.is_none() {
            progress.begin("Starting nats-server");
            let nats = Nats {
                binary: binaries.nats,
                store: folder.join("nats"),
                log: logs.join("nats.log"),
            };
            let running = nats.start(None, |started| {
                watchdog.stop_at_end(&started.process, Nats::STOP, PATIENCE)
            })?;
            servers.nats_url = format!("nats://{}", running.address());
            servers.processes.push(("nats-server", running.process));
            progress.end();
        }
        Ok(servers)
    }
}

/// Starts the service under names of its own, and waits until it is ready.
fn start_service(
    binary: &Path,
    place: &Place,
    wanted: &Wanted,
    servers: &mut Servers,
    names: &serde_json::Value,
    schema: &str,
    watchdog: &mut Watchdog,
) -> Result<Endpoint> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (http, management) = (address(ports::any()?), address(ports::any()?));
    let name = |key: &str| names[key].as_str().unwrap_or_default().to_owned();
    let mut settings = vec![
        ("HTTP__ADDRESS", http.to_string()),
        ("MANAGEMENT__ADDRESS", management.to_string()),
        ("POSTGRES__URL", servers.postgres_url.clone()),
        ("POSTGRES__SCHEMA", schema.to_owned()),
        ("NATS__URL", servers.nats_url.clone()),
        ("NATS__STREAM", name("stream")),
        ("NATS__SUBJECT", name("subject")),
        ("NATS__CONSUMER", name("consumer")),
        ("LOG__FORMAT", "json".to_owned()),
        // Nobody balances requests over it.
        ("SHUTDOWN__DRAIN_DELAY", "0s".to_owned()),
    ];
    if let Some(bytes) = wanted.cache_bytes {
        settings.push(("CACHE__MAX_BYTES", bytes.to_string()));
    }
    let settings = settings.into_iter().chain(
        place
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let log = wanted.logs.join("service.log");
    let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let progress = Progress::new(1);
    progress.begin("Starting order-tracker");
    let mut child = Account::current()
        .command(binary, &wanted.logs)
        .env_clear()
        .envs(settings.map(|(name, value)| (format!("ORDERS__{name}"), value)))
        .stdin(Stdio::null())
        .stdout(log_file.try_clone()?)
        .stderr(log_file)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let process = ProcessId::of(child.id())?;
    watchdog.stop_at_end(&process, Signal::TERM, SERVICE_PATIENCE)?;
    let begin = Instant::now();
    while http_status(management, "/readyz") != Some(200) {
        if let Some(status) = child.try_wait()? {
            bail!("order-tracker ended by itself: {status}; see {}", log.display());
        }
        if begin.elapsed() > READY_WITHIN {
            bail!(
                "order-tracker is not ready after {} s; see {}",
                READY_WITHIN.as_secs(),
                log.display()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    progress.end();
    // Takes note of its end, whenever that comes.
    std::thread::spawn(move || child.wait());
    servers.processes.insert(0, ("order-tracker", process));
    Endpoint::new(&format!("http://{http}"))
}
