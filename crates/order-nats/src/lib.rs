#![doc = include_str!("../README.md")]

mod address;
mod bus;
mod connection;
mod names;
mod publisher;
mod settings;
mod subscription;
mod topology;

pub use address::{NatsUrl, NatsUrlError, Secret};
pub use bus::{Backlog, NatsOrderBus};
pub use names::{NatsName, NatsNameError, NatsSubject, NatsSubjectError};
pub use settings::{NatsSettings, NatsSettingsError};
