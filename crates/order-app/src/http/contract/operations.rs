//! Every operation of the public listener, one function a path.

use utoipa::openapi::path::{Operation, ParameterIn, PathItem, PathItemBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, HttpMethod};

use super::operation::{answer, as_head, header, json_answer, operation, parameter, with_header};
use super::order_schema::{ORDER, uid};
use crate::http::problem::ProblemKind::*;

/// Orders, one by one and many at once.
pub(super) const ORDERS: &str = "orders";
/// What all of this means.
pub(super) const DOCUMENTS: &str = "documents";

/// `/api/v1/orders/{uid}`
pub(super) fn one_order() -> PathItem {
    let found = versioned(json_answer("The order.", ORDER));
    let known = versioned(answer("The caller has this version already."));
    let [found, known] = [found, known].map(|answer| with_header(answer, "Age"));
    let get = operation(
        "getOrder",
        ORDERS,
        "One order.",
        [(200, found), (304, known)],
        &[BadUid, UnknownOrder, Unavailable],
    )
    .description(Some(
        "An answer is never staler than 2 s. Where the database is out of reach, a cached order is answered with its `Age`, and one that is \
         not cached with 503.",
    ))
    .parameter(parameter(ParameterIn::Path, "uid", "The order's name.", uid()))
    .parameter(header("If-None-Match", "The `ETag`s that the caller has, or `*`: a match is answered with 304."))
    .parameter(header("Cache-Control", "With `no-cache`, rather an error than an order that could not be proven."));
    get_and_head(get.build(), "headOrder")
}

/// `/api/{document}`
pub(super) fn document(id: &str, media_type: &str, summary: &str) -> PathItem {
    let found = answer("The document.").content(media_type, Content::new(Some(ObjectBuilder::new())));
    let known = answer("The caller has it already.");
    let get = operation(
        &format!("get{id}"),
        DOCUMENTS,
        summary,
        [(200, versioned(found)), (304, versioned(known))],
        &[],
    )
    .parameter(header(
        "If-None-Match",
        "The `ETag`s that the caller has, or `*`.",
    ))
    .build();
    get_and_head(get, &format!("head{id}"))
}

/// `/problems/{slug}`
pub(super) fn problem_page() -> PathItem {
    let page = answer("The page.").content(
        "text/html; charset=utf-8",
        Content::new(Some(ObjectBuilder::new().schema_type(Type::String))),
    );
    let slug = ObjectBuilder::new()
        .schema_type(Type::String)
        .examples(["bad-uid"]);
    let get = operation(
        "getProblem",
        DOCUMENTS,
        "What a kind of problem means, and what to do: where its `type` leads.",
        [(200, with_header(page, "Cache-Control"))],
        &[NotFound],
    )
    .parameter(parameter(
        ParameterIn::Path,
        "slug",
        "The last part of the `type`.",
        slug,
    ))
    .build();
    get_and_head(get, "headProblem")
}

fn versioned(answer: ResponseBuilder) -> ResponseBuilder {
    ["ETag", "Cache-Control"].into_iter().fold(answer, with_header)
}

fn get_and_head(get: Operation, head_id: &str) -> PathItem {
    let head = as_head(&get, head_id);
    PathItemBuilder::new()
        .operation(HttpMethod::Get, get)
        .operation(HttpMethod::Head, head)
        .build()
}
