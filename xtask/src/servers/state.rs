//! What the state folder remembers, and the locks on it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Running;
use crate::process::ProcessId;
use crate::{folders, ports};

/// What is remembered from task to task, in `state.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) ports: Ports,
    /// Where PostgreSQL's data are, if not in the state folder: a folder such as `/root` keeps its user out.
    pub(super) data_elsewhere: Option<PathBuf>,
    pub(super) postgres: Option<Entry>,
    pub(super) nats: Option<Entry>,
    /// The service that `up` runs.
    pub(super) service: Option<ProcessId>,
}

/// A server that was started, and not stopped since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) running: Running,
    /// Whether it outlives the task that started it.
    pub(super) until_stopped: bool,
}

impl Entry {
    pub(super) fn new(running: &Running) -> Entry {
        Entry {
            running: running.clone(),
            until_stopped: false,
        }
    }
}

/// The ports used last time.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ports {
    pub(super) postgres: Option<u16>,
    pub(super) nats: Option<u16>,
    pub(super) http: Option<u16>,
    pub(super) management: Option<u16>,
}

impl Ports {
    /// The port for one of them: free, and none of the others'.
    pub(super) fn choose(&self, usual: u16, last_time: Option<u16>) -> Result<u16> {
        let all = [self.postgres, self.nats, self.http, self.management];
        let others = all.into_iter().flatten().filter(|port| Some(*port) != last_time);
        ports::choose(usual, last_time, &others.collect::<Vec<_>>())
    }
}

/// The state, locked against other tasks for as long as this lives.
#[derive(Debug)]
pub(super) struct HeldState {
    state: State,
    folder: PathBuf,
    _lock: File,
}

impl HeldState {
    /// Reads it; waits while another task holds it.
    pub(super) fn open(folder: &Path) -> Result<HeldState> {
        let lock = open_private(&folder.join("state.lock"))?;
        lock.lock().context("cannot lock the state folder")?;
        let path = folder.join("state.json");
        let mut state: State = match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // A project that was copied with its state folder must not take the original's servers for its own.
        state
            .postgres
            .take_if(|entry| !entry.running.log.starts_with(folder));
        state.nats.take_if(|entry| !entry.running.log.starts_with(folder));
        Ok(HeldState {
            state,
            folder: folder.to_path_buf(),
            _lock: lock,
        })
    }

    /// Writes it down, whole or not at all.
    pub(super) fn save(&self) -> Result<()> {
        let path = self.folder.join("state.json");
        let unfinished = self.folder.join("state.json.unfinished");
        write_private(&unfinished, &serde_json::to_string_pretty(&self.state)?)?;
        fs::rename(&unfinished, &path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Deref for HeldState {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for HeldState {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// The right to run the service on these servers, held by one `up` at a time for as long as it runs.
///
/// The operating system gives it back however the task ends, so there is no stale file to remove.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held for its lock")] File);

impl Claim {
    /// Takes it; `None` where another task has it.
    ///
    /// # Errors
    ///
    /// Where the state folder cannot be used.
    pub fn take() -> Result<Option<Claim>> {
        let file = open_private(&folders::state()?.join("up.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Claim(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).context("cannot lock the state folder"),
        }
    }
}

/// Writes a file that only its owner can read.
pub(super) fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = open_private(path)?;
    file.set_len(0)?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

fn open_private(path: &Path) -> Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}
