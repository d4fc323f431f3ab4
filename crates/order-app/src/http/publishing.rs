//! `POST /api/v1/orders`.

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, guard, web};
use order_domain::{Faults, IdempotencyKey, OrderPublisher, PublishError, TraceParent};
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Body;
use super::problem::{PlacedFault, Problem, ProblemKind};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What is answered when the broker has stored an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The order's name.
    order_uid: String,
    /// The sequence under which the broker has stored it.
    sequence: u64,
}

/// Registers the route. Expects `web::Data<OrderPublisher>`.
///
/// Only POST is taken here: the other methods of the path are for the resource that is registered after this one.
pub(crate) fn configure_publishing(app: &mut web::ServiceConfig) {
    app.service(
        web::resource("/api/v1/orders")
            .guard(guard::Post())
            .route(web::post().to(publish)),
    );
}

/// Checks the order, publishes it, and answers when the broker has stored it.
async fn publish(
    request: HttpRequest,
    body: Body,
    publisher: web::Data<OrderPublisher>,
) -> Result<HttpResponse, Problem> {
    let key = idempotency_key(&request)?;
    let trace = trace_parent(&request);
    let published = publisher.publish(&body, key.as_ref(), trace.as_ref()).await?;
    let mut response = HttpResponse::Accepted();
    let uid = published.order_uid.as_str();
    response.insert_header((header::LOCATION, format!("/api/v1/orders/{uid}")));
    if published.replayed {
        response.insert_header((IDEMPOTENCY_REPLAYED, "true"));
    }
    Ok(response.json(Accepted {
        order_uid: uid.to_owned(),
        sequence: published.sequence,
    }))
}

/// The caller's key, as a string of a structured field (`"8e03978e"`, as the draft of the header has it) or bare.
fn idempotency_key(request: &HttpRequest) -> Result<Option<IdempotencyKey>, Problem> {
    let mut given = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let bad =
        |fault: &str| Problem::new(ProblemKind::BadHeader).with_detail(format!("Idempotency-Key: {fault}"));
    if given.next().is_some() {
        return Err(bad("must be given once"));
    }
    let text = value.to_str().unwrap_or_default().trim();
    let key = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted).ok_or_else(|| bad("must end with its quotation mark"))?,
        None => text.to_owned(),
    };
    IdempotencyKey::new(key)
        .map(Some)
        .map_err(|fault| bad(&fault.to_string()))
}

/// What stands between quotation marks, of which the first is taken off already; `None` if it does not end with the second.
fn unquoted(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut rest = quoted.chars();
    loop {
        match rest.next()? {
            '"' => return rest.as_str().is_empty().then_some(key),
            '\\' => key.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            plain => key.push(plain),
        }
    }
}

/// Where the caller stands in a trace. What is not well-formed is as absent, as the standard has it.
fn trace_parent(request: &HttpRequest) -> Option<TraceParent> {
    let mut given = request.headers().get_all(TraceParent::HEADER);
    let text = given.next().map(HeaderValue::to_str)?.ok()?;
    given.next().is_none().then(|| TraceParent::new(text))?
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid(faults) => faults.into(),
            PublishError::Unavailable => Self::new(ProblemKind::BrokerUnavailable)
                .with_detail("the broker is out of reach; the order was not published"),
            PublishError::Unacknowledged => Self::new(ProblemKind::BrokerUnavailable)
                .with_detail("the broker did not confirm in time; the order may be published or not"),
            PublishError::Other => Self::new(ProblemKind::Internal),
        }
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Self {
        if faults.not_json {
            let detail = faults.faults.into_iter().next().map(|fault| fault.reason);
            return Self::new(ProblemKind::BadJson).with_detail(detail.unwrap_or_default());
        }
        let errors = faults.faults.into_iter().map(|fault| PlacedFault {
            pointer: fault.pointer,
            detail: fault.reason,
        });
        Self::new(ProblemKind::InvalidOrder).with_errors(errors.collect())
    }
}
