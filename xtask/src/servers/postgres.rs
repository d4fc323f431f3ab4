//! One PostgreSQL server.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::PostgresBinaries;
use super::running::{self, Beginning, Running};
use crate::account::Account;
use crate::process::{ProcessId, Signal};
use crate::{folders, ports, wheels};

/// What happens to committed data when the machine loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// They are kept, as in production.
    Kept,
    /// They may be lost, for speed. Killing the server loses nothing in either case.
    LostWithPower,
}

/// What the role of the service may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It owns its database and nothing else, as in production.
    Owner,
    /// Everything, as tests need that make databases and cut connections.
    Superuser,
}

/// One PostgreSQL server with its data, running or not. It goes on when this is dropped: stop it.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// The programs.
    pub binaries: PostgresBinaries,
    /// The user it runs as.
    pub account: Account,
    /// Its data folder. A folder `account` can pass into must hold it.
    pub data: PathBuf,
    /// Where it writes its log, anew at each start.
    pub log: PathBuf,
    /// What a power loss may cost.
    pub durability: Durability,
    /// Its settings that are not as they come, each a `NAME=VALUE`.
    pub settings: Vec<String>,
}

impl Postgres {
    /// The name of the service's role and of its database.
    pub const NAME: &'static str = "orders";
    /// The signal that makes it shut down in order without waiting for its clients.
    pub const STOP: Signal = Signal::INT;
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Whether its data were made already.
    pub fn is_prepared(&self) -> bool {
        self.data.exists()
    }

    /// Makes the data: a database `orders` in UTF-8, owned by a role of that name, reachable from this machine only and
    /// with this password only.
    ///
    /// # Errors
    ///
    /// Where PostgreSQL's own set-up fails; the message has what it said.
    pub fn prepare(&self, role: Role, password: &str) -> Result<()> {
        // Made beside its place and renamed when it is whole, so that an interrupted set-up leaves nothing to stumble over.
        let unfinished = self.data.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)
                .with_context(|| format!("cannot remove {}", unfinished.display()))?;
        }
        fs::create_dir(&unfinished).with_context(|| format!("cannot make {}", unfinished.display()))?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
        self.account.own(&unfinished)?;

        let mut initdb = self.command("initdb", &unfinished);
        initdb.args(["--encoding=UTF8", "--no-locale", "--username=postgres"]);
        // Nobody may log in until the rules below say who.
        initdb
            .args(["--auth-local=reject", "--auth-host=reject", "--pgdata"])
            .arg(&unfinished);
        if self.durability == Durability::LostWithPower {
            initdb.arg("--no-sync");
        }
        said(
            &initdb
                .stdin(Stdio::null())
                .output()
                .context("cannot run initdb")?,
            "initdb",
        )?;

        let rules = "# Made by cargo xtask. This machine only, with the password only.\n\
                     host all all 127.0.0.1/32 scram-sha-256\n";
        self.write(&unfinished.join("pg_hba.conf"), rules)?;

        let power = if role == Role::Superuser {
            "SUPERUSER"
        } else {
            "NOSUPERUSER"
        };
        let name = Self::NAME;
        // One statement a line is what the single-user mode takes.
        let statements = format!(
            "CREATE ROLE {name} LOGIN {power} PASSWORD '{password}'\n\
             CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING 'UTF8'\n"
        );
        let mut single = self.command("postgres", &unfinished);
        // A statement that fails must not be written down with the password in it.
        single
            .args(["--single", "-c", "log_min_error_statement=panic", "-D"])
            .arg(&unfinished)
            .arg("postgres");
        let mut child = single
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(statements.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if String::from_utf8_lossy(&output.stderr).contains("ERROR:") {
            bail!(
                "PostgreSQL refused the first statements: {}",
                wheels::last_lines(&output.stderr, 5)
            );
        }
        said(&output, "postgres --single")?;
        fs::rename(&unfinished, &self.data).with_context(|| format!("cannot make {}", self.data.display()))
    }

    /// Starts it on `port` of 127.0.0.1, or on any free one, and waits until it takes connections.
    ///
    /// `started` is told of it at once, before it is ready, so that it is not forgotten if we are killed meanwhile.
    ///
    /// # Errors
    ///
    /// Where it ends or does not answer; the message has the end of its log.
    pub fn start(
        &self,
        port: Option<u16>,
        mut started: impl FnMut(&Running) -> Result<()>,
    ) -> Result<Running> {
        let begin = Instant::now();
        loop {
            let this_port = port.map_or_else(ports::any, Ok)?;
            let child = self.serve(this_port)?;
            let running = Running {
                process: ProcessId::of(child.id())?,
                port: this_port,
                version: self.binaries.version.clone(),
                log: self.log.clone(),
            };
            started(&running)?;
            // Recovery after a crash reads back what was written since the last checkpoint.
            let deadline = begin + Duration::from_secs(120);
            match running::wait_until(child, deadline, |pid| self.says_ready(pid))? {
                Beginning::Ready => return Ok(running),
                Beginning::Ended(status) => {
                    let log = fs::read(&self.log).unwrap_or_default();
                    let text = String::from_utf8_lossy(&log);
                    let port_taken = port.is_none() && text.contains("could not bind");
                    // After kill -9 its children need a moment to notice; until then they hold the shared memory. And
                    // its number is taken until its parent, init for an orphan, took note of its end.
                    let still_ending = text.contains("is still in use") || self.has_dead_owner();
                    if !(port_taken || still_ending) || begin.elapsed() > Duration::from_secs(20) {
                        bail!(
                            "PostgreSQL ended with {status}; its log ends with:\n{}",
                            wheels::last_lines(&log, 5)
                        );
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                Beginning::Late(mut child) => {
                    running.process.stop(Self::STOP, Self::PATIENCE)?;
                    child.wait()?;
                    bail!(
                        "PostgreSQL did not answer within two minutes; see {}",
                        self.log.display()
                    );
                }
            }
        }
    }

    /// Stops a running one in order, without waiting for its clients.
    ///
    /// # Errors
    ///
    /// Where we may not.
    pub fn stop(running: &Running) -> Result<()> {
        running.process.stop(Self::STOP, Self::PATIENCE).map(drop)
    }

    /// Where a running one is reached, with the password.
    pub fn url(running: &Running, password: &str) -> String {
        format!("postgres://{0}:{password}@{1}/{0}", Self::NAME, running.address())
    }

    /// Whether the process wrote down that it takes connections. Asking the port itself could reach another server on it.
    fn says_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let lines = text.lines().map(str::trim).collect::<Vec<_>>();
        lines.first().is_some_and(|line| *line == pid.to_string()) && lines.get(7) == Some(&"ready")
    }

    /// Whether the process that the data folder names as its server has ended, waited for or not.
    fn has_dead_owner(&self) -> bool {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).unwrap_or_default();
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok());
        pid.is_some_and(|pid| !ProcessId::of(pid).is_ok_and(|process| process.is_alive()))
    }

    fn serve(&self, port: u16) -> Result<std::process::Child> {
        let mut command = self.command("postgres", &self.data);
        command.arg("-D").arg(&self.data).args(["-p", &port.to_string()]);
        let mut set = |setting: &str| {
            command.args(["-c", setting]);
        };
        set("listen_addresses=127.0.0.1");
        // Sockets would need a folder that both users can use, and short enough a path.
        set("unix_socket_directories=");
        // Enough for the pools of many tests at once.
        set("max_connections=300");
        set("timezone=UTC");
        set("log_timezone=UTC");
        set("logging_collector=off");
        set("log_destination=stderr");
        // What a query was asked with may be personal data.
        set("log_parameter_max_length_on_error=0");
        if self.durability == Durability::LostWithPower {
            // Commits still reach the operating system before they are answered, so that a killed server has them.
            set("fsync=off");
            set("full_page_writes=off");
        }
        self.settings.iter().for_each(|setting| set(setting));
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start PostgreSQL")
    }

    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = self.account.command(&self.binaries.program(program), folder);
        // The user's own settings for other servers must not reach this one.
        command
            .env_remove("PGDATA")
            .env_remove("PGPORT")
            .env_remove("PGOPTIONS")
            .env("LC_ALL", "C");
        command
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        self.account.own(path)
    }
}

/// The data's major version; `None` where there are none.
pub(super) fn major_of_data(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// A new password: 32 hexadecimal digits from the system's own source.
///
/// # Errors
///
/// Where the system has none.
pub(super) fn new_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0_u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A folder for data that `account` can reach: inside `wanted`, else one of the same meaning under `/var/tmp`.
///
/// # Errors
///
/// Where neither can be made.
pub(super) fn reachable_folder(wanted: &Path, account: &Account) -> Result<PathBuf> {
    let folder = if account.can_enter(wanted) {
        wanted.to_path_buf()
    } else {
        folders::shared()?.join(folders::as_name(wanted))
    };
    if !folder.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
    }
    Ok(folder)
}

fn said(output: &std::process::Output, program: &str) -> Result<()> {
    if !output.status.success() {
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        bail!(
            "{program} ended with {}:\n{}",
            output.status,
            wheels::last_lines(&said, 5)
        );
    }
    Ok(())
}
