//! The servers that figures are measured on, and the service on them.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use order_nats::{NatsOrderBus, NatsSettings};
use order_postgres::PostgresSettings;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, NoTls};
use xtask::account::Account;
use xtask::load::Endpoint;
use xtask::process::{ProcessId, Signal};
use xtask::progress::Progress;
use xtask::servers::{Binaries, Durability, ThrowAway};
use xtask::watchdog::Watchdog;
use xtask::{cpu, folders, ports, wheels};

use super::figure::{Cost, Cpu};
use super::http;
use crate::stress::environment::{Environment, of_postgres};

/// How long anything may take that only has to happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// A PostgreSQL with fsync and a nats-server, and the binaries to measure on them.
pub(super) struct World {
    servers: ThrowAway,
    /// The programs of PostgreSQL, pgbench among them.
    pub(super) binaries: Binaries,
    service: PathBuf,
    /// The bare handler.
    pub(super) bare: PathBuf,
    folder: PathBuf,
    // Last, since it removes the folder when it is dropped.
    watchdog: Watchdog,
}

/// The names under which one run keeps its data, so that runs on the same servers do not meet.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The schema with its tables, and the consumer.
    pub(super) schema: String,
    /// The stream its orders come from, and the subject.
    pub(super) stream: String,
}

impl Names {
    pub(super) fn new(schema: &str, stream: &str) -> Self {
        Names {
            schema: schema.to_owned(),
            stream: stream.to_owned(),
        }
    }
}

impl World {
    /// Starts the servers, PostgreSQL with these settings. Takes seconds, and blocks.
    pub(super) fn start(service: PathBuf, bare: PathBuf, settings: &[String]) -> Result<World> {
        let progress = Progress::new(2);
        progress.begin("Finding PostgreSQL and nats-server");
        let account = Account::for_postgres();
        let binaries = Binaries::find(&account, &progress)?;
        progress.end();
        progress.begin("Starting them, with fsync on");
        let mut watchdog = Watchdog::start()?;
        let folder = folders::temporary("order-tracker-bench", &account)?;
        watchdog.remove_at_end(&folder)?;
        let servers = ThrowAway::start(&binaries, account, Durability::Kept, settings, &mut watchdog)?;
        progress.end();
        Ok(World {
            servers,
            binaries,
            service,
            bare,
            folder,
            watchdog,
        })
    }

    /// A folder for what is gone after the run.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where PostgreSQL is reached.
    pub(super) fn postgres_url(&self) -> &str {
        &self.servers.postgres_url
    }

    /// The settings of an adapter on these servers, with one connection to store on.
    pub(super) fn postgres_settings(&self, schema: &str) -> Result<PostgresSettings> {
        let settings = json!({"url": self.servers.postgres_url, "schema": schema, "ingest_connections": 1});
        serde_json::from_value(settings).context("the settings of the adapter have changed")
    }

    /// The same of the broker's.
    pub(super) fn nats_settings(&self, names: &Names) -> Result<NatsSettings> {
        let settings = json!({
            "url": self.servers.nats_url(),
            "stream": names.stream,
            "subject": names.stream,
            "consumer": names.schema,
        });
        serde_json::from_value(settings).context("the settings of the adapter have changed")
    }

    /// A bus on these servers, whose stream is made when it is first subscribed to.
    pub(super) async fn bus(&self, names: &Names) -> Result<NatsOrderBus> {
        Ok(NatsOrderBus::connect(self.nats_settings(names)?).await?)
    }

    /// A connection to the database, looking into `schema` first.
    pub(super) async fn database(&self, schema: &str) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.servers.postgres_url, NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(&format!("SET search_path TO {schema}"))
            .await?;
        Ok(client)
    }

    /// The same, where the tables are there and what earlier work left to be written is on disk, so that the next does not pay for it.
    pub(super) async fn rested(&self, schema: &str) -> Result<Client> {
        order_postgres::migrate(&self.postgres_settings(schema)?).await?;
        let database = self.database(schema).await?;
        database.batch_execute("CHECKPOINT").await?;
        Ok(database)
    }

    /// The same on filled tables: what vacuum would do in its own time is done, too.
    pub(super) async fn settled(&self, schema: &str) -> Result<Client> {
        let database = self.database(schema).await?;
        database.batch_execute("VACUUM ANALYZE").await?;
        database.batch_execute("CHECKPOINT").await?;
        Ok(database)
    }

    /// Gives PostgreSQL segments of its log to use again, as it has where it has run for a while. In a cluster that is new it fills each with
    /// zeros first and syncs it, and whatever commits just then waits for that: 10 to 20 ms every few seconds.
    pub(super) async fn with_used_log(&self) -> Result<()> {
        const MESSAGE: &str = "SELECT pg_logical_emit_message(false, 'bench', repeat('.', 1024 * 1024))";
        const MEGABYTES: usize = 512;
        let database = self.database("public").await?;
        for _ in 0..MEGABYTES {
            database.batch_execute(MESSAGE).await?;
        }
        Ok(database.batch_execute("CHECKPOINT").await?)
    }

    /// Removes what a run has stored.
    pub(super) async fn forget(&self, schema: &str) -> Result<()> {
        let database = self.database("public").await?;
        let drop = format!("DROP SCHEMA {schema} CASCADE");
        Ok(database.batch_execute(&drop).await?)
    }

    /// What the figures are measured on: none means anything without.
    pub(super) async fn environment(&self) -> Result<Environment> {
        let is_debug = self.service.components().any(|part| part.as_os_str() == "debug");
        let mut environment = Environment::of_this_machine();
        environment.service = if is_debug { "debug" } else { "release" }.to_owned();
        environment.postgres = of_postgres(&self.database("public").await?).await;
        environment.nats = format!("{}, sync every 2 min (its default)", self.servers.nats.version);
        Ok(environment)
    }

    /// Begins to measure what servers, services and this program take.
    pub(super) fn meter(&self, services: &[&Service]) -> Meter {
        Meter {
            before: self.cpu(services),
            began: Instant::now(),
        }
    }

    fn cpu(&self, services: &[&Service]) -> Cpu {
        let of = |process| cpu::of_family(process).unwrap_or_default();
        Cpu {
            service: services.iter().map(|service| of(&service.process)).sum(),
            postgres: of(&self.servers.postgres.process),
            nats: of(&self.servers.nats.process),
            client: cpu::of_this_process(),
        }
    }

    /// Starts the service without waiting for anything. Settings are given without `ORDERS__`; the later ones win.
    pub(super) fn service(&mut self, names: &Names, settings: &[(String, String)]) -> Result<Service> {
        let (port, management) = (ports::any()?, ports::any()?);
        let own = [
            ("POSTGRES__URL", self.servers.postgres_url.clone()),
            ("POSTGRES__SCHEMA", names.schema.clone()),
            ("NATS__URL", self.servers.nats_url()),
            ("NATS__STREAM", names.stream.clone()),
            ("NATS__SUBJECT", names.stream.clone()),
            ("NATS__CONSUMER", names.schema.clone()),
            ("HTTP__ADDRESS", format!("127.0.0.1:{port}")),
            ("MANAGEMENT__ADDRESS", format!("127.0.0.1:{management}")),
            // Nobody balances requests over it.
            ("SHUTDOWN__DRAIN_DELAY", "0s".to_owned()),
        ];
        let others = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let environment: HashMap<String, String> = own
            .into_iter()
            .chain(others)
            .map(|(name, value)| (format!("ORDERS__{name}"), value))
            .collect();
        let log = self.folder.join(format!("service-{port}.log"));
        let mut command = Command::new(&self.service);
        command
            .env_clear()
            .envs(environment)
            .current_dir(&self.folder)
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let (child, process) = self.spawn(&mut command).context("cannot run order-tracker")?;
        Ok(Service {
            child,
            process,
            log,
            port,
            management,
        })
    }

    /// Starts a program that ends with this one, however that ends.
    pub(super) fn spawn(&mut self, command: &mut Command) -> Result<(Child, ProcessId)> {
        // Ctrl-C in the terminal reaches us and not it.
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let process = ProcessId::of(child.id().context("it has no process")?)?;
        self.watchdog
            .stop_at_end(&process, Signal::TERM, Duration::from_secs(5))?;
        Ok((child, process))
    }
}

/// What was taken when something began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    before: Cpu,
    began: Instant,
}

impl Meter {
    /// What was taken since. Services that were not there at the beginning count from their start.
    pub(super) fn read(&self, world: &World, services: &[&Service]) -> Cost {
        self.read_at(Instant::now(), world, services)
    }

    /// The same, where the end was seen at `end`.
    pub(super) fn read_at(&self, end: Instant, world: &World, services: &[&Service]) -> Cost {
        Cost {
            wall: end - self.began,
            cpu: world.cpu(services).since(&self.before),
        }
    }
}

/// A running service, or a bare server in its place. Killed when it is dropped.
pub(super) struct Service {
    pub(super) child: Child,
    pub(super) process: ProcessId,
    pub(super) log: PathBuf,
    /// Where it answers, on 127.0.0.1.
    pub(super) port: u16,
    /// Where it answers its operators.
    pub(super) management: u16,
}

impl Service {
    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        Endpoint::new(&format!("http://127.0.0.1:{}", self.port))
    }

    /// Waits until the service has stored so many changes, by its own log of commits. Answers when that was seen.
    pub(super) async fn stored(&mut self, database: &Client, changes: u64) -> Result<Instant> {
        let patience = Instant::now() + PATIENCE;
        // Prepared, since what it takes of PostgreSQL is counted, too.
        let sum = database
            .prepare("SELECT coalesce(sum(changes), 0)::bigint FROM commit_log")
            .await?;
        loop {
            let stored: i64 = database.query_one(&sum, &[]).await?.get(0);
            if stored >= i64::try_from(changes)? {
                return Ok(Instant::now());
            }
            self.check(patience, &format!("{stored} of {changes} orders were stored"))?;
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until its cache holds so many orders and is proven. Answers when that was seen.
    pub(super) async fn warm(&mut self, orders: u64) -> Result<Instant> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let report = http::get(self.management, "/readyz").await;
            let report: serde_json::Value = report
                .ok()
                .and_then(|answer| serde_json::from_slice(&answer.body).ok())
                .unwrap_or_default();
            let cache = &report["cache"];
            if cache["proven"] == true && cache["orders"].as_u64() >= Some(orders) {
                return Ok(Instant::now());
            }
            self.check(patience, &format!("not warm: {report}"))?;
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Gives up where the service has ended, or takes too long.
    fn check(&mut self, patience: Instant, state: &str) -> Result<()> {
        let ended = self.child.try_wait()?;
        if ended.is_some() || Instant::now() > patience {
            let what = ended.map_or("gave up".to_owned(), |status| format!("it ended with {status}"));
            let log = std::fs::read(&self.log).unwrap_or_default();
            bail!(
                "order-tracker: {what}, {state}; its log ends with:\n{}",
                wheels::last_lines(&log, 5)
            );
        }
        Ok(())
    }

    /// Ends it in order.
    pub(super) async fn end(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.child.wait().await?;
        Ok(())
    }
}
