#![doc = include_str!("../README.md")]

mod application;
mod config;
mod http;
pub mod telemetry;
mod tokens;

pub use application::Application;
pub use config::{
    CacheSettings, ConfigFault, HttpSettings, LogFormat, LogSettings, ManagementSettings, Origins, Settings,
    ShutdownSettings, Sources, StartupSettings,
};
pub use http::{Contract, Document};
pub use tokens::{NewToken, Scope, Scopes};
