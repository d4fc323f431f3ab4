//! A wire between the store and the database that a test can cut, freeze and mend.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Carries everything.
    Whole,
    /// Carries every answer of the server so much later.
    Late(Duration),
    /// Takes new connections and carries nothing, as when the server is frozen.
    Frozen,
    /// Ends all connections and takes no new ones, as when the server is gone.
    Cut,
    /// Carries everything to the server up to the next COMMIT, and nothing after, as when the client froze within its transaction.
    FrozenBeforeCommit,
    /// Carries everything to the server up to the next COMMIT, that included, and then ends the connection without an answer.
    CutAfterCommit,
}

/// A wire on a port of its own.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    wire: watch::Sender<Wire>,
}

impl Proxy {
    /// A whole wire to this address.
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let wire = watch::Sender::new(Wire::Whole);
        let state = wire.subscribe();
        tokio::spawn(async move {
            let server = Arc::new(server);
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&server), state.clone()));
            }
        });
        Proxy { port, wire }
    }

    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn carry(client: TcpStream, server: Arc<String>, mut wire: watch::Receiver<Wire>) {
    if *wire.borrow() == Wire::Cut {
        return;
    }
    if wire.wait_for(|&wire| wire != Wire::Frozen).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(server.as_str()).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut up = wire.clone();
    let upward = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            thaw(&mut up).await;
            let bytes = &buffer[..count];
            // COMMIT is a message of its own: its kind in one byte, its length in four, and this.
            let commit = bytes.windows(7).position(|window| window == b"COMMIT\0");
            let (end, then) = match (commit, *up.borrow()) {
                (Some(at), Wire::FrozenBeforeCommit) => (at - 5, Wire::FrozenBeforeCommit),
                (Some(_), Wire::CutAfterCommit) => (count, Wire::CutAfterCommit),
                _ => (count, Wire::Whole),
            };
            if to_server.write_all(&bytes[..end]).await.is_err() {
                return;
            }
            match then {
                Wire::FrozenBeforeCommit => std::future::pending().await,
                // The server gets the time to commit; its answer goes nowhere.
                Wire::CutAfterCommit => return tokio::time::sleep(Duration::from_millis(500)).await,
                _ => {}
            }
        }
    };
    let mut down = wire.clone();
    let downward = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            thaw(&mut down).await;
            // Answers on a wire that is to be cut at COMMIT wait for the cut: a batch is sent at once, and answered after.
            if *down.borrow() == Wire::CutAfterCommit {
                std::future::pending::<()>().await;
            }
            let state = *down.borrow();
            if let Wire::Late(by) = state {
                tokio::time::sleep(by).await;
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = upward => {}
        () = downward => {}
        _ = wire.wait_for(|&wire| wire == Wire::Cut) => {}
    }
}

async fn thaw(wire: &mut watch::Receiver<Wire>) {
    let _ = wire.wait_for(|&wire| wire != Wire::Frozen).await;
}
