//! Freezing a program with all the processes it has started: PostgreSQL is one process a connection.

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
        for child in process.children() {
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
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
