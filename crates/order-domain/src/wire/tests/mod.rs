//! The wire format, held against every sentence of its description.

use super::{first_pass, second_pass};
use crate::testing::orders::CANONICAL_ORDER;
use crate::{Faults, Order, parse};

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

/// The order that a message is, in the eyes of both passes.
fn accepted(message: &str) -> Order {
    let parsed = parse(message.as_bytes()).unwrap_or_else(|faults| panic!("{faults}\nin {message}"));
    assert_eq!(
        first_pass(message.as_bytes()).as_ref(),
        Some(&parsed),
        "the first pass reads {message}"
    );
    assert_eq!(
        second_pass(message.as_bytes()).as_ref(),
        Ok(&parsed),
        "the second pass reads {message}"
    );
    parsed.order
}

/// All faults of a message, which the first pass refuses too.
fn faults_of(message: &[u8]) -> Faults {
    assert_eq!(first_pass(message), None);
    parse(message).expect_err("the message has faults")
}
