//! Orders as the bytes that are copied into the tables, for the bench that asks what making them costs.

use order_domain::RevisedOrder;

use crate::copy::TABLES;

/// The rows of the four tables, as they are sent. Answers their length in bytes.
///
/// # Panics
///
/// If a sequence is larger than a stream can hand out.
pub fn encode(orders: &[RevisedOrder]) -> usize {
    let orders: Vec<&RevisedOrder> = orders.iter().collect();
    let pieces = TABLES.iter().flat_map(|table| table.rows(&orders));
    pieces
        .map(|rows| rows.expect("the sequences are those of a stream").len())
        .sum()
}
