//! Migrations: embedded, run by one at a time, into the configured schema.

use std::error::Error;
use std::time::Duration;

use jiff::Timestamp;
use refinery::Runner;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::connector::{Connector, Session, SetupError};
use crate::failure::Failure;
use crate::settings::PostgresSettings;

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

const SESSION: Session = Session {
    purpose: "migrate",
    statement_timeout: None,
};

/// A migration, and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its number; migrations are applied in this order.
    pub version: i64,
    /// What it does, as its file is named.
    pub name: String,
    /// Whether the database has it.
    pub state: MigrationState,
}

/// Whether the database has a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    /// It has.
    Applied {
        /// When it was applied, by the clock of whoever did.
        at: Timestamp,
    },
    /// It will be applied by the next [`migrate`].
    Pending,
    /// It has, and this program does not know it: a newer one has migrated. The service works all the same, since a migration
    /// only takes away what the version before it no longer uses.
    Newer {
        /// When it was applied, by the clock of whoever did.
        at: Timestamp,
    },
}

/// Why the database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Out of reach, or another start is still migrating: try again.
    #[error("the database is out of reach: {0}")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The database and this program do not fit, or the program may not change it; trying again does not help.
    #[error("the database cannot be migrated: {0}")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

impl From<Failure> for MigrationError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(source) => MigrationError::Unavailable(source),
            Failure::Rejected(source) | Failure::Other(source) => MigrationError::Refused(source),
        }
    }
}

impl From<SetupError> for MigrationError {
    fn from(error: SetupError) -> Self {
        MigrationError::Refused(error.into())
    }
}

/// Brings the schema up to date, creating it where it is missing, and answers what was applied.
///
/// Any number of programs may do so at once: one migrates, the others wait, and then find nothing left to do. A schema that is
/// newer than this program is left as it is.
///
/// # Errors
///
/// [`MigrationError::Refused`] if a migration that was applied was edited since, or one was added before it.
pub async fn migrate(settings: &PostgresSettings) -> Result<Vec<Migration>, MigrationError> {
    run(settings, embedded::migrations::runner()).await
}

/// All migrations that this program or the database knows, in their order. Changes nothing.
///
/// # Errors
///
/// If the database cannot be asked.
pub async fn migration_status(settings: &PostgresSettings) -> Result<Vec<Migration>, MigrationError> {
    status(settings, &embedded::migrations::runner()).await
}

pub(crate) async fn run(
    settings: &PostgresSettings,
    runner: Runner,
) -> Result<Vec<Migration>, MigrationError> {
    let mut connection = Migrating::connect(settings).await?;
    connection.take_lock(settings).await?;
    connection.create_schema(settings).await?;

    // An older replica that restarts during a rollout finds migrations that it does not know, and starts.
    let runner = runner.set_abort_missing(false).set_abort_divergent(true);
    let before = list(&mut connection.client, &runner).await?;
    runner.run_async(&mut connection.client).await.map_err(refused)?;
    let after = list(&mut connection.client, &runner).await?;
    if let Some(skipped) = after
        .iter()
        .find(|migration| migration.state == MigrationState::Pending)
    {
        let reason = format!(
            "V{}__{} comes before one that was applied already",
            skipped.version, skipped.name
        );
        return Err(MigrationError::Refused(reason.into()));
    }
    Ok(after
        .into_iter()
        .filter(|migration| !before.contains(migration))
        .collect())
}

pub(crate) async fn status(
    settings: &PostgresSettings,
    runner: &Runner,
) -> Result<Vec<Migration>, MigrationError> {
    let mut connection = Migrating::connect(settings).await?;
    list(&mut connection.client, runner).await
}

/// A connection for migrations; closed when dropped, which also releases the lock.
struct Migrating {
    client: Client,
    task: JoinHandle<()>,
}

impl Migrating {
    async fn connect(settings: &PostgresSettings) -> Result<Self, MigrationError> {
        let connector = Connector::new(settings)?;
        let (client, task) = connector.open(SESSION, |_| {}).await?;
        Ok(Migrating { client, task })
    }

    /// refinery takes no lock of its own: of programs that start at once, most would fail.
    async fn take_lock(&self, settings: &PostgresSettings) -> Result<(), Failure> {
        let sql = "SELECT set_config('lock_timeout', $1, false)";
        let wait = |duration: Duration| duration.as_millis().max(1).to_string();
        self.client
            .execute(sql, &[&wait(settings.migration_wait)])
            .await?;
        let key = format!("{} migrations", settings.schema);
        self.client
            .execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", &[&key])
            .await?;
        // A migration that waits for a table holds up everyone who comes after it, so it had better give up and be tried again.
        self.client.execute(sql, &[&wait(settings.lock_timeout)]).await?;
        Ok(())
    }

    async fn create_schema(&self, settings: &PostgresSettings) -> Result<(), Failure> {
        // Asked for first, since `IF NOT EXISTS` needs the right to create even where there is nothing to create.
        let sql = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        if self
            .client
            .query_opt(sql, &[&settings.schema.as_str()])
            .await?
            .is_none()
        {
            self.client
                .batch_execute(&format!("CREATE SCHEMA {}", settings.schema.quoted()))
                .await?;
        }
        Ok(())
    }
}

impl Drop for Migrating {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn list(client: &mut Client, runner: &Runner) -> Result<Vec<Migration>, MigrationError> {
    let exists = client
        .query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[])
        .await;
    let exists: bool = exists.and_then(|row| row.try_get(0)).map_err(Failure::from)?;
    let applied = match exists {
        true => runner
            .get_applied_migrations_async(client)
            .await
            .map_err(refused)?,
        false => Vec::new(),
    };
    let mut migrations = Vec::new();
    for known in runner.get_migrations() {
        let found = applied
            .iter()
            .find(|applied| applied.version() == known.version());
        let state = match found.map(applied_at).transpose()? {
            Some(at) => MigrationState::Applied { at },
            None => MigrationState::Pending,
        };
        migrations.push(Migration {
            version: known.version().into(),
            name: known.name().to_owned(),
            state,
        });
    }
    for applied in &applied {
        if !migrations
            .iter()
            .any(|known| known.version == i64::from(applied.version()))
        {
            let state = MigrationState::Newer {
                at: applied_at(applied)?,
            };
            migrations.push(Migration {
                version: applied.version().into(),
                name: applied.name().to_owned(),
                state,
            });
        }
    }
    migrations.sort_by_key(|migration| migration.version);
    Ok(migrations)
}

fn applied_at(applied: &refinery::Migration) -> Result<Timestamp, MigrationError> {
    let at = applied.applied_on().map_or(0, |at| at.unix_timestamp());
    Timestamp::from_second(at).map_err(|error| MigrationError::Refused(error.into()))
}

/// refinery wraps what the driver said, and its own objections.
fn refused(error: refinery::Error) -> MigrationError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(told) = cause.downcast_ref::<tokio_postgres::Error>() {
            return Failure::from_driver(told).into();
        }
        source = cause.source();
    }
    MigrationError::Refused(error.to_string().into())
}
