//! Servers that a test may kill and freeze.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{eventually, given};

/// A nats-server of this test's own, on a fixed port and a store that outlives it.
pub(crate) struct Server {
    port: u16,
    store: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Chooses port and store, and starts nothing yet.
    pub(crate) fn prepared(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let store = std::env::temp_dir().join(format!("order-nats-{name}-{}-{port}", std::process::id()));
        Server {
            port,
            store,
            child: None,
        }
    }

    pub(crate) async fn started(name: &str) -> Self {
        let mut server = Server::prepared(name);
        server.start().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the server on its store, with what it had stored.
    pub(crate) async fn start(&mut self) {
        self.start_with(&[]).await;
    }

    pub(crate) async fn start_with(&mut self, arguments: &[&str]) {
        let child = Command::new(given("ORDERS_TEST_NATS_SERVER"))
            .args(["-js", "-a", "127.0.0.1", "-p", &self.port.to_string(), "-sd"])
            .arg(&self.store)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a nats-server that starts");
        self.child = Some(child);
        let address = format!("127.0.0.1:{}", self.port);
        eventually("the server listens", async || {
            tokio::net::TcpStream::connect(&address).await.is_ok()
        })
        .await;
    }

    /// Kills the server at once, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child to kill");
            child.wait().expect("a child to wait for");
        }
    }

    /// Freezes the server: its connections stay open and nothing answers.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP");
        let pid = self.child.as_ref().expect("a running server").id();
        // One of its threads has to take the signal up, and on a busy machine the others go on until it does.
        eventually("the server stands still", async || is_still(pid)).await;
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("a running server").id().to_string();
        let status = Command::new("kill")
            .args([signal, &pid])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill {signal} failed");
    }
}

/// Whether all threads of a process are stopped. Where the system does not tell, they are taken to be.
fn is_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        .all(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, state)| state.trim_start().starts_with('T'))
        })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.store);
    }
}
