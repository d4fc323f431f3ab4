//! Whole-system tests: the service as it is composed, on a real PostgreSQL and a real nats-server.
//!
//! Each test is a [`Shop`] of its own: a schema, a stream, a subject and a consumer that no other test shares, so that all of them run
//! in parallel. A shop has replicas, which are [`Application`](order_app::Application)s on ports of their own.

mod process;
mod proxy;
mod replica;
mod servers;
mod shop;
mod tasks;

pub use process::{Process, order_tracker};
pub use proxy::Proxy;
pub use replica::{Answer, Client, Replica};
pub use servers::Servers;
pub use shop::{Shop, eventually};
pub use tasks::{said, xtask};
