//! A pair of servers for one run of the tests, or of a measurement.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{Binaries, Durability, Nats, Postgres, Role, Running, postgres};
use crate::account::Account;
use crate::folders;
use crate::watchdog::Watchdog;

/// A PostgreSQL and a nats-server on free ports, with nothing in them, gone when this is dropped.
#[derive(Debug)]
pub struct ThrowAway {
    /// PostgreSQL.
    pub postgres: Running,
    /// Where it is reached, as a superuser.
    pub postgres_url: String,
    /// NATS.
    pub nats: Running,
    folder: PathBuf,
}

impl ThrowAway {
    /// Starts both in a temporary folder, PostgreSQL with these settings (`NAME=VALUE`), and has `watchdog` remove them should this
    /// process be killed.
    ///
    /// # Errors
    ///
    /// Where one does not start.
    pub fn start(
        binaries: &Binaries,
        account: Account,
        durability: Durability,
        settings: &[String],
        watchdog: &mut Watchdog,
    ) -> Result<ThrowAway> {
        let folder = folders::temporary("order-tracker-test", &account)?;
        // Told first, and so done last.
        watchdog.remove_at_end(&folder)?;
        let postgres = Postgres {
            binaries: binaries.postgres.clone(),
            account,
            data: folder.join("postgres"),
            log: folder.join("postgres.log"),
            durability,
            settings: settings.to_vec(),
        };
        let password = postgres::new_password()?;
        postgres.prepare(Role::Superuser, &password)?;
        let patience = Duration::from_secs(5);
        let postgres = postgres.start(None, |started| {
            watchdog.stop_at_end(&started.process, Postgres::STOP, patience)
        })?;
        let nats = Nats {
            binary: binaries.nats.clone(),
            store: folder.join("nats"),
            log: folder.join("nats.log"),
        };
        let nats = nats.start(None, |started| {
            watchdog.stop_at_end(&started.process, Nats::STOP, patience)
        })?;
        Ok(ThrowAway {
            postgres_url: Postgres::url(&postgres, &password),
            postgres,
            nats,
            folder,
        })
    }

    /// Where NATS is reached.
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.nats.address())
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        let stopped = Nats::stop(&self.nats).and(Postgres::stop(&self.postgres));
        let removed = std::fs::remove_dir_all(&self.folder);
        if stopped.is_err() || removed.is_err() {
            eprintln!("left behind: {}", self.folder.display());
        }
    }
}
