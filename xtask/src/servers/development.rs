//! The pair of servers that a developer keeps, with its data in the state folder.
//!
//! `state.json` there says what runs and on which ports, so that `up`, `services`, `migrate` and `seed` find the same servers from
//! different terminals, and a task that was killed leaves nothing unknown behind.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::probe::{self, PostgresAnswer};
pub use super::state::Claim;
use super::state::{self, Entry, HeldState, Ports};
use super::{Durability, Nats, NatsBinary, Postgres, PostgresBinaries, Role, Running, postgres};
use crate::account::Account;
use crate::process::{ProcessId, Signal};
use crate::progress::Progress;
use crate::watchdog::Watchdog;
use crate::{environment, folders};

/// The setting that says where PostgreSQL is.
pub const POSTGRES_URL: &str = "ORDERS__POSTGRES__URL";
/// The setting that says where NATS is.
pub const NATS_URL: &str = "ORDERS__NATS__URL";

/// How long servers that are started now shall run.
#[derive(Debug)]
pub enum Lifetime<'a> {
    /// Until `services down`.
    UntilStopped,
    /// As long as this task, whose watchdog stops them should it be killed.
    Task(&'a mut Watchdog),
}

/// Where one server is.
#[derive(Debug, Clone)]
pub enum Server {
    /// Ours.
    Own {
        /// The setting that leads the service there.
        variable: &'static str,
        /// Where it is reached, password included: not for the screen.
        url: String,
        /// The server.
        running: Running,
    },
    /// Not ours: this variable names one that answers.
    External {
        /// The variable.
        variable: String,
    },
}

impl Server {
    /// The setting that leads the service and other tasks to it; none where the environment names it already.
    pub fn setting(&self) -> Option<(&'static str, &str)> {
        match self {
            Server::Own { variable, url, .. } => Some((variable, url)),
            Server::External { .. } => None,
        }
    }
}

/// The servers and the remembered state, held against other tasks that would start or stop them at the same moment.
#[derive(Debug)]
pub struct Development {
    folder: PathBuf,
    state: HeldState,
}

impl Development {
    /// Opens the state folder; waits while another task starts or stops servers.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be used, or what it remembers cannot be read.
    pub fn open() -> Result<Development> {
        let folder = folders::state()?;
        Ok(Development {
            state: HeldState::open(&folder)?,
            folder,
        })
    }

    /// Finds or starts both servers: PostgreSQL, NATS.
    ///
    /// # Errors
    ///
    /// Where one is neither found nor can be started.
    pub fn start(&mut self, mut lifetime: Lifetime<'_>, progress: &Progress) -> Result<[Server; 2]> {
        let postgres = match self.external(POSTGRES_URL, 5432, self.state.postgres.as_ref(), progress) {
            Some(external) => external,
            None => self.start_postgres(&mut lifetime, progress)?,
        };
        let nats = match self.external(NATS_URL, 4222, self.state.nats.as_ref(), progress) {
            Some(external) => external,
            None => self.start_nats(&mut lifetime, progress)?,
        };
        Ok([postgres, nats])
    }

    /// The PostgreSQL that runs now.
    ///
    /// # Errors
    ///
    /// Where the password of ours cannot be read.
    pub fn postgres(&self) -> Result<Option<Server>> {
        match self.external(
            POSTGRES_URL,
            5432,
            self.state.postgres.as_ref(),
            &Progress::new(0),
        ) {
            Some(external) => Ok(Some(external)),
            None => alive(self.state.postgres.as_ref())
                .map(|running| self.own_postgres(running))
                .transpose(),
        }
    }

    /// The NATS that runs now.
    pub fn nats(&self) -> Option<Server> {
        let own = self.state.nats.as_ref();
        self.external(NATS_URL, 4222, own, &Progress::new(0))
            .or_else(|| alive(own).map(own_nats))
    }

    /// The folder of PostgreSQL's data, once they were made.
    pub fn postgres_data(&self) -> Option<PathBuf> {
        let inside = Some(self.folder.join("postgres/data")).filter(|data| data.exists());
        inside.or_else(|| self.state.data_elsewhere.clone())
    }

    /// Stops our servers: all of them, or only those that belong to a task. Answers how many ran.
    ///
    /// # Errors
    ///
    /// Where we may not. The other one is stopped still.
    pub fn stop(&mut self, only_the_tasks: bool) -> Result<usize> {
        let running = [&self.state.postgres, &self.state.nats]
            .into_iter()
            .filter(|entry| alive(entry.as_ref()).is_some())
            .count();
        let mine = |entry: &Entry| !(only_the_tasks && entry.until_stopped);
        let nats = self
            .state
            .nats
            .take_if(|entry| mine(entry))
            .map_or(Ok(()), |entry| Nats::stop(&entry.running));
        let postgres = self
            .state
            .postgres
            .take_if(|entry| mine(entry))
            .map_or(Ok(()), |entry| Postgres::stop(&entry.running));
        self.state.save()?;
        nats.and(postgres).map(|()| running)
    }

    /// Remembers the service that runs on the servers, or that it has ended.
    ///
    /// # Errors
    ///
    /// Where that cannot be written down.
    pub fn remember_service(&mut self, service: Option<ProcessId>) -> Result<()> {
        self.state.service = service;
        self.state.save()
    }

    /// Stops a service that a killed task left behind. Answers whether there was one.
    ///
    /// # Errors
    ///
    /// Where we may not.
    pub fn stop_service_left_behind(&mut self) -> Result<bool> {
        let Some(service) = self.state.service.take() else {
            return Ok(false);
        };
        let was_alive = service.is_alive();
        service.stop(Signal::TERM, Duration::from_secs(30))?;
        self.state.save()?;
        Ok(was_alive)
    }

    /// The port that the service's public listener was given last.
    pub fn http_port(&self) -> Option<u16> {
        self.state.ports.http
    }

    /// The ports for the service's two listeners: public, management.
    ///
    /// # Errors
    ///
    /// Where no port is free.
    pub fn service_ports(&mut self) -> Result<(u16, u16)> {
        let ports = &mut self.state.ports;
        let http = ports.choose(8080, ports.http)?;
        ports.http = Some(http);
        let management = ports.choose(8081, ports.management)?;
        ports.management = Some(management);
        self.state.save()?;
        Ok((http, management))
    }

    fn start_postgres(&mut self, lifetime: &mut Lifetime<'_>, progress: &Progress) -> Result<Server> {
        let before = self.state.postgres.clone();
        let ready = |running: &Running| {
            probe::postgres(running.address(), Postgres::NAME, Postgres::NAME) == PostgresAnswer::Ready
        };
        if let Some(running) = alive(before.as_ref())
            && wait_for("PostgreSQL", running, ready)?
        {
            self.state.postgres = before
                .clone()
                .map(|entry| keep(entry, lifetime, Postgres::STOP))
                .transpose()?;
            self.state.save()?;
            return self.own_postgres(running);
        }
        let (account, data) = self.place_of_data()?;
        progress.begin("Finding PostgreSQL");
        let server = Postgres {
            binaries: PostgresBinaries::find(&account, postgres::major_of_data(&data), progress)?,
            account,
            data,
            log: self.log("postgres.log")?,
            durability: Durability::Kept,
            settings: Vec::new(),
        };
        progress.end();
        if !server.is_prepared() {
            progress.begin("Making the development database");
            let password = postgres::new_password()?;
            state::write_private(&self.password_file(), &password)?;
            server.prepare(Role::Owner, &password)?;
            progress.end();
        }
        self.password()?;
        progress.begin("Starting PostgreSQL");
        let ports = self.state.ports;
        let port = choose_port(
            "PostgreSQL",
            5432,
            ports.postgres,
            before.as_ref(),
            ports,
            progress,
        )?;
        self.state.ports.postgres = Some(port);
        let running = server.start(Some(port), |running| {
            self.state.postgres = Some(keep(Entry::new(running), lifetime, Postgres::STOP)?);
            self.state.save()
        })?;
        progress.end();
        self.own_postgres(&running)
    }

    /// The user PostgreSQL runs as, and its data folder; what holds that is made where it is missing.
    fn place_of_data(&mut self) -> Result<(Account, PathBuf)> {
        if let Some(data) = self.postgres_data().filter(|data| data.exists()) {
            // Data keep the user they were made for, whichever way root was reached this time.
            let account = Account::current();
            return Ok((
                if account.uid == 0 {
                    Account::owner_of(&data)?
                } else {
                    account
                },
                data,
            ));
        }
        let account = Account::for_postgres();
        let inside = self.folder.join("postgres");
        let folder = postgres::reachable_folder(&inside, &account)?;
        let data = folder.join("data");
        self.state.data_elsewhere = (folder != inside).then(|| data.clone());
        Ok((account, data))
    }

    fn start_nats(&mut self, lifetime: &mut Lifetime<'_>, progress: &Progress) -> Result<Server> {
        let before = self.state.nats.clone();
        if let Some(running) = alive(before.as_ref())
            && wait_for("nats-server", running, |running| probe::nats(running.address()))?
        {
            self.state.nats = before
                .clone()
                .map(|entry| keep(entry, lifetime, Nats::STOP))
                .transpose()?;
            self.state.save()?;
            return Ok(own_nats(running));
        }
        progress.begin("Finding nats-server");
        let server = Nats {
            binary: NatsBinary::find(progress)?,
            store: self.folder.join("nats"),
            log: self.log("nats.log")?,
        };
        progress.end();
        progress.begin("Starting nats-server");
        let ports = self.state.ports;
        let port = choose_port("nats-server", 4222, ports.nats, before.as_ref(), ports, progress)?;
        self.state.ports.nats = Some(port);
        let running = server.start(Some(port), |running| {
            self.state.nats = Some(keep(Entry::new(running), lifetime, Nats::STOP)?);
            self.state.save()
        })?;
        progress.end();
        Ok(own_nats(&running))
    }

    /// The server that the environment names, where it answers and is not ours.
    fn external(
        &self,
        variable: &str,
        port: u16,
        own: Option<&Entry>,
        progress: &Progress,
    ) -> Option<Server> {
        let file = format!("{variable}_FILE");
        let (variable, url) = match environment::variable(variable) {
            Some(url) => (variable.to_owned(), url),
            None => {
                let path = environment::variable(&file)?;
                (
                    file,
                    fs::read_to_string(folders::project().join(path))
                        .ok()?
                        .trim()
                        .to_owned(),
                )
            }
        };
        // A `.env` with the usual port may well mean the server that we started there last time.
        if own.is_some_and(|own| {
            own.running.process.is_alive() && probe::url_is_local(&url, port, own.running.port)
        }) {
            return None;
        }
        if probe::url_answers(&url, port) {
            return Some(Server::External { variable });
        }
        progress.say(&format!(
            "{variable} is set, but nothing answers there: using a server of our own instead."
        ));
        None
    }

    fn own_postgres(&self, running: &Running) -> Result<Server> {
        let url = Postgres::url(running, &self.password()?);
        // For `psql`, so that nobody has to type the password.
        state::write_private(&self.folder.join("postgres-url"), &url)?;
        Ok(Server::Own {
            variable: POSTGRES_URL,
            url,
            running: running.clone(),
        })
    }

    fn password_file(&self) -> PathBuf {
        self.folder.join("postgres-password")
    }

    fn password(&self) -> Result<String> {
        let path = self.password_file();
        let password = fs::read_to_string(&path).with_context(|| {
            format!(
                "there are development data, but their password is missing: cannot read {}",
                path.display()
            )
        })?;
        Ok(password.trim().to_owned())
    }

    fn log(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("log");
        folders::private(&folder)?;
        Ok(folder.join(name))
    }
}

/// Chooses a server's port. One that was killed comes back where its clients look for it.
fn choose_port(
    name: &str,
    usual: u16,
    last_time: Option<u16>,
    before: Option<&Entry>,
    ports: Ports,
    progress: &Progress,
) -> Result<u16> {
    let port = ports.choose(before.map_or(usual, |before| before.running.port), last_time)?;
    if port != usual {
        progress.say(&format!("Port {usual} is taken: {name} listens on {port}."));
    }
    Ok(port)
}

/// Sets how long a server shall run, and has the watchdog stop it where it belongs to this task.
fn keep(entry: Entry, lifetime: &mut Lifetime<'_>, stop: Signal) -> Result<Entry> {
    match lifetime {
        Lifetime::UntilStopped => Ok(Entry {
            until_stopped: true,
            ..entry
        }),
        Lifetime::Task(watchdog) => {
            if !entry.until_stopped {
                watchdog.stop_at_end(&entry.running.process, stop, Duration::from_secs(20))?;
            }
            Ok(entry)
        }
    }
}

fn alive(entry: Option<&Entry>) -> Option<&Running> {
    entry
        .map(|entry| &entry.running)
        .filter(|running| running.process.is_alive())
}

fn own_nats(running: &Running) -> Server {
    let url = format!("nats://{}", running.address());
    Server::Own {
        variable: NATS_URL,
        url,
        running: running.clone(),
    }
}

/// Waits for a server that was found running: the task that started it may have been killed before it was ready. Answers whether
/// it is ready; if not, it has ended meanwhile.
fn wait_for(name: &str, running: &Running, ready: impl Fn(&Running) -> bool) -> Result<bool> {
    let begin = Instant::now();
    while !ready(running) {
        if !running.process.is_alive() {
            return Ok(false);
        }
        if begin.elapsed() > Duration::from_secs(30) {
            bail!(
                "{name} runs ({}), but does not answer on {}: `cargo xtask services down` stops it",
                running.process,
                running.address()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(true)
}
