//! Asks replicas for orders all the time, and writes every answer down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AGE, CACHE_CONTROL, ETAG, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use order_domain::{OrderUid, Revision};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use xtask::orders::Dice;

use super::history::{Answer, Digest, Reply};
use super::recorder::{Recorder, Shop};

/// How long one answer may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks one replica over one connection, which is made again when it broke.
#[derive(Debug)]
pub(super) struct Reader {
    replica: usize,
    address: SocketAddr,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl Reader {
    /// Asks this replica.
    pub(super) fn new(replica: usize, address: SocketAddr) -> Reader {
        Reader {
            replica,
            address,
            open: None,
        }
    }

    /// Asks for hot orders mostly, for others at times, and for some that are not published yet; until it is dropped.
    pub(super) async fn run(mut self, recorder: Arc<Recorder>, shop: Arc<Shop>, mut dice: Dice) {
        loop {
            let kind = dice.weighted(&[75, 10, 15]);
            let uid = match kind {
                0 => shop.hot_uid(|count| dice.below(count as u64) as usize),
                1 => shop.any_uid(|count| dice.below(count)),
                _ => None,
            };
            let uid = uid.unwrap_or_else(|| shop.coming_uid(dice.below(10)));
            let proof_required = dice.percent(5.0);
            // Before anything is sent: the promise counts from the beginning of the request.
            let begun = recorder.now();
            let pause = match self.ask(&uid, proof_required).await {
                Ok(reply) => {
                    let answer = Answer {
                        replica: self.replica,
                        begun,
                        uid,
                        reply,
                    };
                    recorder.history().answers.push(answer);
                    5 + dice.below(10)
                }
                // It is down, or frozen. Nothing was claimed.
                Err(_) => 30,
            };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Asks for one order.
    ///
    /// # Errors
    ///
    /// Where there is no whole answer in time.
    pub(super) async fn ask(&mut self, uid: &OrderUid, proof_required: bool) -> Result<Reply> {
        let answer = timeout(PATIENCE, self.exchange(uid, proof_required)).await;
        let answer = answer.context("no answer in time").and_then(|answer| answer);
        if answer.is_err() {
            // Whatever is left of that answer must not be taken for the next one.
            self.open = None;
        }
        answer
    }

    async fn exchange(&mut self, uid: &OrderUid, proof_required: bool) -> Result<Reply> {
        let mut request = Request::get(format!("/api/v1/orders/{uid}")).header(HOST, "replica");
        if proof_required {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        let request = request.body(Empty::new())?;
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => connect(self.address).await?,
        };
        connection.ready().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.open = Some(connection);
        Ok(reply(&Response::from_parts(head, body), proof_required))
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(TokioIo::new(stream)).await?;
    // What is wrong with the connection is told by the request that it fails.
    tokio::spawn(connection);
    Ok(requests)
}

fn reply(answer: &Response<Bytes>, proof_required: bool) -> Reply {
    match answer.status() {
        StatusCode::OK => match revision(answer) {
            Some(revision) => Reply::Order {
                revision,
                content: Digest::of(answer.body()),
                aged: answer.headers().contains_key(AGE),
                proof_required,
            },
            None => Reply::Other("an order without a revision".to_owned()),
        },
        StatusCode::NOT_FOUND => Reply::Absent,
        StatusCode::SERVICE_UNAVAILABLE => Reply::Unavailable,
        status => Reply::Other(status.to_string()),
    }
}

/// The revision in `ETag: W/"…"`.
fn revision(answer: &Response<Bytes>) -> Option<Revision> {
    let tag = answer.headers().get(ETAG)?.to_str().ok()?;
    tag.strip_prefix("W/\"")?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Reply {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        reply(&answer.body(Bytes::from_static(b"{}")).unwrap(), false)
    }

    #[test]
    fn answers_are_told_apart() {
        let order = |aged| Reply::Order {
            revision: Revision {
                published_at: 7,
                sequence: 2,
            },
            content: Digest::of(b"{}"),
            aged,
            proof_required: false,
        };
        assert_eq!(answer(200, &[("etag", "W/\"7-2\"")]), order(false));
        assert_eq!(answer(200, &[("etag", "W/\"7-2\""), ("age", "0")]), order(true));
        assert_eq!(answer(404, &[]), Reply::Absent);
        assert_eq!(answer(503, &[]), Reply::Unavailable);
        assert!(matches!(answer(200, &[]), Reply::Other(_)));
        assert!(matches!(answer(500, &[]), Reply::Other(_)));
    }
}
