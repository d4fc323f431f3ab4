//! One running service as its users run it: the real binary, in a process of its own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::replica::Client;
use crate::shop::perhaps_given;

/// A running `order-tracker`. Killed when it is dropped.
pub struct Process {
    child: Child,
    log: watch::Receiver<Vec<String>>,
}

impl Process {
    /// Starts the binary with these variables and no others of ours.
    pub fn start(environment: &HashMap<String, String>) -> Self {
        let service = perhaps_given("ORDERS_TEST_SERVICE").map(PathBuf::from);
        let mut child = Command::new(service.unwrap_or_else(|| built("order-tracker")))
            .env_clear()
            .envs(environment)
            .env("ORDERS__LOG__FORMAT", "json")
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        let (sender, log) = watch::channel(Vec::new());
        let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                sender.send_modify(|log| log.push(line));
            }
        });
        Process { child, log }
    }

    /// Waits until it says where it listens, and answers a client for it.
    pub async fn listening(&mut self) -> Client {
        let line = self.logged("\"listening\"").await;
        let line: serde_json::Value = serde_json::from_str(&line).expect("the log is JSON");
        let address = |name: &str| format!("http://{}", line[name].as_str().expect("an address"));
        Client::new(address("address"), address("management_address"))
    }

    /// Waits until a line with this text is logged, and answers it.
    pub async fn logged(&mut self, text: &str) -> String {
        let find = |log: &Vec<String>| log.iter().find(|line| line.contains(text)).cloned();
        let waited = timeout(
            Duration::from_secs(30),
            self.log.wait_for(|log| find(log).is_some()),
        )
        .await;
        let found = waited.ok().and_then(Result::ok).and_then(|log| find(&log));
        found.unwrap_or_else(|| panic!("{text:?} was not logged: {:#?}", self.log.borrow()))
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Freezes it: its connections stay open, and it does nothing.
    pub async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Lets it go on where it was frozen.
    pub async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    async fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.id().to_string()])
            .status()
            .await
            .expect("kill can be run");
        assert!(sent.success(), "kill {signal} failed");
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("-TERM").await;
        timeout(Duration::from_secs(30), self.child.wait())
            .await
            .expect("it ends in time")
            .expect("it is our child")
    }
}

/// Runs the binary with these arguments and variables, and no others of ours, to its end.
pub async fn order_tracker(environment: &HashMap<String, String>, arguments: &[&str]) -> Output {
    let ended = Command::new(built("order-tracker"))
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = timeout(Duration::from_secs(30), ended).await;
    ended.expect("it ends in time").expect("the binary can be run")
}

/// A binary that was built together with this test.
pub(crate) fn built(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows where it is");
    path.pop();
    path.pop();
    path.push(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo xtask test`",
        path.display()
    );
    path
}
