//! For tests of this crate, of adapters and of services built on them: the contract of every port as a suite of tests,
//! in-memory implementations that pass it, and generators of orders.

pub mod contract;
pub mod memory;
pub mod model;
pub mod orders;
