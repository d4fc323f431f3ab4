//! A name for each request, to find it in the log.

use std::panic::AssertUnwindSafe;

use actix_web::Error;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use futures::FutureExt;

use super::problem::{Problem, ProblemKind};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a caller, in bytes.
const LONGEST: usize = 128;

/// The outermost layer. Puts the request's id on the response: the caller's own where it is fit to be logged, else a new one. What
/// is answered with an error is a [`Problem`] from here on, whoever made it; faults of ours are logged under the id.
pub(crate) fn with_request_id<S, B>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let id = match request.headers().get(REQUEST_ID) {
        Some(given) if is_fit(given) => given.clone(),
        _ => new_id(),
    };
    let answer = AssertUnwindSafe(service.call(request)).catch_unwind();
    async move {
        // The request is gone with what failed, so that its answer can only be an error.
        let fail = |problem: Problem| Err(problem.with_header(REQUEST_ID, id.clone()).into());
        let response = match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return fail(Problem::from(&error)),
            Err(_) => {
                tracing::error!(request_id = id.to_str().unwrap_or_default(), "a request panicked");
                return fail(Problem::new(ProblemKind::Internal));
            }
        };
        // 503 is told once by whoever noticed that something is away, not again by every request.
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            let path = response.request().path();
            tracing::error!(
                request_id = id.to_str().unwrap_or_default(),
                path,
                "a request failed"
            );
        }
        let mut response = with_problem(response);
        response.headers_mut().insert(REQUEST_ID, id);
        Ok(response)
    }
}

/// Rewrites an error that is not ours: actix-web answers some with its own words, and some with none.
fn with_problem<B>(response: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response.map_into_left_body();
    }
    let problem = match response.response().error() {
        Some(error) if error.as_error::<Problem>().is_none() => Problem::from(error),
        None if !response.headers().contains_key(header::CONTENT_TYPE) => Problem::from_status(status),
        _ => return response.map_into_left_body(),
    };
    let answer = actix_web::ResponseError::error_response(&problem);
    response.into_response(answer).map_into_right_body()
}

fn is_fit(given: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&given.len()) && given.as_bytes().iter().all(u8::is_ascii_graphic)
}

fn new_id() -> HeaderValue {
    let id = format!("{:016x}", fastrand::u64(..));
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}
