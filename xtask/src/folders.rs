//! Where things are kept: the project, its state folder, and the cache of fetched programs.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::environment;

/// The root of the project.
pub fn project() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        // Cargo says at run time where the package lies. The path from compile time is for a binary that is run by itself.
        let package =
            environment::folder("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        package.parent().map(Path::to_path_buf).unwrap_or(package)
    })
}

/// The project's state folder, `.order-tracker`: development data, logs and what is running. Made where it is missing.
///
/// Others may pass through it, since PostgreSQL runs as another user when we are root; what is private is private by itself.
///
/// # Errors
///
/// Where it cannot be made, or belongs to another user.
pub fn state() -> Result<PathBuf> {
    let state = project().join(".order-tracker");
    open_folder(&state, 0o711)?;
    let owner = fs::metadata(&state)?.uid();
    let me = Account::current().uid;
    if owner != me && me != 0 {
        bail!(
            "{} belongs to uid {owner}, and this is uid {me}: run the task as that user, or remove the folder with all its data",
            state.display()
        );
    }
    Ok(state)
}

/// Where fetched programs are kept, so that `account` can run them: the user's own cache folder, else one of ours under
/// `/var/tmp`. Never the target folder: `cargo clean` must not cost a download.
///
/// # Errors
///
/// Where no such folder can be made, or someone else made the one under `/var/tmp`.
pub fn cache(account: &Account) -> Result<PathBuf> {
    let home = environment::folder("HOME").map(|home| home.join(".cache"));
    if let Some(own) = environment::folder("XDG_CACHE_HOME")
        .or(home)
        .map(|base| base.join("order-tracker"))
        && account.can_enter(&own)
        && open_folder(&own, 0o755).is_ok()
    {
        return Ok(own);
    }
    shared()
}

/// `/var/tmp/order-tracker-<uid>`: ours alone to write, for everyone to pass through.
///
/// # Errors
///
/// Where it cannot be made, or another user made it: anyone can under `/var/tmp`, and would choose what we run.
pub fn shared() -> Result<PathBuf> {
    let uid = Account::current().uid;
    let folder = PathBuf::from(format!("/var/tmp/order-tracker-{uid}"));
    open_folder(&folder, 0o755)?;
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        bail!(
            "{} must be a folder that only uid {uid} can write; someone else made it",
            folder.display()
        );
    }
    Ok(folder)
}

/// Makes a folder that only its owner can enter, where it is missing.
///
/// # Errors
///
/// Where it cannot be made.
pub fn private(folder: &Path) -> Result<()> {
    open_folder(folder, 0o700)
}

/// A new, empty folder in the system's place for temporary ones (or in `/var/tmp`), which `account` can enter.
///
/// # Errors
///
/// Where none can be made.
pub fn temporary(prefix: &str, account: &Account) -> Result<PathBuf> {
    let base = Some(std::env::temp_dir()).filter(|base| account.can_enter(base));
    let base = base.unwrap_or_else(|| "/var/tmp".into());
    for attempt in 0..1000 {
        let folder = base.join(format!("{prefix}-{}-{attempt}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => {
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
                return Ok(folder);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    }
    bail!("cannot make a temporary folder in {}", base.display())
}

/// The path as a person would type it: relative to the project where it lies within.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(project()).unwrap_or(path).display().to_string()
}

/// A path as one name, for a folder under [`shared`] that belongs to it: `/root/a b` becomes `root-a-b`.
pub(crate) fn as_name(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(OsStr::to_string_lossy(name)),
        _ => None,
    });
    let name = parts.collect::<Vec<_>>().join("-");
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect()
}

fn open_folder(folder: &Path, mode: u32) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)
        // Said explicitly: a strict umask would lock the server's user out.
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(mode)))
        .with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_one_name() {
        assert_eq!(
            as_name(Path::new("/root/order tracker/a.b")),
            "root-order-tracker-a.b"
        );
    }
}
