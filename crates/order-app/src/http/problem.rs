//! Errors as `application/problem+json` (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use actix_web::error::{JsonPayloadError, PayloadError, QueryPayloadError};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use order_domain::FindError;
use serde::Serialize;
use utoipa::ToSchema;

/// What a problem is served as.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// How many seconds a caller should wait before asking again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident: $slug:literal, $status:ident, $title:literal;)*) => {
        /// The kinds of problem. Each is described for callers in `docs/problems.md`, which is served as `/problems/{slug}`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// Its `type`, stable: where its page is, relative to the service itself.
            pub(crate) const fn uri(self) -> &'static str {
                match self { $(Self::$kind => concat!("/problems/", $slug),)* }
            }

            /// The only status it is answered with.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// What it is, in a few words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// The request cannot be read as one.
    BadRequest: "bad-request", BAD_REQUEST, "not a request that can be read";
    /// The uid in the path is none.
    BadUid: "bad-uid", BAD_REQUEST, "not an order's uid";
    /// A parameter of the query is unknown or wrong; the detail names it.
    BadQuery: "bad-query", BAD_REQUEST, "not a query that can be answered";
    /// The cursor is none of ours, or belongs to another query.
    BadCursor: "bad-cursor", BAD_REQUEST, "not a cursor of this list";
    /// The body is not JSON, or not of the shape that is asked for.
    BadJson: "bad-json", BAD_REQUEST, "not the JSON that is expected here";
    /// A header has a value that it cannot have; the detail names it.
    BadHeader: "bad-header", BAD_REQUEST, "a header has a wrong value";
    /// There is no token, or none that is known.
    Unauthorized: "unauthorized", UNAUTHORIZED, "an access token is needed";
    /// The token does not allow this.
    Forbidden: "forbidden", FORBIDDEN, "the access token does not allow this";
    /// There is no such order.
    UnknownOrder: "unknown-order", NOT_FOUND, "no such order";
    /// There is nothing at this path.
    NotFound: "not-found", NOT_FOUND, "there is nothing here";
    /// The path has no such method.
    MethodNotAllowed: "method-not-allowed", METHOD_NOT_ALLOWED, "method not allowed here";
    /// The request took too long to arrive.
    RequestTimeout: "request-timeout", REQUEST_TIMEOUT, "the request did not arrive in time";
    /// The body is larger than is taken.
    PayloadTooLarge: "payload-too-large", PAYLOAD_TOO_LARGE, "the body is too large";
    /// The body is of a type that is not read here.
    UnsupportedMediaType: "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "the body is not of a type that is read here";
    /// The order breaks rules; each is named with its place.
    InvalidOrder: "invalid-order", UNPROCESSABLE_ENTITY, "not a valid order";
    /// A fault of ours.
    Internal: "internal", INTERNAL_SERVER_ERROR, "a fault on our side";
    /// There is more to do than can be done.
    Overloaded: "overloaded", SERVICE_UNAVAILABLE, "too busy now; ask again";
    /// The database is out of reach, and the answer is not in the cache.
    Unavailable: "unavailable", SERVICE_UNAVAILABLE, "orders cannot be read now; ask again";
    /// The broker does not answer.
    BrokerUnavailable: "broker-unavailable", SERVICE_UNAVAILABLE, "orders cannot be taken now; send it again";
}

/// An error as a caller sees it. Nothing internal: what went wrong inside is in the log.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: ProblemKind,
    detail: Option<Cow<'static, str>>,
    errors: Vec<PlacedFault>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// One fault of a body, and where in it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlacedFault {
    /// A JSON pointer (RFC 6901) into the body.
    pub(crate) pointer: String,
    /// What is wrong there, and what was expected.
    pub(crate) detail: String,
}

/// How a problem is written.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [PlacedFault],
}

impl Problem {
    /// A problem of this kind, with the headers that every one of it has.
    pub(crate) fn new(kind: ProblemKind) -> Self {
        let header = match kind {
            ProblemKind::Unauthorized => Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            ProblemKind::UnsupportedMediaType => {
                Some((header::ACCEPT, HeaderValue::from_static("application/json")))
            }
            ProblemKind::Overloaded | ProblemKind::Unavailable | ProblemKind::BrokerUnavailable => {
                Some((header::RETRY_AFTER, RETRY_AFTER))
            }
            _ => None,
        };
        Problem {
            kind,
            detail: None,
            errors: Vec::new(),
            headers: header.into_iter().collect(),
        }
    }

    /// Says what exactly is wrong this time.
    #[must_use]
    pub(crate) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names every fault of the body.
    #[must_use]
    pub(crate) fn with_errors(mut self, errors: Vec<PlacedFault>) -> Self {
        self.errors = errors;
        self
    }

    /// Sets a header, in place of one that the kind has by itself.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name, value));
        self
    }

    /// The uid in the path is none.
    pub(crate) fn bad_uid() -> Self {
        Self::new(ProblemKind::BadUid)
            .with_detail("an order's uid is 1 to 64 of A-Z a-z 0-9 . _ - and neither `.` nor `..`")
    }

    /// Which kind it is.
    #[cfg(test)]
    pub(crate) fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// What is nearest to an error that is none of ours and says only its status.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => ProblemKind::Unauthorized,
            StatusCode::FORBIDDEN => ProblemKind::Forbidden,
            StatusCode::NOT_FOUND => ProblemKind::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => ProblemKind::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => ProblemKind::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => ProblemKind::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemKind::UnsupportedMediaType,
            StatusCode::SERVICE_UNAVAILABLE => ProblemKind::Overloaded,
            status if status.is_client_error() => ProblemKind::BadRequest,
            _ => ProblemKind::Internal,
        };
        Self::new(kind)
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        Self::new(match error {
            FindError::Unavailable => ProblemKind::Unavailable,
            FindError::Other => ProblemKind::Internal,
        })
    }
}

impl From<&PayloadError> for Problem {
    fn from(error: &PayloadError) -> Self {
        match error {
            PayloadError::Overflow => Self::new(ProblemKind::PayloadTooLarge),
            _ => Self::new(ProblemKind::BadRequest).with_detail("the body did not arrive whole"),
        }
    }
}

/// Errors of actix-web's own, such as those of its extractors.
impl From<&actix_web::Error> for Problem {
    fn from(error: &actix_web::Error) -> Self {
        if let Some(problem) = error.as_error::<Problem>() {
            problem.clone()
        } else if let Some(error) = error.as_error::<PayloadError>() {
            error.into()
        } else if let Some(QueryPayloadError::Deserialize(error)) = error.as_error() {
            Self::new(ProblemKind::BadQuery).with_detail(error.to_string())
        } else if let Some(error) = error.as_error::<JsonPayloadError>() {
            match error {
                JsonPayloadError::Deserialize(error) => {
                    Self::new(ProblemKind::BadJson).with_detail(error.to_string())
                }
                JsonPayloadError::Payload(error) => error.into(),
                error => Self::from_status(error.status_code()),
            }
        } else {
            Self::from_status(error.as_response_error().status_code())
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.title())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.kind.status());
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        if self.leaves_a_body_unread() {
            response.force_close();
        }
        let body = ProblemBody {
            r#type: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.as_deref(),
            errors: &self.errors,
        };
        response
            .content_type(PROBLEM_JSON)
            // Texts and a number can always be written.
            .body(serde_json::to_string(&body).unwrap_or_default())
    }
}

impl Problem {
    /// Whether the rest of the body must not be waited for, so that the connection ends with this answer.
    fn leaves_a_body_unread(&self) -> bool {
        matches!(
            self.kind,
            ProblemKind::RequestTimeout | ProblemKind::PayloadTooLarge
        )
    }
}

/// The answer to a path that nothing is registered for.
pub(crate) async fn not_found(_: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::new(ProblemKind::NotFound))
}

/// A handler for the methods that a resource does not have.
pub(crate) fn only(
    allowed: &'static [Method],
) -> impl Fn() -> std::future::Ready<Result<HttpResponse, Problem>> + Clone {
    move || {
        let methods: Vec<_> = allowed.iter().map(Method::as_str).collect();
        let problem = Problem::new(ProblemKind::MethodNotAllowed);
        // Names of methods are always fit for a header.
        let problem = match HeaderValue::try_from(methods.join(", ")) {
            Ok(methods) => problem.with_header(header::ALLOW, methods),
            Err(_) => problem,
        };
        std::future::ready(Err(problem))
    }
}
