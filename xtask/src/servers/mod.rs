//! A real PostgreSQL and a real nats-server: found or fetched, started, stopped and killed.
//!
//! [`Binaries`] are found once. [`Postgres`] and [`Nats`] each are one server with its data, which can be stopped, killed
//! and started again on the same port, as the tests of faults do. [`development`] keeps a pair of them with its data in the
//! state folder; [`ThrowAway`] makes a pair for one run of the tests and removes it.

mod binaries;
pub mod development;
mod nats;
mod postgres;
mod probe;
mod running;
mod state;
mod throw_away;

pub use binaries::{Binaries, NatsBinary, PostgresBinaries};
pub use nats::Nats;
pub use postgres::{Durability, Postgres, Role};
pub use probe::{http_status, url_answers};
pub use running::Running;
pub use throw_away::ThrowAway;
