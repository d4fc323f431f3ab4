//! A PostgreSQL and a nats-server of one test's own, to be killed and frozen.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::account::Account;
use xtask::folders;
use xtask::process::Signal;
use xtask::servers::{Durability, Nats, NatsBinary, Postgres, PostgresBinaries, Role, Running};

use crate::shop::given;

/// A PostgreSQL and a nats-server that no other test uses. Gone when this is dropped.
pub struct Servers {
    postgres: Running,
    postgres_url: String,
    nats: Nats,
    running_nats: Running,
    folder: PathBuf,
}

impl Servers {
    /// Starts both.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn start() -> Self {
        let account = Account::for_postgres();
        let folder = folders::temporary("order-tracker-servers", &account).expect("a folder");
        let postgres = Postgres {
            binaries: PostgresBinaries {
                folder: given("ORDERS_TEST_POSTGRES_BIN").into(),
                version: String::new(),
                major: 0,
            },
            account,
            data: folder.join("postgres"),
            log: folder.join("postgres.log"),
            durability: Durability::LostWithPower,
        };
        let password = "of-a-server-that-lives-for-one-test";
        postgres
            .prepare(Role::Superuser, password)
            .expect("PostgreSQL can be set up");
        let running = postgres.start(None, |_| Ok(())).expect("PostgreSQL starts");
        let nats = Nats {
            binary: NatsBinary {
                program: given("ORDERS_TEST_NATS_SERVER").into(),
                version: String::new(),
            },
            store: folder.join("nats"),
            log: folder.join("nats.log"),
        };
        Servers {
            postgres_url: Postgres::url(&running, password),
            postgres: running,
            running_nats: nats.start(None, |_| Ok(())).expect("nats-server starts"),
            nats,
            folder,
        }
    }

    /// Where PostgreSQL is, as a superuser.
    pub fn postgres_url(&self) -> &str {
        &self.postgres_url
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> String {
        format!("nats://{}", self.running_nats.address())
    }

    /// Freezes PostgreSQL with all its processes: connections stay open, and nothing answers.
    pub fn freeze_postgres(&self) {
        // The one that makes others first, so that none is missed.
        self.signal_postgres(&["", "-P"], "-STOP");
    }

    /// Lets it go on.
    pub fn thaw_postgres(&self) {
        self.signal_postgres(&["-P", ""], "-CONT");
    }

    fn signal_postgres(&self, whom: &[&str], signal: &str) {
        let pid = self.postgres.process.pid.to_string();
        for whom in whom {
            let sent = match *whom {
                "" => Command::new("kill").args([signal, &pid]).status(),
                children => Command::new("pkill").args([signal, children, &pid]).status(),
            };
            sent.expect("kill and pkill can be run");
        }
    }

    /// Freezes nats-server.
    pub fn freeze_nats(&self) {
        self.signal_nats(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw_nats(&self) {
        self.signal_nats(Signal::CONT);
    }

    fn signal_nats(&self, signal: Signal) {
        let signalled = self.running_nats.process.signal(signal);
        signalled.expect("it is ours to signal");
    }

    /// Kills nats-server at once, as a crash does.
    pub fn kill_nats(&self) {
        self.signal_nats(Signal::KILL);
        assert!(self.running_nats.process.wait(std::time::Duration::from_secs(10)));
    }

    /// Starts nats-server again, on the same port and with what is in its store.
    pub fn start_nats(&mut self) {
        let port = self.running_nats.port;
        self.running_nats = self
            .nats
            .start(Some(port), |_| Ok(()))
            .expect("nats-server starts again");
    }

    /// Where nats-server keeps its streams.
    pub fn nats_store(&self) -> &Path {
        &self.nats.store
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.thaw_postgres();
        self.thaw_nats();
        // Nothing to be done about it where one will not stop.
        let _ = Nats::stop(&self.running_nats);
        let _ = Postgres::stop(&self.postgres);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
