//! Errors as `application/problem+json` (RFC 9457).

use std::fmt;
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use order_domain::FindError;
use serde::Serialize;

/// How long a caller should wait before asking again, while the database is out of reach.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error as a caller sees it. Nothing internal: what went wrong inside is in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Problem {
    /// The kind, stable; resolves against the address of the documentation.
    r#type: &'static str,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, String)>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    const fn new(status: StatusCode, r#type: &'static str, title: &'static str) -> Self {
        Problem {
            r#type,
            title,
            status,
            detail: None,
            headers: Vec::new(),
        }
    }

    /// The uid in the path is none.
    pub(crate) fn bad_uid() -> Self {
        Problem {
            detail: Some("an order's uid is 1 to 64 of A-Z a-z 0-9 . _ - and neither `.` nor `..`"),
            ..Self::new(StatusCode::BAD_REQUEST, "/problems/bad-uid", "not an order's uid")
        }
    }

    /// There is no such order.
    pub(crate) fn unknown_order() -> Self {
        Self::new(StatusCode::NOT_FOUND, "/problems/unknown-order", "no such order")
    }

    /// The path has no such method.
    fn method_not_allowed(allowed: &[Method]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
        Problem {
            headers: vec![(header::ALLOW, allowed.join(", "))],
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "/problems/method-not-allowed",
                "method not allowed here",
            )
        }
    }
}

impl From<FindError> for Problem {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Unavailable => Problem {
                headers: vec![(header::RETRY_AFTER, RETRY_AFTER.as_secs().to_string())],
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "/problems/unavailable",
                    "orders cannot be read now; ask again",
                )
            },
            FindError::Other => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "/problems/internal",
                "a fault on our side",
            ),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for (name, value) in &self.headers {
            response.insert_header((name.clone(), value.as_str()));
        }
        response
            .content_type("application/problem+json")
            .body(serde_json::json!(self).to_string())
    }
}

/// The answer to a path that nothing is registered for.
pub(crate) async fn not_found(_: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::new(
        StatusCode::NOT_FOUND,
        "/problems/not-found",
        "there is nothing here",
    ))
}

/// A handler for the methods that a resource does not have.
pub(crate) fn only(
    allowed: &'static [Method],
) -> impl Fn() -> std::future::Ready<Result<HttpResponse, Problem>> + Clone {
    move || std::future::ready(Err(Problem::method_not_allowed(allowed)))
}
