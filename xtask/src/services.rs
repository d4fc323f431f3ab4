//! `cargo xtask services`: the servers alone, in the background.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use xtask::folders;
use xtask::progress::Progress;
use xtask::servers::development::{Claim, Development, Lifetime, Server};

/// Runs PostgreSQL and nats-server in the background, to run the service itself from an editor or a debugger.
///
/// Their data are the same that `cargo xtask up` uses.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  cargo xtask services up\n  cargo xtask services status\n  cargo xtask services down"
)]
pub(crate) struct Services {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Starts both, where they do not run yet. They stay until `down`.
    Up,
    /// Stops both. Their data stay.
    Down,
    /// Says what runs, where it listens, and where its data and logs are.
    Status,
}

impl Services {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.action {
            Action::Up => up()?,
            Action::Down => down()?,
            Action::Status => status(&Development::open()?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn up() -> Result<()> {
    let mut development = Development::open()?;
    development.start(Lifetime::UntilStopped, &Progress::new(7))?;
    status(&development)
}

fn down() -> Result<()> {
    let Some(_claim) = Claim::take()? else {
        bail!("`cargo xtask up` runs on these servers: stop it with Ctrl-C first");
    };
    let mut development = Development::open()?;
    development.stop_service_left_behind()?;
    let stopped = development.stop(false)?;
    println!(
        "{}",
        if stopped == 0 {
            "Nothing ran."
        } else {
            "Stopped. The data stay."
        }
    );
    Ok(())
}

fn status(development: &Development) -> Result<()> {
    let postgres = development.postgres()?;
    print_server("PostgreSQL", postgres.as_ref());
    if let Some(data) = development.postgres_data() {
        println!("  data  {}", folders::shown(&data));
    }
    print_server("nats-server", development.nats().as_ref());
    if matches!(postgres, Some(Server::Own { .. })) {
        println!("\nLook inside with: psql \"$(cat .order-tracker/postgres-url)\"");
    }
    Ok(())
}

fn print_server(name: &str, server: Option<&Server>) {
    match server {
        Some(Server::External { variable }) => println!("{name:<12} the one in {variable}, which answers"),
        Some(Server::Own { running, .. }) => {
            println!(
                "{name:<12} {}   version {}, {}",
                running.address(),
                running.version,
                running.process
            );
            println!("  log   {}", folders::shown(&running.log));
        }
        None => println!("{name:<12} does not run"),
    }
}
