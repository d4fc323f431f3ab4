//! Processes by identity: a number alone is handed out again after its process has ended.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde::{Deserialize, Serialize};

/// One process, told from any later one that was given the same number by the moment it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number.
    pub pid: u32,
    started: String,
}

impl ProcessId {
    /// The process that has this number now. A child of ours that ended at once still has its own until we wait for it.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn of(pid: u32) -> Result<ProcessId> {
        let (started, _) = look(pid).with_context(|| format!("there is no process {pid}"))?;
        Ok(ProcessId { pid, started })
    }

    /// Whether it still runs. One that ended and was not waited for yet does not run.
    pub fn is_alive(&self) -> bool {
        look(self.pid).is_some_and(|(started, ended)| !ended && started == self.started)
    }

    /// Sends a signal. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// Where it runs and we may not.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let Some(pid) = i32::try_from(self.pid)
            .ok()
            .and_then(Pid::from_raw)
            .filter(|_| self.is_alive())
        else {
            return Ok(());
        };
        match kill_process(pid, signal) {
            Err(error) if self.is_alive() => Err(error).with_context(|| format!("cannot signal {self}")),
            _ => Ok(()),
        }
    }

    /// Asks it to end, waits up to `patience`, then kills it. Answers whether it ended by itself.
    ///
    /// # Errors
    ///
    /// Where we may not signal it.
    pub fn stop(&self, ask: Signal, patience: Duration) -> Result<bool> {
        self.signal(ask)?;
        if self.wait(patience) {
            return Ok(true);
        }
        self.signal(Signal::KILL)?;
        self.wait(Duration::from_secs(5));
        Ok(false)
    }

    /// What it has started, as far as that still runs.
    pub fn children(&self) -> Vec<ProcessId> {
        let pids: Vec<u32> = if Path::new("/proc/self/stat").exists() {
            let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
            entries
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .filter(|pid| parent_of(*pid) == Some(self.pid))
                .collect()
        } else {
            let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
            let listed = listed.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&listed)
                .lines()
                .filter_map(|line| line.trim().split_once(char::is_whitespace))
                .filter(|(_, of)| of.trim().parse() == Ok(self.pid))
                .filter_map(|(pid, _)| pid.parse().ok())
                .collect()
        };
        let found = pids.into_iter().filter_map(|pid| ProcessId::of(pid).ok());
        found.filter(ProcessId::is_alive).collect()
    }

    /// What it has started, and what that has started in turn, as far as those still run.
    pub fn descendants(&self) -> Vec<ProcessId> {
        let mut found = self.children();
        let mut next = 0;
        while let Some(process) = found.get(next) {
            let children = process.children();
            found.extend(children);
            next += 1;
        }
        found
    }

    /// Waits until it has ended, at most `patience`; answers whether it has.
    pub fn wait(&self, patience: Duration) -> bool {
        let begin = Instant::now();
        while self.is_alive() {
            if begin.elapsed() >= patience {
                return false;
            }
            sleep(Duration::from_millis(20));
        }
        true
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// When a process started, in words that only have to differ from those of any other process of that number, and whether it
/// has ended and only waits for its parent to take note.
fn look(pid: u32) -> Option<(String, bool)> {
    if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (ticks, ended) = parse_stat(&stat)?;
        return Some((format!("{} {ticks}", boot.trim()), ended));
    }
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid.to_string()])
        .env("LC_ALL", "C")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (state, start) = text.trim().split_once(char::is_whitespace)?;
    Some((start.trim().to_owned(), state.starts_with('Z')))
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

/// The ticks at which a process started, and whether it has ended, from `/proc/<pid>/stat`.
///
/// The second field is the program's name in brackets and may hold anything, so counting begins after the last bracket.
fn parse_stat(stat: &str) -> Option<(&str, bool)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    Some((fields.nth(18)?, matches!(state, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = ProcessId::of(child.id()).unwrap();
        assert!(process.is_alive());
        let other = ProcessId {
            started: "long ago".to_owned(),
            ..process.clone()
        };
        assert!(!other.is_alive(), "the same number, another process");
        other.signal(Signal::KILL).unwrap();
        assert!(process.is_alive(), "the signal to the other one reached nobody");
        assert!(process.stop(Signal::TERM, Duration::from_secs(10)).unwrap());
        assert!(
            !process.is_alive(),
            "nobody has waited for it, and still it has ended"
        );
        assert_eq!(ProcessId::of(child.id()).unwrap(), process);
        child.wait().unwrap();
        assert!(ProcessId::of(child.id()).is_err());
    }

    #[test]
    fn the_name_of_a_program_may_hold_anything() {
        let stat = "42 (a) R b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 19";
        assert_eq!(parse_stat(stat), Some(("777", false)));
        assert_eq!(parse_stat(&stat.replace(") S", ") Z")), Some(("777", true)));
    }
}
