//! The schemas of bodies, with those of an order.

use utoipa::PartialSchema;

use super::order_schema::{Named, order_schemas};
use crate::http::problem::{PlacedFault, ProblemBody};

pub(super) const PROBLEM: &str = "Problem";

/// All of them, with those of the order. They name each other by `root` and a name.
pub(super) fn schemas(root: &str) -> Vec<Named> {
    let mut schemas = order_schemas(root);
    let named = [
        (PROBLEM, ProblemBody::schema()),
        ("PlacedFault", PlacedFault::schema()),
    ];
    schemas.extend(named.map(|(name, schema)| (name.to_owned(), schema)));
    schemas
}
