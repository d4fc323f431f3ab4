//! Freezing a program with all the processes it has started: PostgreSQL is one process a connection.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use xtask::process::{ProcessId, Signal};

/// A process and its children, frozen. They go on when this is dropped.
#[derive(Debug)]
pub(super) struct Frozen(Vec<ProcessId>);

impl Frozen {
    /// Freezes `process` and its children. `froze` is told of each, so that it is not left behind frozen if we are killed.
    ///
    /// # Errors
    ///
    /// Where one may not be signalled, or `froze` fails.
    pub(super) fn freeze(
        process: &ProcessId,
        mut froze: impl FnMut(&ProcessId) -> Result<()>,
    ) -> Result<Frozen> {
        // The parent first: it starts no more of them then.
        let mut frozen = Frozen(vec![process.clone()]);
        process.signal(Signal::STOP)?;
        for child in children(process.pid) {
            froze(&child)?;
            child.signal(Signal::STOP)?;
            frozen.0.push(child);
        }
        Ok(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in self.0.iter().rev() {
            // One that has ended meanwhile is left alone.
            let _ = process.signal(Signal::CONT);
        }
    }
}

/// The children of a process, as far as they still run.
fn children(parent: u32) -> Vec<ProcessId> {
    let pids: Vec<u32> = if Path::new("/proc/self/stat").exists() {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| parent_of(*pid) == Some(parent))
            .collect()
    } else {
        let listed = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&listed)
            .lines()
            .filter_map(|line| line.trim().split_once(char::is_whitespace))
            .filter(|(_, of)| of.trim().parse() == Ok(parent))
            .filter_map(|(pid, _)| pid.parse().ok())
            .collect()
    };
    let found = pids.into_iter().filter_map(|pid| ProcessId::of(pid).ok());
    found.filter(ProcessId::is_alive).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_frozen_child_says_nothing_until_it_is_thawed() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'while echo tick; do sleep 0.02; done' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, ticks) = mpsc::channel();
        let output = BufReader::new(shell.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().all(|line| sender.send(line).is_ok()));
        let patience = Duration::from_secs(10);
        ticks.recv_timeout(patience).unwrap().unwrap();

        let mut told = Vec::new();
        let frozen = Frozen::freeze(&ProcessId::of(shell.id()).unwrap(), |child| {
            told.push(child.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(told.len(), 1);
        while ticks.recv_timeout(Duration::from_millis(500)).is_ok() {}
        drop(frozen);
        assert!(ticks.recv_timeout(patience).is_ok());
        for process in told.iter().chain(&[ProcessId::of(shell.id()).unwrap()]) {
            process.signal(Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
