//! One nats-server with JetStream.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::NatsBinary;
use super::running::{self, Beginning, Running};
use crate::account::Account;
use crate::process::{ProcessId, Signal};
use crate::{folders, ports, wheels};

/// One nats-server with its data, running or not. It goes on when this is dropped: stop it.
#[derive(Debug, Clone)]
pub struct Nats {
    /// The program.
    pub binary: NatsBinary,
    /// Where JetStream keeps its streams.
    pub store: PathBuf,
    /// Where it writes its log, anew at each start.
    pub log: PathBuf,
}

impl Nats {
    /// The signal that makes it shut down in order.
    pub const STOP: Signal = Signal::TERM;
    /// How long that may take before it is killed.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Starts it on `port` of 127.0.0.1, or on any free one, and waits until it answers.
    ///
    /// `started` is told of it at once, before it is ready, so that it is not forgotten if we are killed meanwhile.
    ///
    /// JetStream's `sync_interval` stays at its default of two minutes. An acknowledged message is in the operating
    /// system's hands at once, so killing the server loses none; only a machine that loses power does. `always`, which
    /// production needs and `docker/compose.yaml` sets, would make a laptop publish a hundred times slower.
    ///
    /// # Errors
    ///
    /// Where it ends or does not answer; the message has the end of its log.
    pub fn start(
        &self,
        port: Option<u16>,
        mut started: impl FnMut(&Running) -> Result<()>,
    ) -> Result<Running> {
        folders::private(&self.store)?;
        let begin = Instant::now();
        loop {
            let this_port = port.map_or_else(ports::any, Ok)?;
            let child = self.serve(this_port)?;
            let running = Running {
                process: ProcessId::of(child.id())?,
                port: this_port,
                version: self.binary.version.clone(),
                log: self.log.clone(),
            };
            started(&running)?;
            // A large store is read back before it listens.
            let deadline = begin + Duration::from_secs(60);
            match running::wait_until(child, deadline, |pid| self.listens(pid))? {
                Beginning::Ready => return Ok(running),
                Beginning::Ended(status) => {
                    let log = std::fs::read(&self.log).unwrap_or_default();
                    let port_taken = String::from_utf8_lossy(&log).contains("address already in use");
                    if !(port.is_none() && port_taken) {
                        bail!(
                            "nats-server ended with {status}; its log ends with:\n{}",
                            wheels::last_lines(&log, 5)
                        );
                    }
                }
                Beginning::Late(mut child) => {
                    running.process.stop(Signal::KILL, Duration::ZERO)?;
                    child.wait()?;
                    bail!(
                        "nats-server did not answer within a minute; see {}",
                        self.log.display()
                    );
                }
            }
        }
    }

    fn serve(&self, port: u16) -> Result<Child> {
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        Account::current()
            .command(&self.binary.program, &self.store)
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--store_dir")
            .arg(&self.store)
            .arg("--ports_file_dir")
            .arg(&self.store)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start nats-server")
    }

    /// Whether the process wrote down that it listens. Asking the port itself could reach another server on it.
    fn listens(&self, pid: u32) -> bool {
        let program = self
            .binary
            .program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let ports = self.store.join(format!("{program}_{pid}.ports"));
        // It makes the file before it writes into it.
        std::fs::read(ports).is_ok_and(|text| text.ends_with(b"}"))
    }

    /// Stops a running one in order.
    ///
    /// # Errors
    ///
    /// Where we may not.
    pub fn stop(running: &Running) -> Result<()> {
        running.process.stop(Self::STOP, Self::PATIENCE).map(drop)
    }
}
