//! On what a run ran: without it no figure means anything.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::SimpleQueryMessage;

/// The machine, the programs and how they are set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// When the run began.
    pub(super) began: String,
    /// The model of the processor.
    pub(super) cpu: String,
    /// How many cores this process may use.
    pub(super) cores: usize,
    /// The kernel.
    pub(super) kernel: String,
    /// How many processes wanted to run at the start, averaged over a minute.
    pub(super) load: Option<f64>,
    /// How the service was built.
    pub(crate) service: String,
    /// How this program was built, which sends the load.
    pub(super) generator: String,
    /// PostgreSQL: its version and settings.
    pub(crate) postgres: String,
    /// NATS: version, and when it syncs to disk.
    pub(crate) nats: String,
}

impl Environment {
    /// Of this machine.
    pub(crate) fn of_this_machine() -> Environment {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let kernel = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg");
        Environment {
            began: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            cpu: model
                .map_or(std::env::consts::ARCH, |(_, model)| model.trim())
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("{} {}", std::env::consts::OS, kernel.trim())
                .trim()
                .to_owned(),
            load: load.split_whitespace().next().and_then(|load| load.parse().ok()),
            generator: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            ..Environment::default()
        }
    }
}

impl Environment {
    /// What makes figures from here less than they could be.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(load) = self.load.filter(|load| *load > self.cores as f64 / 2.0) {
            warnings.push(format!(
                "The machine was not idle: {load:.1} processes wanted its {} cores when the run began.",
                self.cores
            ));
        }
        for (name, build) in [("service", &self.service), ("generator", &self.generator)] {
            if build == "debug" {
                warnings.push(format!(
                    "The {name} is a debug build: its figures say nothing of a release."
                ));
            }
        }
        warnings
    }
}

/// What a PostgreSQL tells of itself: its version, and what decides how fast it can be.
const SHOWN: [&str; 7] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
];

/// What a PostgreSQL says of itself.
pub(crate) async fn of_postgres(client: &tokio_postgres::Client) -> String {
    let mut shown = Vec::new();
    for name in SHOWN {
        let answer = client
            .simple_query(&format!("SHOW {name}"))
            .await
            .unwrap_or_default();
        let value = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let value = value.unwrap_or("?");
        shown.push(match name {
            "server_version" => value.split(' ').next().unwrap_or(value).to_owned(),
            name => format!("{name} {value}"),
        });
    }
    shown.join(", ")
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.load.map_or("?".to_owned(), |load| format!("{load:.2}"));
        write!(
            f,
            "{}, {} cores, {}, load {load} at the start; service: {}, generator: {}; PostgreSQL {}; NATS {}",
            self.cpu, self.cores, self.kernel, self.service, self.generator, self.postgres, self.nats
        )
    }
}
