//! A way between one replica and one server that can be cut and fall silent while others use the server undisturbed.

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// What the way lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// Everything.
    Open,
    /// Nothing, and both sides are told: connections end, new ones end at once.
    Cut,
    /// Nothing, and nobody is told. What was under way arrives late, once the way is open again, as after a cable was pulled for a while.
    Silent,
    /// Requests, but no answers: what was asked for happens, and who asked does not hear of it.
    Unanswered,
    /// Everything, but on half of the connections answers come late, on each by a time of its own: what was asked later may be
    /// answered earlier.
    Late,
}

/// The latest that an answer comes. A read waits for two of them, and has a deadline.
const LATEST: Duration = Duration::from_millis(250);

impl Passage {
    fn lets_requests(self) -> bool {
        !matches!(self, Passage::Cut | Passage::Silent)
    }

    fn lets_answers(self) -> bool {
        matches!(self, Passage::Open | Passage::Late)
    }
}

/// A TCP proxy to one server, open at first. Gone when it is dropped.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    passage: watch::Sender<Passage>,
}

impl Proxy {
    /// An open way to `server`, which need not be there.
    pub(super) async fn open(server: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (passage, seen) = watch::channel(Passage::Open);
        tokio::spawn(async move {
            let mut ended = seen.clone();
            loop {
                tokio::select! {
                    Ok((near, _)) = listener.accept() => {
                        tokio::spawn(carry(near, server, seen.clone()));
                    }
                    // The proxy was dropped.
                    Err(_) = ended.wait_for(|_| false) => return,
                }
            }
        });
        Ok(Proxy { address, passage })
    }

    /// Where to connect to instead of the server.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what is let through, for connections that are there as well.
    pub(super) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

/// Carries one connection until either side ends it, or the way is cut.
async fn carry(near: TcpStream, server: SocketAddr, mut passage: watch::Receiver<Passage>) {
    let (requests, answers) = (passage.clone(), passage.clone());
    let carried = async {
        let mut before = requests.clone();
        before.wait_for(|passage| passage.lets_requests()).await.ok()?;
        let far = TcpStream::connect(server).await.ok()?;
        // Small messages must not wait for each other here as well.
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).ok()?;
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let late = if rand::random() {
            rand::random_range(Duration::ZERO..LATEST)
        } else {
            Duration::ZERO
        };
        tokio::select! {
            _ = pump(near_read, far_write, requests, Passage::lets_requests, Duration::ZERO) => {}
            _ = pump(far_read, near_write, answers, Passage::lets_answers, late) => {}
        }
        Some(())
    };
    tokio::select! {
        _ = carried => {}
        // Also when the proxy was dropped.
        _ = passage.wait_for(|passage| *passage == Passage::Cut) => {}
    }
}

/// Carries one direction. The end of a connection is a message too: while nothing is let through, nobody hears of it.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: watch::Receiver<Passage>,
    lets: impl Fn(Passage) -> bool,
    late: Duration,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.ok()?;
        let now = *passage.wait_for(|passage| lets(*passage)).await.ok()?;
        if now == Passage::Late {
            sleep(late).await;
        }
        if read == 0 {
            return None;
        }
        to.write_all(&buffer[..read]).await.ok()?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    /// Echoes what it hears.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, text: u8) -> Option<u8> {
        stream.write_all(&[text]).await.ok()?;
        hears(stream).await
    }

    async fn hears(stream: &mut TcpStream) -> Option<u8> {
        timeout(MOMENT, stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn silence_keeps_back_what_arrives_when_the_way_is_open_again() {
        let proxy = Proxy::open(server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, 1).await, Some(1));
        for passage in [Passage::Silent, Passage::Unanswered] {
            proxy.set(passage);
            assert_eq!(says(&mut stream, 2).await, None);
            proxy.set(Passage::Open);
            assert_eq!(hears(&mut stream).await, Some(2));
        }
    }

    #[tokio::test]
    async fn late_answers_come() {
        let proxy = Proxy::open(server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        proxy.set(Passage::Late);
        stream.write_all(&[1]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_cut_way_ends_connections_and_new_ones_until_it_is_open() {
        let proxy = Proxy::open(server().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.set(Passage::Cut);
        // The end of the stream, and not the time-out.
        assert!(
            timeout(Duration::from_secs(5), stream.read_u8())
                .await
                .unwrap()
                .is_err()
        );
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(
            timeout(Duration::from_secs(5), stream.read_u8())
                .await
                .unwrap()
                .is_err()
        );
        proxy.set(Passage::Open);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says(&mut stream, 3).await, Some(3));
    }
}
