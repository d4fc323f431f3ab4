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
mod tls;

pub(crate) use access::{Access, check_access, needed_by_operators, needed_by_the_public};
pub(crate) use body::BodyLimits;
pub(crate) use compression::with_compression;
pub use contract::{Contract, Document};
pub(crate) use cors::with_cors;
pub(crate) use documents::{Documents, configure_documents};
pub(crate) use listener::{Listener, ListenerOptions, listen};
pub(crate) use lists::configure_order_lists;
pub(crate) use lookup::configure_lookup;
pub(crate) use management::{ManagementState, configure_management};
pub(crate) use orders::configure_orders;
pub(crate) use problem::not_found;
pub(crate) use problem_pages::configure_problem_pages;
pub(crate) use publishing::configure_publishing;
pub(crate) use request_id::{with_current_request_id, with_request_id};
pub(crate) use tls::ServerCertificate;
