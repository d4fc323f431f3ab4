//! order-app
