//! The variables that tell a task where servers are, read in one place.
//!
//! `.env` at the project root counts as environment here, as it does for the service itself: whoever configured the
//! service there means the tasks too. A real variable wins over it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::folders;

/// The variable as text, from the environment or else from `.env`; `None` where it is unset, empty or not UTF-8.
pub fn variable(name: &str) -> Option<String> {
    let real = raw(name).and_then(|value| value.into_string().ok());
    real.or_else(|| dot_env().get(name).cloned())
        .filter(|value| !value.is_empty())
}

/// A setting of the service by its variable, or what the file holds that its `…_FILE` names.
///
/// # Errors
///
/// Where that file cannot be read.
pub fn setting(name: &str) -> Result<Option<String>> {
    if let Some(value) = variable(name) {
        return Ok(Some(value));
    }
    let Some(path) = variable(&format!("{name}_FILE")) else {
        return Ok(None);
    };
    let value = std::fs::read_to_string(folders::project().join(&path))
        .with_context(|| format!("cannot read {path}, which {name}_FILE names"))?;
    Ok(Some(value.trim().to_owned()))
}

/// The folders of `PATH`, in their order.
pub fn search_path() -> Vec<PathBuf> {
    raw("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

/// The variables that `cargo run` adds for the program it runs, by name.
///
/// A cargo started from there must not see them: some build scripts, ring's among them, say that they depend on variables such
/// as `CARGO_PKG_NAME`, and it would build them anew, with everything that builds on them, every time it is called from the
/// other side.
pub fn added_by_cargo() -> Vec<OsString> {
    let added = |name: &OsString| {
        let name = name.to_string_lossy();
        let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
            || [
                "CARGO_BIN_NAME",
                "CARGO_CRATE_NAME",
                "CARGO_PRIMARY_PACKAGE",
                "OUT_DIR",
            ]
            .contains(&&*name)
    };
    names().filter(added).collect()
}

/// A folder from a variable, where it is an absolute path. `.env` does not count: these are the user's, not the service's.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    raw(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks find servers, folders and programs through the environment, here only"
)]
fn raw(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[expect(
    clippy::disallowed_methods,
    reason = "tasks find servers, folders and programs through the environment, here only"
)]
fn names() -> impl Iterator<Item = OsString> {
    std::env::vars_os().map(|(name, _)| name)
}

fn dot_env() -> &'static BTreeMap<String, String> {
    static VALUES: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    VALUES.get_or_init(|| {
        // A broken line is the service's to report, by name and with what it expected; here the others still count.
        let lines = dotenvy::from_path_iter(folders::project().join(".env"));
        lines
            .map(|lines| lines.filter_map(Result::ok).collect())
            .unwrap_or_default()
    })
}
