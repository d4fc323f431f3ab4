//! The adapter on real servers. `cargo xtask test` starts them and says where they are.

mod contract;
mod delivery;
mod failures;
mod publishing;
mod replaying;
mod server;
mod setting_up;
mod support;
