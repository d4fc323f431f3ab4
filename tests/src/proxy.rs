//! A way to a server that can be closed, opened, silenced and cut while others use the server undisturbed.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A TCP proxy to a server; closed at first, which is as if the server was not there.
pub struct Proxy {
    address: SocketAddr,
    server: SocketAddr,
    open: Option<CancellationToken>,
    silent: watch::Sender<bool>,
    answers_lost: watch::Sender<bool>,
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
            silent: watch::Sender::new(false),
            answers_lost: watch::Sender::new(false),
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
        let is_silent = *self.silent.borrow();
        self.answers_lost.send_replace(is_silent);
        let (silent, answers_lost) = (self.silent.subscribe(), self.answers_lost.subscribe());
        self.open = Some(open.clone());
        tokio::spawn(open.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (silent, answers_lost) = (silent.clone(), answers_lost.clone());
                tokio::spawn(open.clone().run_until_cancelled_owned(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
                        // Whoever ends ends both: nobody here says half a thing.
                        tokio::select! {
                            () = carry(near_in, far_out, silent.clone()) => {}
                            () = carry(far_in, near_out, answers_lost) => {}
                        }
                    }
                }));
            }
        }));
    }

    /// Lets connections stand and carries nothing, as when a wire is cut and nobody has noticed; or carries all of it again.
    pub fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
        self.answers_lost.send_replace(silent);
    }

    /// Carries what is said to the server and nothing that it answers, until the connections are cut.
    pub fn lose_answers(&self) {
        self.answers_lost.send_replace(true);
    }

    /// Cuts every connection, and refuses new ones.
    pub fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.cancel();
        }
    }
}

/// Carries what comes from one side to the other, while there is no silence.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        // What arrives in the silence comes when it is over, as TCP does it.
        if silent.wait_for(|silent| !silent).await.is_err() || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}
