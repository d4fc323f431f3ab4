//! The schemas of bodies other than an order. What is a type here is described by its type; what is put together from ready bytes is
//! described by hand.

use serde_json::json;
use utoipa::PartialSchema;
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};

use super::order_schema::{EXAMPLE, Named, ORDER, order_schemas, uid};
use crate::http::problem::{PlacedFault, ProblemBody};
use crate::http::publishing::Accepted;

pub(super) const PROBLEM: &str = "Problem";
pub(super) const ACCEPTED: &str = "Accepted";
pub(super) const PAGE: &str = "OrderPage";
pub(super) const LOOKUP: &str = "Lookup";
pub(super) const FOUND: &str = "FoundOrders";

/// All of them, with those of the order. They name each other by `root` and a name.
pub(super) fn schemas(root: &str) -> Vec<Named> {
    let mut schemas = order_schemas(root);
    let named: [(&str, RefOr<Schema>); 6] = [
        (PROBLEM, ProblemBody::schema()),
        ("PlacedFault", PlacedFault::schema()),
        (ACCEPTED, Accepted::schema()),
        (PAGE, page(root)),
        (LOOKUP, lookup()),
        (FOUND, found(root)),
    ];
    schemas.extend(named.map(|(name, schema)| (name.to_owned(), schema)));
    schemas
}

fn orders(root: &str) -> ArrayBuilder {
    ArrayBuilder::new().items(Ref::new(format!("{root}{ORDER}")))
}

fn page(root: &str) -> RefOr<Schema> {
    let example: serde_json::Value = serde_json::from_str(EXAMPLE).expect("the example is JSON");
    let cursor = ObjectBuilder::new().schema_type(Type::String).description(Some(
        "Where the next page begins; absent on the last. Opaque: it fits the filters that it was made for.",
    ));
    ObjectBuilder::new()
        .property("orders", orders(root).max_items(Some(200)))
        .required("orders")
        .property("next_cursor", cursor)
        .examples([json!({ "orders": [example] })])
        .into()
}

fn lookup() -> RefOr<Schema> {
    let uids = ArrayBuilder::new()
        .items(uid())
        .min_items(Some(1))
        .max_items(Some(500));
    ObjectBuilder::new()
        .property("order_uids", uids)
        .required("order_uids")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .examples([json!({ "order_uids": ["7f3a9c1e5b2d", "0000"] })])
        .into()
}

fn found(root: &str) -> RefOr<Schema> {
    let names = |description: &str| ArrayBuilder::new().items(uid()).description(Some(description));
    let remaining = "Left out, because the answer would be too large or because they cannot be read now: ask for them again. Absent where \
        there are none.";
    ObjectBuilder::new()
        .property(
            "orders",
            orders(root)
                .max_items(Some(500))
                .description(Some("Those found, in the order asked.")),
        )
        .required("orders")
        .property("missing", names("Those that do not exist."))
        .required("missing")
        .property("remaining", names(remaining))
        .into()
}
