//! What the service knows of its own health.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::{BusState, OrderBus};

/// What the service knows of its own health: told by the log follower and the ingestor, asked by `/readyz`.
pub struct Health {
    bus: Arc<dyn OrderBus>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    contacted: bool,
    broker_contacted: bool,
    database: Option<Trouble>,
    ingestion: Option<Trouble>,
    shutting_down: bool,
}

#[derive(Debug, Clone)]
struct Trouble {
    since: Instant,
    reason: String,
}

/// What is known of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseReach {
    /// It was never reached; its tables may not be there.
    NotYet,
    /// It answered last time.
    InReach,
    /// It answered once, but not last time.
    Lost,
}

/// Whether the service should be given requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All is well.
    Ready,
    /// It serves what it can. Taking it out of the balancer would make it worse.
    Degraded,
    /// It has not reached the database or the broker yet.
    Starting,
    /// It is about to end.
    ShuttingDown,
}

/// What `/readyz` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether to send requests.
    pub standing: Standing,
    /// What is wrong, in words for an operator: `database: …`, `broker: …`, `ingestion: …`.
    pub troubles: Vec<String>,
    /// Whether the database is in reach.
    pub database: DatabaseReach,
    /// Whether the broker is.
    pub broker: BusState,
    /// Whether a batch cannot be stored for now.
    pub ingestion_paused: bool,
}

impl Health {
    /// Knows nothing yet: [`Standing::Starting`].
    pub fn new(bus: Arc<dyn OrderBus>) -> Self {
        Health {
            bus,
            known: Mutex::default(),
        }
    }

    /// The database answered.
    pub fn database_reached(&self) {
        let mut known = self.known();
        if !known.contacted {
            tracing::info!("the database is reached");
        } else if let Some(trouble) = &known.database {
            tracing::info!(
                after_seconds = trouble.since.elapsed().as_secs_f64(),
                "the database is back"
            );
        }
        known.contacted = true;
        known.database = None;
    }

    /// The database did not answer. Logged when it begins, not each time.
    pub fn database_lost(&self, reason: &dyn Display) {
        let mut known = self.known();
        match &mut known.database {
            Some(trouble) => trouble.reason = reason.to_string(),
            None => {
                tracing::error!(error = %reason, "the database cannot be reached; trying again until it can");
                known.database = Some(Trouble::new(reason));
            }
        }
    }

    /// Whether the database was reached at all, and whether it answered last time.
    pub fn database(&self) -> DatabaseReach {
        self.known().database_reach()
    }

    /// Ingestion cannot go on for now.
    pub fn ingestion_paused(&self, reason: &dyn Display) {
        let mut known = self.known();
        match &mut known.ingestion {
            Some(trouble) => trouble.reason = reason.to_string(),
            None => {
                tracing::error!(error = %reason, "ingestion pauses; trying again until it can go on");
                known.ingestion = Some(Trouble::new(reason));
            }
        }
    }

    /// Ingestion goes on.
    pub fn ingestion_resumed(&self) {
        if let Some(trouble) = self.known().ingestion.take() {
            tracing::info!(
                after_seconds = trouble.since.elapsed().as_secs_f64(),
                "ingestion goes on"
            );
        }
    }

    /// The service is about to end.
    pub fn begin_shutdown(&self) {
        self.known().shutting_down = true;
    }

    /// What there is to tell now.
    pub fn report(&self) -> HealthReport {
        let broker = self.bus.state();
        let broker_in_reach = broker == BusState::Connected;
        let known = {
            let mut known = self.known();
            known.broker_contacted |= broker_in_reach;
            known.clone()
        };
        let mut troubles = Vec::new();
        match &known.database {
            Some(trouble) => troubles.push(format!("database: {}", trouble.reason)),
            None if !known.contacted => troubles.push("database: not reached yet".to_owned()),
            None => {}
        }
        if !broker_in_reach {
            troubles.push("broker: out of reach".to_owned());
        }
        if let Some(trouble) = &known.ingestion {
            troubles.push(format!("ingestion: {}", trouble.reason));
        }
        let standing = if known.shutting_down {
            Standing::ShuttingDown
        } else if !known.contacted || !known.broker_contacted {
            Standing::Starting
        } else if troubles.is_empty() {
            Standing::Ready
        } else {
            Standing::Degraded
        };
        HealthReport {
            standing,
            troubles,
            database: known.database_reach(),
            broker,
            ingestion_paused: known.ingestion.is_some(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn database_reach(&self) -> DatabaseReach {
        match self {
            Known { contacted: false, .. } => DatabaseReach::NotYet,
            Known {
                database: Some(_), ..
            } => DatabaseReach::Lost,
            Known { database: None, .. } => DatabaseReach::InReach,
        }
    }
}

impl Trouble {
    fn new(reason: &dyn Display) -> Self {
        Trouble {
            since: Instant::now(),
            reason: reason.to_string(),
        }
    }
}
