//! What operations are told in: the parts that all of them, or many, have in common.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Required, Schema};

use super::schemas::PROBLEM;
use crate::http::problem::{PROBLEM_JSON, ProblemKind};
use crate::tokens::Scope;

/// Where schemas stand in the document.
pub(super) const SCHEMAS: &str = "#/components/schemas/";

/// The name of the way to authenticate.
pub(super) const TOKEN: &str = "token";

/// What every operation may answer besides its own.
const ALWAYS: [ProblemKind; 2] = [ProblemKind::BadRequest, ProblemKind::Internal];

/// What the headers of answers mean. An answer names those that it may have.
const HEADERS: [(&str, Type, &str); 10] = [
    (
        "X-Request-Id",
        Type::String,
        "Names the request in the log: the caller's own id, or a new one.",
    ),
    (
        "ETag",
        Type::String,
        "The version, as a weak tag: give it back as `If-None-Match`.",
    ),
    (
        "Cache-Control",
        Type::String,
        "`no-cache`: keep it, but ask each time whether it still holds.",
    ),
    (
        "Age",
        Type::Integer,
        "Only where the answer could not be proven, since the database is out of reach: for how many seconds it has not been.",
    ),
    (
        "Vary",
        Type::String,
        "`Accept-Encoding`: a larger answer is compressed (zstd, br, gzip) for those who ask.",
    ),
    ("Location", Type::String, "Where to go on."),
    (
        "Link",
        Type::String,
        "The next page, as `rel=\"next\"` (RFC 8288); absent on the last.",
    ),
    (
        "Retry-After",
        Type::Integer,
        "After how many seconds to ask again.",
    ),
    (
        "WWW-Authenticate",
        Type::String,
        "How to authenticate: with a bearer token (RFC 6750).",
    ),
    (
        "Idempotency-Replayed",
        Type::Boolean,
        "`true` where this key and body were accepted before.",
    ),
];

/// The headers, for the document's components.
pub(super) fn headers() -> impl Iterator<Item = (&'static str, Header)> {
    HEADERS.into_iter().map(|(name, of, description)| {
        let schema = ObjectBuilder::new().schema_type(of);
        let header = HeaderBuilder::new()
            .schema(Some(schema))
            .description(Some(description));
        (name, header.build())
    })
}

/// An operation by its id: what it answers when all is well, and what problems it may answer with besides those of every
/// operation.
pub(super) fn operation(
    id: &str,
    tag: &str,
    summary: &str,
    answers: impl IntoIterator<Item = (u16, ResponseBuilder)>,
    problems: &[ProblemKind],
) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(id))
        .tag(tag)
        .summary(Some(summary))
        .parameter(header(
            "X-Request-Id",
            "Names the request in the log, and comes back with the answer. One that is not 1 to 128 visible ASCII characters is \
             replaced.",
        ));
    for (status, answer) in answers {
        operation = operation.response(status.to_string(), with_header(answer, "X-Request-Id"));
    }
    let mut by_status = BTreeMap::<u16, Vec<ProblemKind>>::new();
    for kind in ProblemKind::ALL {
        if problems.contains(kind) || ALWAYS.contains(kind) {
            by_status.entry(kind.status().as_u16()).or_default().push(*kind);
        }
    }
    for (status, kinds) in by_status {
        operation = operation.response(status.to_string(), problem(status, &kinds));
    }
    operation
}

/// The same operation by `HEAD`: everything but the bodies.
pub(super) fn as_head(operation: &Operation, id: &str) -> Operation {
    let mut head = operation.clone();
    head.operation_id = Some(id.to_owned());
    head.summary = head.summary.map(|summary| format!("{summary} Without the body."));
    for response in head.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.content.clear();
        }
    }
    head
}

/// How a caller authenticates.
pub(super) fn token() -> SecurityScheme {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token that has the scope of the operation, made by `order-tracker token new`.",
        ));
    SecurityScheme::Http(token.build())
}

/// Says that an operation needs a token with this scope, or does where tokens are asked for, and what it answers without.
pub(super) fn require_token(operation: &mut Operation, scope: Scope, always: bool, is_head: bool) {
    let token = SecurityRequirement::new(TOKEN, [scope.name()]);
    operation.security = Some(match always {
        true => vec![token],
        false => vec![SecurityRequirement::default(), token],
    });
    for kind in [ProblemKind::Unauthorized, ProblemKind::Forbidden] {
        let status = kind.status().as_u16();
        let mut answer = problem(status, &[kind]).build();
        if is_head {
            answer.content.clear();
        }
        operation
            .responses
            .responses
            .insert(status.to_string(), answer.into());
    }
}

/// An answer with a JSON body of this schema.
pub(super) fn json_answer(description: &str, schema: &str) -> ResponseBuilder {
    let content = Content::new(Some(Ref::new(format!("{SCHEMAS}{schema}"))));
    answer(description).content("application/json", content)
}

/// An answer, with what is said of it.
pub(super) fn answer(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

/// Names a header that an answer may have.
pub(super) fn with_header(answer: ResponseBuilder, name: &str) -> ResponseBuilder {
    answer.header_ref(name, Ref::new(format!("#/components/headers/{name}")))
}

/// A header that a request may have.
pub(super) fn header(name: &str, description: &str) -> Parameter {
    parameter(
        ParameterIn::Header,
        name,
        description,
        ObjectBuilder::new().schema_type(Type::String),
    )
}

/// A parameter that may be left out, unless it stands in the path.
pub(super) fn parameter(
    place: ParameterIn,
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// The answer of one status, with a problem of one of these kinds.
fn problem(status: u16, kinds: &[ProblemKind]) -> ResponseBuilder {
    let types = kinds.iter().map(|kind| kind.uri());
    let one_of_them = ObjectBuilder::new().property(
        "type",
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(types)),
    );
    let schema = AllOfBuilder::new()
        .item(Ref::new(format!("{SCHEMAS}{PROBLEM}")))
        .item(one_of_them);
    let examples = kinds.iter().map(|kind| {
        let value = json!({ "type": kind.uri(), "title": kind.title(), "status": status });
        let name = kind.uri().rsplit('/').next().unwrap_or_default();
        (name, ExampleBuilder::new().value(Some(value)))
    });
    let meaning: Vec<_> = kinds
        .iter()
        .map(|kind| format!("- [{title}]({uri})", title = kind.title(), uri = kind.uri()))
        .collect();
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .examples_from_iter(examples);
    let mut answer = answer(&meaning.join("\n")).content(PROBLEM_JSON, content.build());
    let headers: &[&str] = match status {
        401 | 403 => &["X-Request-Id", "WWW-Authenticate"],
        503 => &["X-Request-Id", "Retry-After"],
        _ => &["X-Request-Id"],
    };
    for name in headers {
        answer = with_header(answer, name);
    }
    answer
}
