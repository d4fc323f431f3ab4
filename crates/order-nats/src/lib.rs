#![doc = include_str!("../README.md")]

mod address;
mod bus;
mod connection;
mod instruments;
mod names;
mod publisher;
mod replay;
mod settings;
mod subscription;
mod topology;
mod unreadable;

pub use address::{NatsUrl, NatsUrlError, Secret};
pub use bus::NatsOrderBus;
pub use instruments::describe_metrics;
pub use names::{NatsName, NatsNameError, NatsSubject, NatsSubjectError};
pub use replay::{NatsReplay, ReplayFrom, ReplayProgress};
pub use settings::{NatsSettings, NatsSettingsError};
