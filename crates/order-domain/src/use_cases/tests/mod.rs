//! The use cases on in-memory ports.

mod coherence;
mod dead_letter_desk;
mod ingestor;
mod log_follower;
mod order_lists;
mod order_publisher;
mod order_service;
mod scripted;
mod waiting;
