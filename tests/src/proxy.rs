//! A way to a server that can be closed, opened and cut while others use the server undisturbed.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A TCP proxy to a server; closed at first, which is as if the server was not there.
pub struct Proxy {
    address: SocketAddr,
    server: SocketAddr,
    open: Option<CancellationToken>,
}

impl Proxy {
    /// A closed way to `server`.
    pub async fn closed(server: SocketAddr) -> Self {
        // The port is free again when the listener is gone; nobody else on this machine asks for it by number.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        Proxy {
            address,
            server,
            open: None,
        }
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets connections through from here on.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the port is still free");
        let (server, open) = (self.server, CancellationToken::new());
        self.open = Some(open.clone());
        tokio::spawn(open.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                tokio::spawn(open.clone().run_until_cancelled_owned(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut near, &mut far).await;
                    }
                }));
            }
        }));
    }

    /// Cuts every connection, and refuses new ones.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.cancel();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}
