//! Long runs, left out unless they are asked for: `cargo xtask test --test endurance -- --ignored --nocapture --test-threads 1`.
//!
//! With `ORDERS_TEST_SERVICE` they run that binary, one built for release say, instead of the one that was built with them.

#![expect(
    clippy::print_stderr,
    reason = "whoever asked for a long run wants its figures"
)]

mod frozen;
mod fuzz;
mod memory;
