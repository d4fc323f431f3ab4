//! OpenAPI 3.1: every operation of the public listener.

use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder, Paths, PathsBuilder};

use super::operation::{SCHEMAS, headers};
use super::operations::{DOCUMENTS, ORDERS, document as one_document, one_order, problem_page};
use super::schemas::schemas;

const DESCRIPTION: &str = "Orders of a shop: published, stored, and served.

Errors are `application/problem+json` (RFC 9457). Their `type` is stable, and leads to a page that tells what to do. A path has only \
the methods that are listed; any other is answered with 405 and `Allow`.";

/// The document.
pub(super) fn document() -> OpenApi {
    let mut components = ComponentsBuilder::new().schemas_from_iter(schemas(SCHEMAS));
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
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths())
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
        .path("/api/v1/orders/{uid}", one_order())
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
