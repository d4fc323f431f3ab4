//! order-nats
