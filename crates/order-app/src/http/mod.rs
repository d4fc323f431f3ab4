//! The two listeners: orders for everyone, health and metrics for operators.

mod access;
mod body;
mod contract;
mod cursor;
mod documents;
mod lists;
mod lookup;
mod management;
mod many_orders;
mod orders;
#[expect(dead_code, reason = "the routes that have these problems come next")]
mod problem;
mod problem_pages;
mod publishing;
mod query;
mod request_id;

pub(crate) use access::{Access, check_access, needed_by_operators, needed_by_the_public};
pub(crate) use body::BodyLimits;
pub use contract::{Contract, Document};
pub(crate) use documents::{Documents, configure_documents};
pub(crate) use lists::configure_order_lists;
pub(crate) use lookup::configure_lookup;
pub(crate) use management::{ManagementState, configure_management};
pub(crate) use orders::configure_orders;
pub(crate) use problem::not_found;
pub(crate) use problem_pages::configure_problem_pages;
pub(crate) use publishing::configure_publishing;
pub(crate) use request_id::with_request_id;
