//! The wire format, held against every sentence of its description.

use crate::testing::orders::CANONICAL_ORDER;
use crate::{Order, parse};

mod json_tree;
mod properties;
mod refusals;
mod rows;

/// The canonical sample with one piece of its text replaced.
fn altered(from: &str, to: &str) -> String {
    let canonical = str::from_utf8(CANONICAL_ORDER).unwrap();
    assert_eq!(
        canonical.matches(from).count(),
        1,
        "{from} stands once in the sample"
    );
    canonical.replacen(from, to, 1)
}

/// The order that a message is.
fn accepted(message: &str) -> Order {
    parse(message.as_bytes())
        .unwrap_or_else(|faults| panic!("{faults}\nin {message}"))
        .order
}
