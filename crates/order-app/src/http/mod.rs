//! The two listeners: orders for everyone, health and metrics for operators.

mod access;
mod body;
mod compression;
mod connection;
mod contract;
mod cors;
mod cursor;
mod documents;
mod listener;
mod lists;
mod lookup;
mod management;
mod many_orders;
mod orders;
mod problem;
mod problem_pages;
mod publishing;
mod query;
mod request_id;
mod routes;
mod timing;
mod tls;

pub(crate) use access::{Access, check_access, needed_by_operators, needed_by_the_public};
pub(crate) use body::BodyLimits;
pub(crate) use compression::with_compression;
pub use contract::{Contract, Document};
pub(crate) use cors::with_cors;
pub(crate) use documents::Documents;
pub(crate) use listener::{Listener, ListenerOptions, listen};
pub(crate) use management::{ManagementState, configure_management};
pub(crate) use orders::{order_data, with_orders};
pub(crate) use problem::not_found;
pub(crate) use request_id::{RequestPatience, with_current_request_id, with_request_id};
pub(crate) use routes::configure_public;
pub(crate) use tls::ServerCertificate;
