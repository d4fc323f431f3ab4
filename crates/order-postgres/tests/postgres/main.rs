//! What only a real database can show. `cargo xtask test` provides one.

mod contract;
mod database;
mod faults;
mod following;
mod lists;
mod migrations;
mod proxy;
mod reads;
mod round_trip;
mod storing;
