//! A server that runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

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

/// What became of a server that was just started.
pub(super) enum Beginning {
    /// It is ready, and its end is taken note of whenever it comes.
    Ready,
    Ended(ExitStatus),
    /// It was not ready in time, and goes on.
    Late(Child),
}

/// Waits until a server that was just started is `ready`, which is asked with the number of its process.
pub(super) fn wait_until(
    mut child: Child,
    deadline: Instant,
    ready: impl Fn(u32) -> bool,
) -> io::Result<Beginning> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Beginning::Ended(status));
        }
        if ready(child.id()) {
            reap(child);
            return Ok(Beginning::Ready);
        }
        if Instant::now() > deadline {
            return Ok(Beginning::Late(child));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes note of a server's end whenever it comes.
///
/// Until its parent has, an ended process keeps its number, and PostgreSQL refuses to start again because it takes the one
/// written down in its data folder for alive.
fn reap(mut child: Child) {
    std::thread::spawn(move || child.wait());
}
