//! The project with one of its guards taken out: a copy, so that nobody's work is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::folders;

use super::Histories;
use super::guards::Guard;
use crate::cargo;

/// What a build of the workspace needs. All members, or cargo would choose other features and compile every dependency again.
const COPIED: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "crates",
    "migrations",
    "tests",
    "xtask",
];
/// How a violation is told, and what comes between its seed and its words.
const VIOLATION: (&str, &str) = ("the history of seed ", " broke a promise: ");

/// A copy of the project, under its target folder.
pub(super) struct Mutants {
    copy: PathBuf,
    target: PathBuf,
}

/// The first history that broke a promise.
pub(super) struct Found {
    pub(super) seed: u64,
    pub(super) what: String,
}

impl Mutants {
    /// Makes the copy. What is compiled of dependencies is shared with the project.
    pub(super) fn prepare() -> Result<Self> {
        let target = target_folder()?;
        let copy = target.join("mutants");
        if copy.exists() {
            fs::remove_dir_all(&copy).with_context(|| format!("cannot remove {}", copy.display()))?;
        }
        fs::create_dir_all(&copy).with_context(|| format!("cannot make {}", copy.display()))?;
        for name in COPIED {
            copy_all(&folders::project().join(name), &copy.join(name))?;
        }
        Ok(Mutants { copy, target })
    }

    /// Takes the guard out, runs the histories, and puts it in again; `None` if none of them breaks a promise.
    pub(super) fn run(&self, guard: &Guard, histories: Histories) -> Result<Option<Found>> {
        let file = self.copy.join(guard.file);
        let whole = fs::read_to_string(&file).with_context(|| format!("cannot read {}", guard.file))?;
        write(&file, &guard.taken_out_of(&whole)?)?;
        let ran = histories
            .command()
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .output()
            .context("cannot run cargo")?;
        write(&file, &whole)?;
        if ran.status.success() {
            return Ok(None);
        }
        let output = String::from_utf8_lossy(&ran.stdout);
        let found = output.lines().rev().find_map(violation);
        if found.is_none() {
            // Not shown otherwise: a guard that is gone leaves names behind that nobody uses, and the compiler says so.
            bail!(
                "no history ran without {}:\n{}",
                guard.name,
                String::from_utf8_lossy(&ran.stderr)
            );
        }
        Ok(found)
    }
}

fn violation(line: &str) -> Option<Found> {
    let (seed, what) = line.strip_prefix(VIOLATION.0)?.split_once(VIOLATION.1)?;
    Some(Found {
        seed: seed.parse().ok()?,
        what: what.to_owned(),
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    if from.is_dir() {
        fs::create_dir_all(to).with_context(failed)?;
        for entry in fs::read_dir(from).with_context(failed)? {
            let name = entry.with_context(failed)?.file_name();
            copy_all(&from.join(&name), &to.join(&name))?;
        }
    } else {
        fs::copy(from, to).with_context(failed)?;
    }
    Ok(())
}

/// Where cargo builds this project.
fn target_folder() -> Result<PathBuf> {
    let output = cargo::command("metadata")
        .args(["--no-deps", "--offline", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata said nothing")?;
    match metadata["target_directory"].as_str() {
        Some(folder) => Ok(folder.into()),
        None => bail!("cargo metadata names no target folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_read_from_the_models_last_line() {
        let found = violation("the history of seed 42 broke a promise: it panicked: no").unwrap();
        assert_eq!((found.seed, found.what.as_str()), (42, "it panicked: no"));
        assert!(violation("No history broke a promise; 1.0 s.").is_none());
    }
}
