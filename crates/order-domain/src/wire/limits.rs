//! The limits of the wire format.

/// The most bytes a text may have.
pub const TEXT_BYTES: usize = 2_048;
/// The most bytes a text may have by which orders are searched: track_number, customer_id, transaction.
pub const SEARCHABLE_TEXT_BYTES: usize = 256;
/// The most items an order may have.
pub const ITEMS: usize = 1_000;
/// The most bytes an order's canonical JSON may have: with headers it then always fits the broker's default of 1 MiB.
pub const JSON_BYTES: usize = 512 * 1024;
