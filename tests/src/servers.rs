//! A PostgreSQL and a nats-server of one test's own, to be killed and frozen.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::account::Account;
use xtask::folders;
use xtask::process::Signal;
use xtask::servers::{Durability, Nats, NatsBinary, Postgres, PostgresBinaries, Role, Running};

use crate::shop::given;

/// Not a secret: of a server that lives for one test, and is reached from this machine only.
const PASSWORD: &str = "of-a-server-that-lives-for-one-test";

/// A PostgreSQL and a nats-server that no other test uses. Gone when this is dropped.
pub struct Servers {
    postgres: Postgres,
    running_postgres: Running,
    nats: Nats,
    running_nats: Running,
    folder: PathBuf,
    /// Where disks of their own are mounted.
    disks: Vec<PathBuf>,
}

impl Servers {
    /// Starts both.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn start() -> Self {
        let folder = folders::temporary("order-tracker-servers", &Account::for_postgres()).expect("a folder");
        Servers::start_in(folder, Vec::new())
    }

    /// Starts both, each with its data on a disk of its own that holds so many MiB. Answers why not, where none can be mounted here:
    /// only root may, and not in every container.
    ///
    /// # Errors
    ///
    /// No disk can be mounted.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub fn start_on_small_disks(postgres: u32, nats: u32) -> Result<Self, String> {
        let folder = folders::temporary("order-tracker-servers", &Account::for_postgres()).expect("a folder");
        let mut disks = Vec::new();
        for (name, size) in [(POSTGRES, postgres), (NATS, nats)] {
            let disk = folder.join(name);
            std::fs::create_dir(&disk).expect("a folder in ours");
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}m,mode=711"), "tmpfs"])
                .arg(&disk)
                .output();
            let reason = match mounted {
                Ok(output) if output.status.success() => {
                    disks.push(disk);
                    continue;
                }
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            unmount(&disks);
            let _ = std::fs::remove_dir_all(&folder);
            return Err(format!("no disk can be mounted here: {reason}"));
        }
        Ok(Servers::start_in(folder, disks))
    }

    fn start_in(folder: PathBuf, disks: Vec<PathBuf>) -> Self {
        let account = Account::for_postgres();
        for name in [POSTGRES, NATS] {
            if !folder.join(name).exists() {
                std::fs::create_dir(folder.join(name)).expect("a folder in ours");
            }
        }
        let postgres = Postgres {
            binaries: PostgresBinaries {
                folder: given("ORDERS_TEST_POSTGRES_BIN").into(),
                version: String::new(),
                major: 0,
            },
            account,
            data: folder.join(POSTGRES).join("data"),
            log: folder.join("postgres.log"),
            durability: Durability::LostWithPower,
            settings: Vec::new(),
        };
        postgres
            .prepare(Role::Superuser, PASSWORD)
            .expect("PostgreSQL can be set up");
        let nats = Nats {
            binary: NatsBinary {
                program: given("ORDERS_TEST_NATS_SERVER").into(),
                version: String::new(),
            },
            store: folder.join(NATS).join("store"),
            log: folder.join("nats.log"),
        };
        Servers {
            running_postgres: postgres.start(None, |_| Ok(())).expect("PostgreSQL starts"),
            postgres,
            running_nats: nats.start(None, |_| Ok(())).expect("nats-server starts"),
            nats,
            folder,
            disks,
        }
    }

    /// Where PostgreSQL is, as a superuser.
    pub fn postgres_url(&self) -> String {
        Postgres::url(&self.running_postgres, PASSWORD)
    }

    /// Where PostgreSQL keeps its data.
    pub fn postgres_data(&self) -> &Path {
        &self.postgres.data
    }

    /// Runs one of PostgreSQL's client programs on it, and answers what that wrote.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn postgres_client(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(self.postgres.binaries.program(program))
            .arg("--dbname")
            .arg(self.postgres_url())
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {errors}");
        output.stdout
    }

    /// Kills PostgreSQL at once with all its processes, removes its data, and puts an empty one in its place.
    ///
    /// # Panics
    ///
    /// If there can be none.
    pub fn lose_postgres(&mut self) {
        let process = self.running_postgres.process.clone();
        process.signal(Signal::KILL).expect("it is ours to signal");
        assert!(process.wait(std::time::Duration::from_secs(10)));
        std::fs::remove_dir_all(&self.postgres.data).expect("its data can be removed");
        self.postgres
            .prepare(Role::Superuser, PASSWORD)
            .expect("PostgreSQL can be set up");
        let port = self.running_postgres.port;
        self.running_postgres = self
            .postgres
            .start(Some(port), |_| Ok(()))
            .expect("PostgreSQL starts again");
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
        let pid = self.running_postgres.process.pid.to_string();
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

/// The folders of their data.
const POSTGRES: &str = "postgres";
const NATS: &str = "nats";

fn unmount(disks: &[PathBuf]) {
    for disk in disks {
        let _ = Command::new("umount").arg(disk).status();
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.thaw_postgres();
        self.thaw_nats();
        // Nothing to be done about it where one will not stop.
        let _ = Nats::stop(&self.running_nats);
        let _ = Postgres::stop(&self.running_postgres);
        unmount(&self.disks);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
