//! order-moka
