//! Which program this is.

/// Its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How it was built.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) {
    "debug"
} else {
    "release"
};

/// What it was built from, where whoever built it said so in the environment.
pub(crate) const COMMIT: &str = match option_env!("ORDER_TRACKER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
