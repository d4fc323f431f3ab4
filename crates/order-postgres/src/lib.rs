#![doc = include_str!("../README.md")]

mod bulk;
mod columns;
mod commit_log;
mod connector;
mod copy;
mod dead_letters;
#[cfg(feature = "benches")]
#[doc(hidden)]
pub mod encoding;
mod failure;
mod instruments;
mod listener;
mod lists;
mod migrations;
mod numeric;
mod pool;
mod postgres;
mod reads;
mod repository;
mod rows;
mod settings;
mod store;
mod timestamptz;
mod tls;
mod url;

pub use commit_log::PostgresCommitLog;
pub use connector::SetupError;
pub use dead_letters::PostgresDeadLetters;
pub use instruments::describe_metrics;
pub use migrations::{Migration, MigrationError, MigrationState, migrate, migration_status};
pub use postgres::PostgresStore;
pub use repository::PostgresOrderRepository;
pub use settings::{PostgresSettings, SchemaName, SchemaNameError};
pub use url::{Password, PostgresUrl, PostgresUrlError};
