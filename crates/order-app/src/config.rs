//! The settings, and the only place that reads the environment.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::http::header::HeaderValue;
use config::{Config, Environment, File, FileFormat};
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use order_domain::{FollowerSettings, IngestSettings, PublishSettings, ReadSettings, WarmUpSettings};
use order_nats::NatsSettings;
use order_postgres::PostgresSettings;
use serde::Deserialize;

/// What every variable begins with.
const PREFIX: &str = "ORDERS__";

/// Settings that hold a secret. Each may also be given as the path of a file, in a variable that ends in `_FILE`.
const SECRETS: [&str; 6] = [
    "POSTGRES__URL",
    "POSTGRES__PASSWORD",
    "NATS__URL",
    "NATS__PASSWORD",
    "NATS__TOKEN",
    "NATS__NKEY",
];

/// Every setting of the service. `.env.example` describes each.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The public listener.
    pub http: HttpSettings,
    /// The operators' listener.
    pub management: ManagementSettings,
    /// The database.
    pub postgres: PostgresSettings,
    /// The broker.
    pub nats: NatsSettings,
    /// The cache.
    pub cache: CacheSettings,
    /// How the cache is warmed after a start.
    pub warm_up: WarmUpSettings,
    /// How orders are read.
    pub read: ReadSettings,
    /// How orders are published that come by HTTP.
    pub publish: PublishSettings,
    /// How orders are taken in.
    pub ingest: IngestSettings,
    /// How the commit log is followed.
    pub follower: FollowerSettings,
    /// What is done before anything else.
    pub startup: StartupSettings,
    /// How the service ends.
    pub shutdown: ShutdownSettings,
    /// The threads.
    pub runtime: RuntimeSettings,
    /// The log.
    pub log: LogSettings,
}

/// The public listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Where it listens; port 0 for any that is free.
    pub address: SocketAddr,
    /// How many threads answer; 0 for one to two cores.
    pub workers: usize,
    /// The most bytes of a request's body.
    pub max_body_bytes: usize,
    /// The most bytes of all bodies in hand; past it a request with a body is turned away with 503.
    pub max_bodies_bytes: usize,
    /// How long a body may take to arrive.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// How many connections may be open at once; more wait to be accepted.
    pub max_connections: usize,
    /// How long a connection may rest between two requests.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// How long a request's head may take to arrive, and a TLS handshake.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long an answer may wait for more of it to be taken.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
    /// How long a request may take, from its head until that of its answer.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// From how long on a request is logged as slow.
    #[serde(with = "duration")]
    pub slow_request: Duration,
    /// Pages of which origins may read the answers.
    pub cors_origins: Origins,
    /// A PEM file of the certificate and those that it hangs on. With its key: the listener speaks TLS.
    pub tls_certificate: Option<PathBuf>,
    /// A PEM file of the certificate's key.
    pub tls_key: Option<PathBuf>,
    /// How often the two are looked at for changes.
    #[serde(with = "duration")]
    pub tls_reload_every: Duration,
    /// The file of access tokens. Without one everyone may do everything, which is only allowed where nobody else comes: on loopback.
    pub tokens_file: Option<PathBuf>,
    /// How often that file is looked at.
    #[serde(with = "duration")]
    pub tokens_poll: Duration,
    /// Serve others without access tokens all the same.
    pub insecure: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        HttpSettings {
            address: (Ipv4Addr::LOCALHOST, 8080).into(),
            workers: 0,
            max_body_bytes: 1024 * 1024,
            max_bodies_bytes: 64 * 1024 * 1024,
            body_timeout: Duration::from_secs(10),
            max_connections: 16_384,
            keep_alive: Duration::from_secs(75),
            head_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(45),
            slow_request: Duration::from_secs(1),
            cors_origins: Origins::default(),
            tls_certificate: None,
            tls_key: None,
            tls_reload_every: Duration::from_mins(1),
            tokens_file: None,
            tokens_poll: Duration::from_secs(1),
            insecure: false,
        }
    }
}

impl HttpSettings {
    /// How many threads answer on this machine.
    ///
    /// # Errors
    ///
    /// It cannot be found out how many cores there are.
    pub(crate) fn workers(&self) -> io::Result<usize> {
        or_one_to(2, self.workers)
    }
}

/// Origins such as `https://shop.example`, or `*` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OneOrMany")]
pub struct Origins(Vec<String>);

/// In a TOML file a list, in a variable a text with commas.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Origins {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any origin is one of them.
    pub fn are_all(&self) -> bool {
        self.0.iter().any(|origin| origin == "*")
    }

    /// What a page of this origin is told in return, if it is one of them.
    pub(crate) fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.are_all() {
            return Some(HeaderValue::from_static("*"));
        }
        let is_known = self.0.iter().any(|known| known.as_bytes() == origin.as_bytes());
        is_known.then(|| origin.clone())
    }
}

impl TryFrom<OneOrMany> for Origins {
    type Error = String;

    fn try_from(origins: OneOrMany) -> Result<Self, Self::Error> {
        let origins = match origins {
            OneOrMany::One(origins) => origins.split(',').map(str::to_owned).collect(),
            OneOrMany::Many(origins) => origins,
        };
        let origins = origins.into_iter().map(|origin| {
            let origin = origin.trim().to_ascii_lowercase();
            let authority = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
            let is_origin = authority.is_some_and(|it| !it.is_empty() && !it.contains(['/', '?', '#', '@']));
            if is_origin || origin == "*" {
                Ok(origin)
            } else {
                Err(format!("{origin:?} is no origin such as https://shop.example"))
            }
        });
        Ok(Origins(origins.collect::<Result<_, _>>()?))
    }
}

/// The operators' listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagementSettings {
    /// Where it listens; port 0 for any that is free. Never to be reached by the public.
    pub address: SocketAddr,
}

impl Default for ManagementSettings {
    fn default() -> Self {
        ManagementSettings {
            address: (Ipv4Addr::LOCALHOST, 8081).into(),
        }
    }
}

/// The cache.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// The most bytes the cached orders may weigh.
    pub max_bytes: u64,
    /// For how long a look at the commit log proves the cache. A read is never staler than this.
    #[serde(with = "duration")]
    pub lease: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        CacheSettings {
            max_bytes: 256 * 1024 * 1024,
            lease: Duration::from_secs(2),
        }
    }
}

/// What is done before anything else.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StartupSettings {
    /// Whether to apply missing migrations. Switch it off where they are applied by `order-tracker migrate run`.
    pub migrate: bool,
}

impl Default for StartupSettings {
    fn default() -> Self {
        StartupSettings { migrate: true }
    }
}

/// How the service ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSettings {
    /// How long it goes on answering while `/readyz` says 503, so that balancers notice.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// How long it may take in all.
    #[serde(with = "duration")]
    pub deadline: Duration,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        ShutdownSettings {
            drain_delay: Duration::from_secs(5),
            deadline: Duration::from_secs(25),
        }
    }
}

/// The threads beside those that answer, and those that tokio has for what runs by itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    /// How many threads read from the database for those that answer; 0 for one to four cores.
    pub readers: usize,
}

impl RuntimeSettings {
    /// How many threads read on this machine.
    ///
    /// # Errors
    ///
    /// It cannot be found out how many cores there are.
    pub(crate) fn readers(&self) -> io::Result<usize> {
        or_one_to(4, self.readers)
    }
}

/// So many threads, or one to so many cores where that is 0.
fn or_one_to(cores: usize, threads: usize) -> io::Result<usize> {
    match threads {
        0 => Ok(available_parallelism()?.get().div_ceil(cores)),
        threads => Ok(threads),
    }
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How it is written.
    pub format: LogFormat,
    /// What is written: a level, or directives such as `info,order_nats=debug`.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings {
            format: LogFormat::Auto,
            filter: "info,actix_http=off,actix_server=warn,async_nats=warn".to_owned(),
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people on a terminal, as JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        match &*name {
            "auto" => Ok(LogFormat::Auto),
            "json" => Ok(LogFormat::Json),
            "pretty" => Ok(LogFormat::Pretty),
            _ => Err("must be auto, json or pretty"),
        }
    }
}

/// Where settings come from; later ones win: defaults, the file, `.env`, the environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The variables of `.env`.
    pub dot_env: HashMap<String, String>,
    /// The variables of the environment.
    pub environment: HashMap<String, String>,
}

/// A setting that cannot be used, by the name of its variable, with what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct ConfigFault {
    /// The variable, or the file.
    pub name: String,
    /// What is wrong with it, and what was expected.
    pub fault: String,
}

impl ConfigFault {
    fn new(name: impl Into<String>, fault: impl ToString) -> Self {
        ConfigFault {
            name: name.into(),
            fault: fault.to_string(),
        }
    }
}

impl Sources {
    /// This process's environment, and `.env` in the folder it was started in.
    ///
    /// # Errors
    ///
    /// `.env` cannot be read.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    pub fn of_this_process(file: Option<PathBuf>) -> Result<Self, ConfigFault> {
        let dot_env = match dotenvy::from_path_iter(".env") {
            Ok(lines) => lines
                .collect::<Result<_, _>>()
                .map_err(|error| ConfigFault::new(".env", error))?,
            Err(error) if error.not_found() => HashMap::new(),
            Err(error) => return Err(ConfigFault::new(".env", error)),
        };
        // Variables that are not Unicode cannot be ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Sources {
            file,
            dot_env,
            environment,
        })
    }

    /// Reads and checks the settings.
    ///
    /// # Errors
    ///
    /// The first setting that is unknown, wrong, or does not go with another.
    pub fn load(&self) -> Result<Settings, ConfigFault> {
        let mut builder = Config::builder();
        if let Some(file) = &self.file {
            builder = builder.add_source(File::from(file.as_path()).format(FileFormat::Toml));
        }
        for variables in [&self.dot_env, &self.environment] {
            let variables = with_secret_files(variables)?;
            let source = Environment::with_prefix("ORDERS")
                .prefix_separator("__")
                .separator("__");
            builder = builder.add_source(source.ignore_empty(true).source(Some(variables)));
        }
        let file = || {
            self.file
                .as_deref()
                .unwrap_or(Path::new("settings"))
                .display()
                .to_string()
        };
        let merged = builder.build().map_err(|error| ConfigFault::new(file(), error))?;
        let settings: Settings = serde_path_to_error::deserialize(merged).map_err(|error| {
            let path = error.path().to_string();
            let name = format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"));
            ConfigFault::new(name, error.into_inner())
        })?;
        settings.check()?;
        Ok(settings)
    }
}

/// Our variables, with `…_FILE` replaced by what the file says.
fn with_secret_files(variables: &HashMap<String, String>) -> Result<HashMap<String, String>, ConfigFault> {
    let mut ours: HashMap<_, _> = variables
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    for secret in SECRETS {
        let (name, file_name) = (format!("{PREFIX}{secret}"), format!("{PREFIX}{secret}_FILE"));
        let Some(path) = ours.remove(&file_name).filter(|path| !path.is_empty()) else {
            continue;
        };
        if ours.get(&name).is_some_and(|value| !value.is_empty()) {
            return Err(ConfigFault::new(
                file_name,
                format!("{name} is set too; give only one of them"),
            ));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigFault::new(file_name, format!("failed to read {path}: {error}")))?;
        ours.insert(name, text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(ours)
}

impl Settings {
    /// Checks that whoever can reach the service from elsewhere needs a token. Only who serves is asked, not who migrates.
    ///
    /// # Errors
    ///
    /// Names the setting to mend.
    pub fn check_exposure(&self) -> Result<(), ConfigFault> {
        let (tokens_file, insecure) = ("ORDERS__HTTP__TOKENS_FILE", "ORDERS__HTTP__INSECURE");
        match (&self.http.tokens_file, self.http.insecure) {
            (Some(_), true) => {
                let fault = format!("{tokens_file} is set too; give only one of them");
                Err(ConfigFault::new(insecure, fault))
            }
            (Some(_), false) | (None, true) => Ok(()),
            (None, false) => {
                let listeners = [
                    ("ORDERS__HTTP__ADDRESS", self.http.address),
                    ("ORDERS__MANAGEMENT__ADDRESS", self.management.address),
                ];
                let reached = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
                match listeners.into_iter().find(|(_, address)| reached(address)) {
                    Some((name, address)) => {
                        let fault = format!(
                            "must be given, since others reach {name}={address}; make a token with `order-tracker token new`, or set \
                             {insecure}=true to let everyone do everything"
                        );
                        Err(ConfigFault::new(tokens_file, fault))
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Checks what must hold between settings.
    fn check(&self) -> Result<(), ConfigFault> {
        self.nats
            .check()
            .map_err(|error| ConfigFault::new("ORDERS__NATS", error))?;
        let rules = [
            (
                self.http.tls_certificate.is_some() == self.http.tls_key.is_some(),
                "ORDERS__HTTP__TLS_CERTIFICATE",
                "goes with ORDERS__HTTP__TLS_KEY: give both or none",
            ),
            (
                self.http.max_connections > 0,
                "ORDERS__HTTP__MAX_CONNECTIONS",
                "must be at least 1",
            ),
            (
                self.http.max_body_bytes <= self.http.max_bodies_bytes,
                "ORDERS__HTTP__MAX_BODIES_BYTES",
                "must be at least ORDERS__HTTP__MAX_BODY_BYTES",
            ),
            (
                !self.http.head_timeout.is_zero()
                    && !self.http.body_timeout.is_zero()
                    && !self.http.write_timeout.is_zero()
                    && !self.http.keep_alive.is_zero(),
                "ORDERS__HTTP",
                "its BODY_TIMEOUT, HEAD_TIMEOUT, KEEP_ALIVE and WRITE_TIMEOUT must be more than 0",
            ),
            (
                self.read.max_wait < self.http.request_timeout,
                "ORDERS__HTTP__REQUEST_TIMEOUT",
                "must be more than ORDERS__READ__MAX_WAIT, or who waits for an order gets an error instead",
            ),
            (
                self.read.join_within < self.read.deadline && self.read.join_within < self.cache.lease,
                "ORDERS__READ__JOIN_WITHIN",
                "must be less than ORDERS__READ__DEADLINE and ORDERS__CACHE__LEASE",
            ),
            (
                self.postgres.batch_deadline < self.nats.ack_wait,
                "ORDERS__POSTGRES__BATCH_DEADLINE",
                "must be less than ORDERS__NATS__ACK_WAIT, or what is slow is delivered to others meanwhile",
            ),
            (
                self.postgres.lock_timeout < self.postgres.batch_deadline,
                "ORDERS__POSTGRES__LOCK_TIMEOUT",
                "must be less than ORDERS__POSTGRES__BATCH_DEADLINE",
            ),
            (
                self.follower.look_deadline < self.cache.lease,
                "ORDERS__FOLLOWER__LOOK_DEADLINE",
                "must be less than ORDERS__CACHE__LEASE, or a slow database always hides the cache",
            ),
            (
                self.follower.poll < self.cache.lease,
                "ORDERS__FOLLOWER__POLL",
                "must be less than ORDERS__CACHE__LEASE, or the lease ends between two looks",
            ),
            (
                !self.publish.attempt.is_zero() && self.publish.attempt <= self.publish.deadline,
                "ORDERS__PUBLISH__ATTEMPT",
                "must be more than 0 and at most ORDERS__PUBLISH__DEADLINE",
            ),
            (
                self.publish.deadline < self.nats.duplicate_window,
                "ORDERS__PUBLISH__DEADLINE",
                "must be less than ORDERS__NATS__DUPLICATE_WINDOW, or a late attempt is stored a second time",
            ),
            (
                self.ingest.batch.messages > 0,
                "ORDERS__INGEST__BATCH__MESSAGES",
                "must be at least 1",
            ),
            (
                self.ingest.batch.bytes > 0,
                "ORDERS__INGEST__BATCH__BYTES",
                "must be at least 1",
            ),
            (
                self.ingest.lanes <= self.postgres.ingest_connections,
                "ORDERS__INGEST__LANES",
                "must be at most ORDERS__POSTGRES__INGEST_CONNECTIONS: each lane stores on a connection of its own",
            ),
            (
                self.shutdown.drain_delay + self.ingest.finish_within < self.shutdown.deadline,
                "ORDERS__SHUTDOWN__DEADLINE",
                "must be more than ORDERS__SHUTDOWN__DRAIN_DELAY and ORDERS__INGEST__FINISH_WITHIN together",
            ),
            (
                !self.ingest.progress_every.is_zero() && self.ingest.progress_every * 2 < self.nats.ack_wait,
                "ORDERS__INGEST__PROGRESS_EVERY",
                "must be more than 0 and less than half of ORDERS__NATS__ACK_WAIT",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, fault)) => Err(ConfigFault::new(name, fault)),
            None => Ok(()),
        }
    }
}
