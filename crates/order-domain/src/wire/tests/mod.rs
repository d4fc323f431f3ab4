//! The wire format, held against every sentence of its description.

mod properties;
mod rows;
