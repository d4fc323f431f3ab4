//! order-postgres
