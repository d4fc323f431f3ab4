//! A name for each request, to find it in the log.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a caller, in bytes.
const LONGEST: usize = 128;

/// Puts the request's id on the response: the caller's own where it is fit to be logged, else a new one. Faults of
/// ours are logged under it.
pub(crate) fn with_request_id<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<B>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let id = match request.headers().get(REQUEST_ID) {
        Some(given) if is_fit(given) => given.clone(),
        _ => new_id(),
    };
    let answer = service.call(request);
    async move {
        let mut response = answer.await?;
        // 503 is told once by whoever noticed that something is away, not again by every request.
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            let path = response.request().path();
            tracing::error!(
                request_id = id.to_str().unwrap_or_default(),
                path,
                "a request failed"
            );
        }
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response)
    }
}

fn is_fit(given: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&given.len()) && given.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn new_id() -> HeaderValue {
    let id = format!("{:016x}", fastrand::u64(..));
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
