//! The contract of every port, as tests that any implementation can run on itself.
//!
//! Every MUST of a port is one function here, and one macro a port turns them all into tests.

pub mod bus;
pub mod cache;
pub mod storage;
