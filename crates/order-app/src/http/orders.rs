//! `/api/v1/orders/{uid}`.

use std::io::Write;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use actix_web::dev::{Extensions, Service, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, EntityTag, Header, HeaderValue};
use actix_web::{Error, HttpRequest, HttpResponse, web};
use futures::future::Either;
use jiff::fmt::friendly::SpanParser;
use order_domain::{OrderService, OrderUid, Revision};

use super::problem::{Problem, ProblemKind, only};
use super::query::Query;
use super::timing::Route;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

const ORDER: &str = "/api/v1/orders/{uid}";

/// Registers the route, for all methods but those that [`with_orders`] answers.
pub(crate) fn configure_orders(app: &mut web::ServiceConfig) {
    app.service(web::resource(ORDER).default_service(web::route().to(only(&[Method::GET, Method::HEAD]))));
}

/// What requests for one order share on one thread: see [`with_orders`].
pub(crate) fn order_data() -> Rc<Extensions> {
    let mut data = Extensions::new();
    data.insert(Route::new(ORDER));
    Rc::new(data)
}

/// The innermost layer: it answers reads of one order, which nearly all requests are, before they come to the router. That one
/// would match them by a regular expression, and put two futures into boxes. The service is expected as `web::Data<OrderService>`.
pub(crate) fn with_orders<S>(
    data: &Rc<Extensions>,
    mut request: ServiceRequest,
    service: &S,
) -> Either<impl Future<Output = Result<ServiceResponse, Error>> + use<S>, S::Future>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read || uid(request.request()).is_none() {
        return Either::Right(service.call(request));
    }
    request.add_data_container(Rc::clone(data));
    Either::Left(async move {
        let answer = order(request.request()).await;
        Ok(request.into_response(answer.unwrap_or_else(HttpResponse::from_error)))
    })
}

/// What stands in the path for `{uid}`, where the path is [`ORDER`].
fn uid(request: &HttpRequest) -> Option<&str> {
    // The path as routes match it, whatever of it is written with percent signs.
    let uid = request
        .match_info()
        .unprocessed()
        .strip_prefix("/api/v1/orders/")?;
    (!uid.is_empty() && !uid.contains('/')).then_some(uid)
}

/// One order, as the canonical JSON's bytes, under its revision as a weak `ETag`.
async fn order(request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let service = request.app_data::<web::Data<OrderService>>();
    let service = service.ok_or_else(|| Problem::new(ProblemKind::Internal))?;
    let uid = uid(request).and_then(|uid| OrderUid::new(uid).ok());
    let uid = uid.ok_or_else(Problem::bad_uid)?;
    let proof_required = requires_proof(request);
    let found = match wait(request)? {
        None => service.find(&uid, proof_required).await?,
        Some(within) => service.find_or_wait(&uid, proof_required, within).await?,
    };
    let found = found.ok_or_else(|| Problem::new(ProblemKind::UnknownOrder))?;

    let revision = found.document.revision;
    let is_known = is_known(request, || EntityTag::new_weak(revision.to_string()));
    let mut response = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag(revision)))
        .insert_header((header::CACHE_CONTROL, NO_CACHE));
    if let Some(age) = found.age {
        // Only an answer that could not be proven has an age: the database is out of reach.
        response.insert_header((header::AGE, age.as_secs()));
    }
    if is_known {
        return Ok(response.finish());
    }
    Ok(response
        .insert_header((header::CONTENT_TYPE, JSON))
        .body(found.document.json))
}

/// A revision as a weak `ETag`, written in one go: an `EntityTag` would take three pieces of memory for every read.
fn tag(revision: Revision) -> HeaderValue {
    let mut text = [0; 64];
    let mut rest = &mut text[..];
    // Two integers, a hyphen and four marks have room there, and are fit for a header.
    let _ = write!(rest, r#"W/"{revision}""#);
    let length = 64 - rest.len();
    HeaderValue::from_bytes(&text[..length]).unwrap_or(HeaderValue::from_static(r#"W/"0""#))
}

/// How long the caller would wait for an order that is not there yet: the only parameter there is.
fn wait(request: &HttpRequest) -> Result<Option<Duration>, Problem> {
    if request.query_string().is_empty() {
        return Ok(None);
    }
    let wait = Query::read(request.query_string(), &["wait"])?.parse("wait")?;
    Ok(wait.map(|Wait(wait)| wait))
}

/// A duration, as callers write it.
struct Wait(Duration);

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        static DURATIONS: SpanParser = SpanParser::new();
        let duration = DURATIONS.parse_unsigned_duration(text);
        duration
            .map(Wait)
            .map_err(|_| "must be a duration, as in `5s` or `500ms`")
    }
}

/// Whether the caller rather has an error than an order that is not proven.
pub(super) fn requires_proof(request: &HttpRequest) -> bool {
    request
        .headers()
        .get_all(header::CACHE_CONTROL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

/// Whether the caller has this version already. The tag is made only for who says what it has.
pub(super) fn is_known(request: &HttpRequest, tag: impl FnOnce() -> EntityTag) -> bool {
    if !request.headers().contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    match header::IfNoneMatch::parse(request) {
        Ok(header::IfNoneMatch::Any) => true,
        Ok(header::IfNoneMatch::Items(tags)) => {
            let tag = tag();
            tags.iter().any(|known| known.weak_eq(&tag))
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::dev::ResourceDef;
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_layer_answers_what_the_router_would_have_led_here() {
        let route = ResourceDef::new(ORDER);
        for path in [
            "/api/v1/orders/a",
            "/api/v1/orders/a%20b",
            "/api/v1/orders/a%2Fb",
            "/api/v1/orders/%2e%2e",
            "/api/v1/%6frders/a",
            "/api/v1/orders/a/",
            "/api/v1/orders/a/b",
            "/api/v1/orders//a",
            "/api/v1/orders/",
            "/api/v1/orders",
            "/api/v1/ordersx/a",
            "/x/api/v1/orders/a",
        ] {
            let request = TestRequest::with_uri(path).to_http_request();
            let matched = route.is_match(request.match_info().unprocessed());
            assert_eq!(uid(&request).is_some(), matched, "{path}");
        }
    }

    #[test]
    fn the_longest_revision_has_room_in_its_tag() {
        let revision = Revision {
            published_at: i64::MIN,
            sequence: u64::MAX,
        };
        assert_eq!(tag(revision), r#"W/"-9223372036854775808-18446744073709551615""#);
    }
}
