//! The bodies of requests: bounded in size, in time, and in what all of them weigh together.

use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use super::problem::{Problem, ProblemKind};
use crate::config::HttpSettings;

/// What bodies may take. Shared by all threads that answer, as `web::Data<BodyLimits>`.
pub(crate) struct BodyLimits {
    /// The most bytes of one.
    max_bytes: usize,
    /// How long one may take to arrive: actix-web itself waits for ever.
    timeout: Duration,
    /// The bytes that may still come in, of all bodies in hand.
    room: Arc<Semaphore>,
}

impl BodyLimits {
    pub(crate) fn new(settings: &HttpSettings) -> Self {
        BodyLimits {
            max_bytes: settings.max_body_bytes,
            timeout: settings.body_timeout,
            room: Arc::new(Semaphore::new(
                settings.max_bodies_bytes.min(Semaphore::MAX_PERMITS),
            )),
        }
    }
}

/// The whole body of a request that says it is JSON. It counts as being in hand until it is dropped.
pub(crate) struct Body {
    bytes: web::Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// Reads it as this type.
    ///
    /// # Errors
    ///
    /// [`ProblemKind::BadJson`], with what is wrong and where.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.bytes)
            .map_err(|error| Problem::new(ProblemKind::BadJson).with_detail(error.to_string()))
    }
}

impl Deref for Body {
    type Target = web::Bytes;

    fn deref(&self) -> &web::Bytes {
        &self.bytes
    }
}

impl FromRequest for Body {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            check_head(&request)?;
            // Without the limits nothing is taken in, rather than everything.
            let limits = request.app_data::<web::Data<BodyLimits>>();
            let limits = limits.ok_or_else(|| Problem::new(ProblemKind::Internal))?;
            if announced_length(&request).is_some_and(|length| length > limits.max_bytes as u64) {
                return Err(too_large(limits));
            }
            match timeout(limits.timeout, read(payload, limits)).await {
                Ok(read) => read,
                Err(_) => Err(Problem::new(ProblemKind::RequestTimeout)),
            }
        })
    }
}

/// Only JSON is read, and only uncompressed: a small body could become an endless one.
fn check_head(request: &HttpRequest) -> Result<(), Problem> {
    let is_json = request.content_type().eq_ignore_ascii_case("application/json");
    let is_plain = request
        .headers()
        .get_all(header::CONTENT_ENCODING)
        .all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let detail = match (is_json, is_plain) {
        (true, true) => return Ok(()),
        (false, _) => "send JSON, with `Content-Type: application/json`",
        (true, false) => "send it without a `Content-Encoding`",
    };
    Err(Problem::new(ProblemKind::UnsupportedMediaType).with_detail(detail))
}

fn announced_length(request: &HttpRequest) -> Option<u64> {
    request
        .headers()
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_large(limits: &BodyLimits) -> Problem {
    let detail = format!("a body has at most {} bytes", limits.max_bytes);
    Problem::new(ProblemKind::PayloadTooLarge).with_detail(detail)
}

async fn read(mut payload: Payload, limits: &BodyLimits) -> Result<Body, Problem> {
    let mut bytes = web::BytesMut::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::from(&error))?;
        if bytes.len() + chunk.len() > limits.max_bytes {
            return Err(too_large(limits));
        }
        let more = take(&limits.room, chunk.len())?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body {
        bytes: bytes.freeze(),
        _room: room,
    })
}

fn take(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    Arc::clone(room)
        .try_acquire_many_owned(bytes)
        .map_err(|error| match error {
            TryAcquireError::NoPermits => Problem::new(ProblemKind::Overloaded),
            TryAcquireError::Closed => Problem::new(ProblemKind::Internal),
        })
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use actix_web::http::header::HeaderName;
    use actix_web::test::TestRequest;
    use futures::stream::{self, LocalBoxStream};

    use super::*;

    type Chunks = LocalBoxStream<'static, Result<web::Bytes, PayloadError>>;

    fn limits() -> web::Data<BodyLimits> {
        web::Data::new(BodyLimits::new(&HttpSettings {
            max_body_bytes: 10,
            max_bodies_bytes: 15,
            body_timeout: Duration::from_millis(20),
            ..HttpSettings::default()
        }))
    }

    fn chunks(chunks: &[&'static str]) -> Chunks {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok(web::Bytes::from_static(chunk.as_bytes())))
            .collect();
        stream::iter(chunks).boxed_local()
    }

    async fn take_in(
        limits: &web::Data<BodyLimits>,
        headers: &[(HeaderName, &str)],
        chunks: Chunks,
    ) -> Result<Body, Problem> {
        let mut request = TestRequest::post().app_data(limits.clone());
        for header in headers {
            request = request.append_header(header.clone());
        }
        let mut payload = Payload::Stream { payload: chunks };
        Body::from_request(&request.to_http_request(), &mut payload).await
    }

    fn kind(read: Result<Body, Problem>) -> Option<ProblemKind> {
        read.err().map(|problem| problem.kind())
    }

    const JSON: (HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");

    #[actix_web::test]
    async fn a_body_comes_in_pieces() {
        let body = take_in(&limits(), &[JSON], chunks(&["[1,", "2]"])).await;
        let body = body.expect("it is within the limits");
        assert_eq!(body.parse::<Vec<u8>>().expect("two numbers"), [1, 2]);
        assert_eq!(
            body.parse::<String>().map_err(|problem| problem.kind()),
            Err(ProblemKind::BadJson)
        );
    }

    #[actix_web::test]
    async fn only_plain_json_is_read() {
        for headers in [
            &[][..],
            &[(header::CONTENT_TYPE, "text/plain")],
            &[JSON, (header::CONTENT_ENCODING, "gzip")],
        ] {
            let read = take_in(&limits(), headers, chunks(&["1"])).await;
            assert_eq!(kind(read), Some(ProblemKind::UnsupportedMediaType));
        }
    }

    #[actix_web::test]
    async fn a_body_that_is_too_large_is_turned_away_whether_or_not_it_said_so() {
        let said = [JSON, (header::CONTENT_LENGTH, "11")];
        let read = take_in(&limits(), &said, stream::pending().boxed_local()).await;
        assert_eq!(kind(read), Some(ProblemKind::PayloadTooLarge));
        let read = take_in(&limits(), &[JSON], chunks(&["123456", "78901"])).await;
        assert_eq!(kind(read), Some(ProblemKind::PayloadTooLarge));
        let read = take_in(&limits(), &[JSON], chunks(&["12345", "67890"])).await;
        assert_eq!(kind(read), None);
    }

    #[actix_web::test]
    async fn a_body_that_does_not_end_is_not_waited_for() {
        let endless = chunks(&["1"]).chain(stream::pending()).boxed_local();
        let read = take_in(&limits(), &[JSON], endless).await;
        assert_eq!(kind(read), Some(ProblemKind::RequestTimeout));
    }

    #[actix_web::test]
    async fn all_bodies_in_hand_share_one_limit() {
        let limits = limits();
        let first = take_in(&limits, &[JSON], chunks(&["1234567890"])).await;
        let second = take_in(&limits, &[JSON], chunks(&["123456"])).await;
        assert_eq!(kind(second), Some(ProblemKind::Overloaded));
        drop(first);
        assert_eq!(kind(take_in(&limits, &[JSON], chunks(&["123456"])).await), None);
    }

    #[actix_web::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let broken = chunks(&["1"])
            .chain(stream::iter([Err(PayloadError::Incomplete(None))]))
            .boxed_local();
        let read = take_in(&limits(), &[JSON], broken).await;
        assert_eq!(kind(read), Some(ProblemKind::BadRequest));
    }
}
