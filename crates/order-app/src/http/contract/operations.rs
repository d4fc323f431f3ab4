//! Every operation of the public listener, one function a path.

use serde_json::json;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem, PathItemBuilder};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Content, HttpMethod, Ref, Required};

use super::operation::{SCHEMAS, answer, as_head, header, json_answer, operation, parameter, with_header};
use super::order_schema::{NEW_ORDER, ORDER, searchable_text, uid};
use super::schemas::{ACCEPTED, FOUND, LOOKUP, PAGE};
use crate::http::problem::ProblemKind::{self, *};

/// Orders, one by one and many at once.
pub(super) const ORDERS: &str = "orders";
/// What all of this means.
pub(super) const DOCUMENTS: &str = "documents";

/// What may be wrong with a body, whatever it is to be.
const BODY: [ProblemKind; 5] = [
    BadJson,
    UnsupportedMediaType,
    PayloadTooLarge,
    RequestTimeout,
    Overloaded,
];

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
        &[BadUid, BadQuery, UnknownOrder, Unavailable],
    )
    .description(Some(
        "An answer is never staler than 2 s. Where the database is out of reach, a cached order is answered with its `Age`, and one that is \
         not cached with 503.",
    ))
    .parameter(parameter(ParameterIn::Path, "uid", "The order's name.", uid()))
    .parameter(parameter(
        ParameterIn::Query,
        "wait",
        "While there is no such order, waits so long for it to be stored instead of answering 404, at most 30 s: `500ms`, `5s`. It waits for \
         the order to exist, not for a version of it.",
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some("^[0-9]{1,5}(ms|s)$"))
            .examples(["5s"]),
    ))
    .parameter(header("If-None-Match", "The `ETag`s that the caller has, or `*`: a match is answered with 304."))
    .parameter(header("Cache-Control", "With `no-cache`, rather an error than an order that could not be proven."));
    get_and_head(get.build(), "headOrder")
}

/// `/api/v1/orders`
pub(super) fn many_orders() -> PathItem {
    let page = with_header(json_answer("One page.", PAGE), "Link");
    let list = operation(
        "listOrders",
        ORDERS,
        "Orders in pages, the newest first.",
        [(200, with_header(page, "Cache-Control"))],
        &[BadQuery, BadCursor, Unavailable, Overloaded],
    )
    .description(Some(
        "By `date_created`, the newest first. All filters that are given must fit; any other parameter is refused. Nothing is repeated or \
         skipped, however much is stored meanwhile. A page also ends at 4 MiB.",
    ))
    .parameters(Some(["track_number", "customer_id", "transaction"].map(|name| {
        parameter(ParameterIn::Query, name, "Only orders with exactly this.", searchable_text())
    })))
    .parameter(parameter(
        ParameterIn::Query,
        "limit",
        "At most so many orders.",
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(200))
            .default(Some(json!(50))),
    ))
    .parameter(parameter(
        ParameterIn::Query,
        "cursor",
        "Where the page begins: the `next_cursor` of the page before, asked with the same filters.",
        ObjectBuilder::new().schema_type(Type::String),
    ))
    .build();
    let mut path = get_and_head(list, "headOrders");
    path.post = Some(publish());
    path
}

/// `POST /api/v1/orders`
fn publish() -> Operation {
    let stored = LinkBuilder::new()
        .operation_id("getOrder")
        .parameter("uid", "$response.body#/order_uid")
        .parameter("wait", "5s")
        .description("The order, as soon as it is stored.");
    let accepted = ["Location", "Idempotency-Replayed"]
        .into_iter()
        .fold(
            json_answer("The broker has stored the order: it is not lost.", ACCEPTED),
            with_header,
        )
        .link("stored", stored.build());
    operation(
        "publishOrder",
        ORDERS,
        "Publishes an order.",
        [(202, accepted)],
        &[&BODY[..], &[BadHeader, InvalidOrder, BrokerUnavailable]].concat(),
    )
    .description(Some(
        "Checks the order and publishes it to the broker, from which every order comes; it is served a moment later. A 422 names every \
         fault by its place. After a 503 send the same again, under the same `Idempotency-Key`.",
    ))
    .request_body(Some(body("The order, in either spelling.", NEW_ORDER)))
    .parameter(parameter(
        ParameterIn::Header,
        "Idempotency-Key",
        "Makes a repeat safe: the same order under the same key is stored once within the broker's window for duplicates. 1 to 255 printable \
         ASCII characters, bare or between quotation marks.",
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(r#"^([!#-~]([ -~]{0,253}[!-~])?|"[ !#-\[\]-~]{1,253}")$"#))
            .examples(["checkout-17"]),
    ))
    .parameter(header("traceparent", "W3C Trace Context: goes on with the message."))
    .build()
}

/// `/api/v1/lookup`
pub(super) fn look_up() -> PathItem {
    let found = ["Cache-Control", "Age"].into_iter().fold(
        json_answer("Those found, and the names of the others.", FOUND),
        with_header,
    );
    let post = operation(
        "lookUpOrders",
        ORDERS,
        "Many orders by their uids.",
        [(200, found)],
        &[&BODY[..], &[Unavailable]].concat(),
    )
    .description(Some(
        "Answered in the order asked; a uid that is given twice is answered once.",
    ))
    .request_body(Some(body("Which orders.", LOOKUP)))
    .parameter(header(
        "Cache-Control",
        "With `no-cache`, rather an error than an order that could not be proven.",
    ))
    .build();
    PathItem::new(HttpMethod::Post, post)
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
        "What a kind of problem means, and what to do: where its type leads.",
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
    ["ETag", "Cache-Control", "Vary"]
        .into_iter()
        .fold(answer, with_header)
}

fn body(description: &str, schema: &str) -> RequestBody {
    let content = Content::new(Some(Ref::new(format!("{SCHEMAS}{schema}"))));
    RequestBodyBuilder::new()
        .description(Some(description))
        .required(Some(Required::True))
        .content("application/json", content)
        .build()
}

fn get_and_head(get: Operation, head_id: &str) -> PathItem {
    let head = as_head(&get, head_id);
    PathItemBuilder::new()
        .operation(HttpMethod::Get, get)
        .operation(HttpMethod::Head, head)
        .build()
}
