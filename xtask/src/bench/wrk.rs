//! Reads over HTTP, by wrk: it asks faster than anything has to answer here.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

/// What wrk saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// How many answers.
    pub(super) answers: u64,
    /// In which time.
    pub(super) elapsed: Duration,
    errors: u64,
}

/// Asks for some orders over and over.
pub(super) struct Wrk {
    script: PathBuf,
    uids: PathBuf,
    connections: u32,
}

impl Wrk {
    /// Writes down which orders, in a folder that nothing else asks from.
    pub(super) fn new(folder: &Path, uids: impl Iterator<Item = String>, connections: u32) -> Result<Wrk> {
        let wrk = Wrk {
            script: folder.join("uids.lua"),
            uids: folder.join("uids.txt"),
            connections,
        };
        std::fs::write(&wrk.script, include_str!("uids.lua"))?;
        std::fs::write(&wrk.uids, uids.collect::<Vec<_>>().join("\n"))?;
        Ok(wrk)
    }

    /// Asks a port of 127.0.0.1 for a while, on one thread.
    pub(super) async fn run(&self, port: u16, lasts: Duration) -> Result<Seen> {
        let output = Command::new("wrk")
            .args(["-t1", "-c", &self.connections.to_string()])
            .args(["-d", &format!("{}s", lasts.as_secs())])
            .arg("-s")
            .arg(&self.script)
            .args([&format!("http://127.0.0.1:{port}"), "--"])
            .arg(&self.uids)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run wrk: `apt install wrk`, `dnf install wrk` or `brew install wrk`")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let Some(seen) = said.lines().find_map(parse) else {
            bail!("wrk said: {said}{}", String::from_utf8_lossy(&output.stderr));
        };
        ensure!(seen.errors == 0, "{} answers were errors", seen.errors);
        Ok(seen)
    }
}

/// What the script wrote at its end.
fn parse(line: &str) -> Option<Seen> {
    let mut numbers = line.strip_prefix("SEEN ")?.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Seen {
        answers: next()?,
        elapsed: Duration::from_micros(next()?),
        errors: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_wrote_is_read() {
        let seen = Seen {
            answers: 176,
            elapsed: Duration::from_millis(2_058),
            errors: 3,
        };
        assert_eq!(parse("SEEN 176 2058000 3"), Some(seen));
        assert_eq!(parse("  176 requests in 2.06s, 241.17KB read"), None);
    }
}
