//! `cargo xtask migrate`: the database's schema, by hand.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use xtask::folders;
use xtask::servers::development::Development;

use crate::cargo;

/// Brings the schema of the development database up to date, or says where it stands.
///
/// The service does the same when it starts. This is for looking, and for databases whose service may not migrate.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask services up\n  cargo xtask migrate status\n  cargo xtask migrate run"
)]
pub(crate) struct Migrate {
    /// What to do.
    action: Action,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Applies the migrations that are missing.
    Run,
    /// Lists the migrations and which of them are applied.
    Status,
}

impl Migrate {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let postgres = Development::open()?
            .postgres()?
            .context("PostgreSQL does not run: `cargo xtask services up` starts it")?;
        let service = cargo::build_service(false, None)?;
        let action = match self.action {
            Action::Run => "run",
            Action::Status => "status",
        };
        let status = std::process::Command::new(service)
            .args(["migrate", action])
            .envs(postgres.setting())
            .current_dir(folders::project())
            .status()
            .context("cannot run order-tracker")?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
