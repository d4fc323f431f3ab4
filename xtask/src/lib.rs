#![doc = include_str!("../README.md")]
#![expect(clippy::print_stderr, reason = "tasks talk to the person who runs them")]

pub mod account;
pub mod cpu;
pub mod environment;
pub mod folders;
pub mod load;
pub mod orders;
pub mod ports;
pub mod process;
pub mod progress;
pub mod schemathesis;
pub mod servers;
pub mod watchdog;
pub mod wheels;
