//! Pages of other origins, as far as the settings let them in (CORS).

use std::sync::Arc;

use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{Error, HttpResponse};
use futures::TryFutureExt;
use futures::future::{Either, ready};

use crate::config::Origins;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, content-type, idempotency-key, if-none-match, last-event-id, x-request-id",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("age, etag, idempotency-replayed, link, location, retry-after, x-request-id");
/// For how many seconds a page may take the answer to a preflight for granted.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// A layer that answers preflights, and lets pages of these origins read the answers. Without origins it does nothing.
pub(crate) fn with_cors<S, B>(
    origins: &Arc<Origins>,
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse<EitherBody<B, BoxBody>>, Error>> + use<S, B>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let origins = (!origins.is_empty()).then(|| Arc::clone(origins));
    let allowed = origins
        .as_ref()
        .and_then(|origins| origins.allow(request.headers().get(header::ORIGIN)?));
    let is_preflight = allowed.is_some()
        && request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let answer = if is_preflight {
        let answer = HttpResponse::NoContent()
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .finish();
        Either::Right(ready(Ok(request.into_response(answer).map_into_right_body())))
    } else {
        Either::Left(service.call(request).map_ok(ServiceResponse::map_into_left_body))
    };
    answer.map_ok(move |mut response| {
        let Some(origins) = origins else {
            return response;
        };
        let headers = response.headers_mut();
        if !origins.are_all() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            if !is_preflight {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            }
        }
        response
    })
}
