//! One keep-alive connection to an HTTP service.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What happened where the server hung up.
const CLOSED: &str = "connection closed by the server";

/// A connection, opened when it is first needed and again when it broke. For the current thread: nothing of it runs elsewhere.
#[derive(Debug)]
pub struct Connection {
    host: String,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    requests: SendRequest<Empty<Bytes>>,
    /// What moves the bytes. Polled by whoever waits for an answer, which spares waking a task of its own for each request.
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>>>,
    used: bool,
    ended: bool,
}

impl Connection {
    /// Will connect to this `host:port`.
    pub fn new(host: &str) -> Connection {
        Connection {
            host: host.to_owned(),
            open: None,
        }
    }

    /// Connects, where it is not open yet.
    ///
    /// # Errors
    ///
    /// What went wrong, in few words that are the same each time.
    pub async fn prepare(&mut self) -> Result<(), String> {
        if self.open.is_none() {
            self.open = Some(connect(&self.host).await?);
        }
        Ok(())
    }

    /// Sends a request and reads the whole answer: its status, and how many bytes its body had.
    ///
    /// A service may close a connection that is idle at the moment at which the next request is sent. It has not seen that one, and it
    /// is sent again over a new connection, as every HTTP client does.
    ///
    /// # Errors
    ///
    /// What went wrong, in few words that are the same each time.
    pub async fn ask(&mut self, request: &Request<Empty<Bytes>>) -> Result<(StatusCode, u64), String> {
        loop {
            self.prepare().await?;
            // Taken out, so that it is gone if this is dropped before the whole answer was read.
            let mut open = self.open.take().ok_or("not connected")?;
            let was_used = std::mem::replace(&mut open.used, true);
            match open.exchange(request.clone()).await {
                Ok(answer) => {
                    self.open = Some(open).filter(|open| !open.ended);
                    return Ok(answer);
                }
                Err(Broken::BeforeAnAnswer(_)) if was_used => {}
                Err(Broken::BeforeAnAnswer(error) | Broken::WithinTheAnswer(error)) => return Err(error),
            }
        }
    }
}

enum Broken {
    BeforeAnAnswer(String),
    WithinTheAnswer(String),
}

impl Open {
    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<(StatusCode, u64), Broken> {
        let requests = &mut self.requests;
        let answered = Cell::new(false);
        let mut answer = pin!(async {
            requests.ready().await.map_err(before)?;
            let answer = requests.send_request(request).await.map_err(before)?;
            answered.set(true);
            read(answer).await
        });
        let (driver, ended) = (&mut self.driver, &mut self.ended);
        poll_fn(|context| {
            // The request goes to the driver, the driver sends it; on the way back the driver reads what the answer then is.
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            *ended = driver.as_mut().poll(context).is_ready();
            match answer.as_mut().poll(context) {
                // Nothing moves the bytes any more.
                Poll::Pending if *ended && answered.get() => {
                    Poll::Ready(Err(Broken::WithinTheAnswer(CLOSED.to_owned())))
                }
                Poll::Pending if *ended => Poll::Ready(Err(Broken::BeforeAnAnswer(CLOSED.to_owned()))),
                answer => answer,
            }
        })
        .await
    }
}

async fn read(mut answer: Response<Incoming>) -> Result<(StatusCode, u64), Broken> {
    let status = answer.status();
    let mut bytes = 0;
    while !answer.body().is_end_stream() {
        let Some(frame) = answer.body_mut().frame().await else {
            break;
        };
        let frame = frame.map_err(|error| Broken::WithinTheAnswer(words(&error)))?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok((status, bytes))
}

fn before(error: hyper::Error) -> Broken {
    Broken::BeforeAnAnswer(words(&error))
}

fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CLOSED.to_owned()
    } else if error.is_parse() {
        "the answer is no HTTP".to_owned()
    } else {
        "connection broke".to_owned()
    }
}

async fn connect(host: &str) -> Result<Open, String> {
    let told = |error: std::io::Error| format!("cannot connect: {}", error.kind());
    let stream = TcpStream::connect(host).await.map_err(told)?;
    stream.set_nodelay(true).map_err(told)?;
    let (requests, driver) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| words(&error))?;
    Ok(Open {
        requests,
        driver: Box::pin(driver),
        used: false,
        ended: false,
    })
}
