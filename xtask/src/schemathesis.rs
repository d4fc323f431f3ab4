//! schemathesis, which asks an HTTP service everything that its OpenAPI document allows, and everything that it forbids.
//!
//! A program in Python with some thirty packages below it, fetched with pip like the servers, and pinned like them: each by hash, in
//! `xtask/schemathesis.txt`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::folders;
use crate::progress::Progress;
use crate::wheels;

const PINS: &str = include_str!("../schemathesis.txt");
/// The oldest Python that the pinned packages run on.
const PYTHON: (u32, u32) = (3, 10);

/// A command that runs schemathesis: the cached one, or else one that is fetched now.
///
/// # Errors
///
/// Where there is no Python that is new enough, or pip finds no wheels for it.
pub fn command(progress: &Progress) -> Result<Command> {
    let (major, minor) = python_version().context("there is no python3 (Debian: apt-get install python3)")?;
    if (major, minor) < PYTHON {
        bail!(
            "schemathesis needs Python {}.{} or newer, and python3 is {major}.{minor}",
            PYTHON.0,
            PYTHON.1
        );
    }
    // Some of the packages are compiled for one version of Python.
    let name = format!("schemathesis-{:08x}-python{major}.{minor}", fingerprint(PINS));
    let place = folders::cache(&Account::current())?.join(name);
    if !place.is_dir() {
        wheels::fetch_to(&place, "schemathesis", PINS, progress)?;
    }
    let mut command = Command::new("python3");
    command
        .arg(place.join("bin/schemathesis"))
        .env("PYTHONPATH", &place)
        // Nobody's settings but those of the command line.
        .env_remove("SCHEMATHESIS_HOOKS");
    Ok(command)
}

fn python_version() -> Option<(u32, u32)> {
    let output = Command::new("python3")
        .args(["-c", "import sys; print(*sys.version_info[:2])"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Tells one list of pins from another (FNV-1a): it need not withstand anyone, the hashes in the list do that.
fn fingerprint(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned_by_version_and_hash() {
        let mut pinned = 0;
        for line in PINS.lines().filter(|line| !line.starts_with('#')) {
            match line.trim().strip_prefix("--hash=sha256:") {
                Some(hash) => {
                    let hash = hash.trim_end_matches(" \\");
                    assert!(
                        hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
                        "{line}"
                    );
                }
                None => {
                    assert!(line.contains("==") && line.ends_with('\\'), "{line}");
                    pinned += 1;
                }
            }
        }
        assert!(pinned > 20, "{pinned}");
    }
}
