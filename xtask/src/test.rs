//! `cargo xtask test`: every test, on servers of its own.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{ChildStdout, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use xtask::account::Account;
use xtask::environment;
use xtask::process::{ProcessId, Signal};
use xtask::progress::Progress;
use xtask::servers::{Binaries, Durability, ThrowAway, url_answers};
use xtask::watchdog::Watchdog;

use crate::cargo;

const POSTGRES_URL: &str = "ORDERS_TEST_POSTGRES_URL";
const NATS_URL: &str = "ORDERS_TEST_NATS_URL";
/// The folder of PostgreSQL's programs, for tests that stop and kill a server of their own.
const POSTGRES_BIN: &str = "ORDERS_TEST_POSTGRES_BIN";
/// The program nats-server, for the same.
const NATS_SERVER: &str = "ORDERS_TEST_NATS_SERVER";

/// Runs the tests of all crates on a PostgreSQL and a nats-server of their own, made for this run and gone after it.
///
/// Where ORDERS_TEST_POSTGRES_URL and ORDERS_TEST_NATS_URL both name servers that answer, those are used. The last line sums
/// up all test binaries.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask test\n  cargo xtask test -p order-nats redeliver\n  cargo xtask test -- --nocapture"
)]
pub(crate) struct Test {
    /// Arguments for `cargo test`: a filter, `-p CRATE`, `--test NAME`.
    #[arg(allow_hyphen_values = true, value_name = "ARGS")]
    cargo: Vec<String>,
    /// Arguments for the test binaries.
    #[arg(last = true, value_name = "TEST_ARGS")]
    binaries: Vec<String>,
}

impl Test {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut watchdog = Watchdog::start()?;
        let mut command = cargo::command("test");
        let chosen = self
            .cargo
            .iter()
            .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"));
        if !chosen {
            command.arg("--workspace");
        }
        command
            .args(["--all-features", "--no-fail-fast"])
            .args(&self.cargo)
            .arg("--")
            .args(&self.binaries);
        if std::io::stdout().is_terminal() {
            command.arg("--color=always");
        }
        // The whole-system tests start the binaries, which cargo builds by itself only for a run of all tests.
        if !chosen || self.cargo.iter().any(|arg| arg.ends_with("order-tests")) {
            self.build_binaries()?;
        }
        let servers = Servers::start(&mut watchdog)?;
        let child = command.envs(servers.variables()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("cannot run cargo")?;
        watchdog.stop_at_end(&ProcessId::of(child.id())?, Signal::TERM, Duration::from_secs(5))?;
        let totals = stream(child.stdout.take().context("cargo has no output")?)?;
        let status = child.wait()?;
        drop(servers);
        if totals.unfinished > 0 {
            eprintln!("{} test binaries ended without a result.", totals.unfinished);
        } else if !status.success() && totals.failed == 0 {
            eprintln!("cargo failed outside of a test; see above.");
        }
        println!(
            "{} passed, {} failed, {} skipped",
            totals.passed,
            totals.failed + totals.unfinished,
            totals.ignored
        );
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from))
    }

    fn build_binaries(&self) -> Result<()> {
        let mut command = cargo::command("build");
        command.args(["--workspace", "--all-features", "--bins"]);
        let mut args = self.cargo.iter();
        while let Some(arg) = args.next() {
            if ["--release", "-r"].contains(&arg.as_str()) || arg.starts_with("--profile") {
                command.arg(arg);
            }
            if arg == "--profile" {
                command.args(args.next());
            }
        }
        let status = command.status().context("cannot run cargo")?;
        ensure!(status.success(), "cargo did not build the binaries; see above");
        Ok(())
    }
}

/// The servers that the tests run on.
struct Servers {
    binaries: Option<Binaries>,
    own: Option<ThrowAway>,
}

impl Servers {
    fn start(watchdog: &mut Watchdog) -> Result<Servers> {
        let progress = Progress::new(4);
        let account = Account::for_postgres();
        progress.begin("Finding PostgreSQL and nats-server");
        let binaries = Binaries::find(&account, &progress);
        progress.end();
        let given = |name, port| environment::variable(name).is_some_and(|url| url_answers(&url, port));
        if given(POSTGRES_URL, 5432) && given(NATS_URL, 4222) {
            // Only the tests that kill servers need programs, and say so.
            return Ok(Servers {
                binaries: binaries.ok(),
                own: None,
            });
        }
        let binaries = binaries?;
        progress.begin("Starting PostgreSQL and nats-server for the tests");
        let own = ThrowAway::start(&binaries, account, Durability::LostWithPower, &[], watchdog)?;
        progress.end();
        Ok(Servers {
            binaries: Some(binaries),
            own: Some(own),
        })
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(own) = &self.own {
            variables.push((POSTGRES_URL, own.postgres_url.clone()));
            variables.push((NATS_URL, own.nats_url()));
        }
        if let Some(binaries) = &self.binaries {
            variables.push((POSTGRES_BIN, binaries.postgres.folder.display().to_string()));
            variables.push((NATS_SERVER, binaries.nats.program.display().to_string()));
        }
        variables
    }
}

/// What all test binaries reported together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Binaries that began and never reported: they crashed.
    unfinished: u64,
    running: bool,
}

impl Totals {
    fn read(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("running ") && line.ends_with([' ', 's', 't']) && line.contains(" test") {
            self.unfinished += u64::from(self.running);
            self.running = true;
        }
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.running = false;
        for count in counts.split(';') {
            let (total, number) = match count.trim().split_once(' ') {
                Some((number, "passed")) => (&mut self.passed, number),
                Some((number, "failed")) => (&mut self.failed, number),
                Some((number, "ignored")) => (&mut self.ignored, number),
                _ => continue,
            };
            *total += number.parse::<u64>().unwrap_or(0);
        }
    }

    fn end(&mut self) {
        self.unfinished += u64::from(std::mem::take(&mut self.running));
    }
}

/// Passes cargo's output through and sums up what it reports.
fn stream(output: ChildStdout) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        totals.read(&without_colours(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    totals.end();
    Ok(totals)
}

/// A line without the terminal's colour codes: `ESC [ … m`, and the `ESC ( B` that some terminals reset with.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, code)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        let end = if code.starts_with('[') {
            code.find('m').map(|at| at + 1)
        } else {
            Some(2)
        };
        rest = end.and_then(|end| code.get(end..)).unwrap_or_default();
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(output: &str) -> Totals {
        let mut totals = Totals::default();
        output
            .lines()
            .for_each(|line| totals.read(&without_colours(line)));
        totals.end();
        totals
    }

    #[test]
    fn all_binaries_are_summed_up() {
        let output = "\nrunning 3 tests\ntest a ... ok\n\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n\n\
            running 1 test\ntest b ... \u{1b}[31mFAILED\u{1b}(B\u{1b}[m\n\n\
            test result: \u{1b}[31mFAILED\u{1b}(B\u{1b}[m. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            totals(output),
            Totals {
                passed: 13,
                failed: 2,
                ignored: 1,
                ..Totals::default()
            }
        );
    }

    #[test]
    fn a_binary_that_crashes_counts_as_a_failure() {
        let output = "running 2 tests\ntest a ... ok\nrunning 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        assert_eq!(
            totals(output),
            Totals {
                passed: 1,
                unfinished: 1,
                ..Totals::default()
            }
        );
        assert_eq!(
            totals("running 2 tests\n"),
            Totals {
                unfinished: 1,
                ..Totals::default()
            }
        );
    }
}
