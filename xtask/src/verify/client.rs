//! One keep-alive connection to the service.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use xtask::load::Endpoint;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, opened when it is first needed and again when it broke.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    service: &'a Endpoint,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl<'a> Connection<'a> {
    pub(crate) fn new(service: &'a Endpoint) -> Self {
        Connection { service, open: None }
    }

    /// The order as it is served; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Where the service does not answer, or neither with the order nor that there is none.
    pub(crate) async fn order(&mut self, uid: &str) -> Result<Option<Bytes>> {
        self.found(&format!("/api/v1/orders/{uid}")).await
    }

    /// The order as soon as it is stored, or `None` after some seconds.
    ///
    /// # Errors
    ///
    /// As for [`order`](Self::order).
    pub(crate) async fn order_once_stored(&mut self, uid: &str) -> Result<Option<Bytes>> {
        self.found(&format!("/api/v1/orders/{uid}?wait=5s")).await
    }

    async fn found(&mut self, path: &str) -> Result<Option<Bytes>> {
        let answer = timeout(PATIENCE, self.ask(path)).await;
        let answer = answer.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs()));
        if answer.is_err() {
            // Whatever is left of that answer must not be taken for the next one.
            self.open = None;
        }
        match answer? {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => bail!("the service answered {status}"),
        }
    }

    async fn ask(&mut self, path: &str) -> Result<(StatusCode, Bytes)> {
        let Endpoint { host, base } = self.service;
        let request = Request::get(format!("{base}{path}"))
            .header(HOST, host)
            .body(Empty::new())?;
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => open(host).await?,
        };
        // The service closes connections that are idle, and all of them when it ends.
        if connection.ready().await.is_err() {
            connection = open(host).await?;
        }
        let answer = connection
            .send_request(request)
            .await
            .context("the connection broke")?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .context("the connection broke")?
            .to_bytes();
        self.open = Some(connection);
        Ok((status, body))
    }
}

async fn open(host: &str) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("cannot connect to {host}"))?;
    stream.set_nodelay(true)?;
    let (requests, connection) = handshake(TokioIo::new(stream)).await?;
    // What is wrong with the connection is told by the request that it fails.
    tokio::spawn(connection);
    Ok(requests)
}
