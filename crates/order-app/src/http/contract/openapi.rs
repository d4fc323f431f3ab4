//! OpenAPI 3.1: every operation of the public listener.

use actix_web::http::Method;
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, Paths, PathsBuilder};

use super::operation::{SCHEMAS, TOKEN, headers, require_token, token};
use super::operations::{
    DOCUMENTS, ORDERS, document as one_document, look_up, many_orders, one_order, problem_page,
};
use super::schemas::schemas;
use crate::http::needed_by_the_public;

const DESCRIPTION: &str = "Orders of a shop: published, stored, and served.

Errors are `application/problem+json` (RFC 9457). Their `type` is stable, and leads to a page that tells what to do. A path has only \
the methods that are listed; any other is answered with 405 and `Allow`.";

/// The document, for a service that asks for tokens or does not.
pub(super) fn document(asks_for_tokens: bool) -> OpenApi {
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(schemas(SCHEMAS))
        .security_scheme(TOKEN, token());
    for (name, header) in headers() {
        components = components.header(name, header);
    }
    let info = InfoBuilder::new()
        .title("Order Tracker")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION));
    let tags = [
        (ORDERS, "Orders, one by one and many at once."),
        (DOCUMENTS, "What all of this means, for programs and for people."),
    ];
    let mut paths = paths();
    for (path, item) in &mut paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::HEAD, &mut item.head),
            (Method::POST, &mut item.post),
        ];
        for (method, operation) in operations {
            // As access is checked, so it is told.
            if let (Some(operation), Some(scope)) = (operation, needed_by_the_public(&method, path)) {
                require_token(operation, scope, asks_for_tokens, method == Method::HEAD);
            }
        }
    }
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components.build()))
        .tags(Some(tags.map(|(name, description)| {
            TagBuilder::new()
                .name(name)
                .description(Some(description))
                .build()
        })))
        .build()
}

fn paths() -> Paths {
    PathsBuilder::new()
        .path("/api/v1/orders", many_orders())
        .path("/api/v1/orders/{uid}", one_order())
        .path("/api/v1/lookup", look_up())
        .path(
            "/api/openapi.json",
            one_document("OpenApi", "application/json", "This document."),
        )
        .path(
            "/api/asyncapi.json",
            one_document(
                "AsyncApi",
                "application/json",
                "AsyncAPI 3: the subject that orders are published to.",
            ),
        )
        .path(
            "/api/order.schema.json",
            one_document(
                "OrderSchema",
                "application/schema+json",
                "JSON Schema: the order, with its limits.",
            ),
        )
        .path("/problems/{slug}", problem_page())
        .build()
}
