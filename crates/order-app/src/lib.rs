#![doc = include_str!("../README.md")]

mod application;
mod backlog;
mod build_info;
mod config;
mod http;
mod instruments;
mod process;
mod readers;
mod scrape;
pub mod telemetry;
mod tokens;

pub use application::Application;
pub use config::{
    CacheSettings, ConfigFault, HttpSettings, LogFormat, LogSettings, ManagementSettings, Origins, Settings,
    ShutdownSettings, Sources, StartupSettings,
};
pub use http::{Contract, Document};
pub use tokens::{NewToken, Scope, Scopes};
