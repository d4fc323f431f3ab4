//! A server that runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;

use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// A server that runs: enough to reach it and to stop it, also from another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its main process.
    pub process: ProcessId,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The version, as in `18.6` or `2.15.1`.
    pub version: String,
    /// Where it writes its log.
    pub log: PathBuf,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// Takes note of a server's end whenever it comes.
///
/// Until its parent has, an ended process keeps its number, and PostgreSQL refuses to start again because it takes the one
/// written down in its data folder for alive.
pub(super) fn reap(mut child: Child) {
    std::thread::spawn(move || child.wait());
}
