//! The two listeners: orders for everyone, health and metrics for operators.

mod management;
mod orders;
mod problem;
mod request_id;

pub(crate) use management::{ManagementState, configure_management};
pub(crate) use orders::configure_orders;
pub(crate) use problem::not_found;
pub(crate) use request_id::with_request_id;
