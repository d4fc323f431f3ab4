//! The user that PostgreSQL runs as. It refuses to run as root, so root lends it another one.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment;

/// A user, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
}

impl Account {
    /// The user this process runs as.
    pub fn current() -> Account {
        Account {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// The user for PostgreSQL: this one, unless it is root. Then whoever called `sudo`, else `nobody`.
    pub fn for_postgres() -> Account {
        let current = Account::current();
        if current.uid != 0 {
            return current;
        }
        let number = |name| environment::variable(name).and_then(|value| value.parse::<u32>().ok());
        match (number("SUDO_UID"), number("SUDO_GID")) {
            (Some(uid), Some(gid)) if uid != 0 => Account { uid, gid },
            _ => nobody(),
        }
    }

    /// The owner of `path`.
    ///
    /// # Errors
    ///
    /// Where there is no such path, or it cannot be looked at.
    pub fn owner_of(path: &Path) -> Result<Account> {
        let found = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Account {
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    /// A command that runs `program` as this user, in `folder`, in a process group of its own, so that Ctrl-C in the
    /// terminal reaches us and not it.
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).process_group(0);
        if *self != Account::current() {
            // Setting the user also gives up root's supplementary groups.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives a file or folder to this user.
    ///
    /// # Errors
    ///
    /// Where we may not.
    pub fn own(&self, path: &Path) -> Result<()> {
        if *self == Account::current() {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to uid {}", path.display(), self.uid))
    }

    /// Whether this user may pass through every folder on the way to `path`, as far as they exist already.
    ///
    /// A folder such as `/root`, closed to all others, hides whatever lies under it however open that is.
    pub fn can_enter(&self, path: &Path) -> bool {
        self.uid == 0
            || path.ancestors().all(|folder| match fs::metadata(folder) {
                Ok(found) if found.is_dir() => self.has_execute_bit(&found),
                // What is not there yet will be made by us, open to this user.
                _ => true,
            })
    }

    fn has_execute_bit(&self, found: &fs::Metadata) -> bool {
        let bit = if found.uid() == self.uid {
            0o100
        } else if found.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        found.mode() & bit != 0
    }
}

fn nobody() -> Account {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(parse_nobody).unwrap_or(Account {
        uid: 65_534,
        gid: 65_534,
    })
}

fn parse_nobody(line: &str) -> Option<Account> {
    let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
    // macOS writes -2 where it means the last but one of all 32-bit numbers.
    let mut number = || fields.next()?.parse::<i64>().ok().map(|number| number as u32);
    Some(Account {
        uid: number()?,
        gid: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_read_from_the_list_of_users() {
        let linux = parse_nobody("nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin");
        assert_eq!(
            linux,
            Some(Account {
                uid: 65_534,
                gid: 65_533
            })
        );
        let mac = parse_nobody("nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false");
        assert_eq!(
            mac,
            Some(Account {
                uid: u32::MAX - 1,
                gid: u32::MAX - 1
            })
        );
        assert_eq!(parse_nobody("nobody2:x:1:1::/:/bin/sh"), None);
    }

    #[test]
    fn a_closed_folder_on_the_way_is_noticed() {
        use std::os::unix::fs::PermissionsExt;
        let base = crate::folders::temporary("order-tracker-account", &Account::current()).unwrap();
        let (closed, inner) = (base.join("closed"), base.join("closed/inner"));
        fs::create_dir_all(&inner).unwrap();
        let stranger = Account {
            uid: 4_000_000_001,
            gid: 4_000_000_001,
        };
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(stranger.can_enter(&inner.join("not yet there")));
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.can_enter(&inner));
        fs::remove_dir_all(&base).unwrap();
    }
}
