//! Stops what a task started when the task itself can no longer do it.
//!
//! A second process reads a pipe from the task. However the task ends, also by kill -9, the pipe closes, and the watchdog stops
//! what it was told of: the last first, each in its own way. After an orderly end it finds nothing left to do.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::{ProcessId, Signal};

/// The subcommand of xtask under which the second process runs.
pub const SUBCOMMAND: &str = "watchdog";

/// The task's end of the pipe. When it is dropped, the watchdog does its work at once.
#[derive(Debug)]
pub struct Watchdog {
    pipe: Option<ChildStdin>,
    child: Child,
}

/// What to do at the end.
#[derive(Debug, Serialize, Deserialize)]
enum Duty {
    /// Stop a process: the signal to ask with, and the seconds until it is killed.
    Stop {
        process: ProcessId,
        signal: i32,
        patience: u64,
    },
    /// Remove a folder with all it holds.
    Remove { folder: PathBuf },
}

impl Watchdog {
    /// Starts it. Only xtask can: the second process is the same program.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
    pub fn start() -> Result<Watchdog> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            // A group of its own: Ctrl-C in the terminal must not end it before its work is done.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the watchdog")?;
        Ok(Watchdog {
            pipe: child.stdin.take(),
            child,
        })
    }

    /// Has it stop a process at the end: asked with `signal`, killed after `patience`.
    ///
    /// # Errors
    ///
    /// Where the watchdog has gone.
    pub fn stop_at_end(&mut self, process: &ProcessId, signal: Signal, patience: Duration) -> Result<()> {
        let (process, signal) = (process.clone(), signal.as_raw());
        self.tell(&Duty::Stop {
            process,
            signal,
            patience: patience.as_secs(),
        })
    }

    /// Has it remove a folder at the end.
    ///
    /// # Errors
    ///
    /// Where the watchdog has gone.
    pub fn remove_at_end(&mut self, folder: &Path) -> Result<()> {
        self.tell(&Duty::Remove {
            folder: folder.to_path_buf(),
        })
    }

    fn tell(&mut self, duty: &Duty) -> Result<()> {
        let mut line = serde_json::to_string(duty)?;
        line.push('\n');
        let pipe = self.pipe.as_mut().context("the watchdog has gone")?;
        pipe.write_all(line.as_bytes()).context("the watchdog has gone")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        self.child.wait().ok();
    }
}

/// What the second process does: reads duties until the pipe closes, then does them, the last first.
///
/// # Errors
///
/// Where the pipe cannot be read. A duty that fails is reported and the others are still done.
pub fn keep_watch() -> Result<()> {
    let mut duties = Vec::new();
    for line in std::io::stdin().lock().lines() {
        // A last line that was cut off belongs to a task that died while writing it.
        duties.extend(serde_json::from_str::<Duty>(&line?).ok());
    }
    while let Some(duty) = duties.pop() {
        let done = match &duty {
            Duty::Stop {
                process,
                signal,
                patience,
            } => {
                let signal = Signal::from_named_raw(*signal).unwrap_or(Signal::TERM);
                process.stop(signal, Duration::from_secs(*patience)).map(drop)
            }
            Duty::Remove { folder } if !folder.exists() => Ok(()),
            Duty::Remove { folder } => {
                std::fs::remove_dir_all(folder).context("cannot remove a temporary folder")
            }
        };
        if let Err(error) = done {
            eprintln!("watchdog: {error:#}");
        }
    }
    Ok(())
}
