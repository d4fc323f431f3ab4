//! Everything around the service, as `cargo xtask …`: one subcommand a file.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tasks talk to the person who runs them"
)]

mod arguments;
mod bench;
mod cargo;
mod chaos;
mod check;
mod contract;
mod database;
mod dead_letters;
mod migrate;
mod model;
mod replay;
mod seed;
mod services;
mod stress;
mod test;
mod up;
mod verify;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Everything around Order Tracker: a real PostgreSQL and NATS, the service on them, tests and checks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Up(up::Up),
    Services(services::Services),
    Migrate(migrate::Migrate),
    Seed(seed::Seed),
    Verify(verify::Verify),
    DeadLetters(dead_letters::DeadLetters),
    Replay(replay::Replay),
    Test(test::Test),
    Check(check::Check),
    Chaos(chaos::Chaos),
    Model(model::Model),
    Contract(contract::Contract),
    Stress(Box<stress::Stress>),
    Bench(bench::Bench),
    /// Stops what another task started, once that has ended. Tasks start it themselves.
    #[command(name = xtask::watchdog::SUBCOMMAND, hide = true)]
    Watchdog,
}

fn main() -> ExitCode {
    let done: Result<ExitCode> = match Xtask::parse().task {
        Task::Up(task) => task.run(),
        Task::Services(task) => task.run(),
        Task::Migrate(task) => task.run(),
        Task::Seed(task) => task.run(),
        Task::Verify(task) => task.run(),
        Task::DeadLetters(task) => task.run(),
        Task::Replay(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Check(task) => task.run(),
        Task::Chaos(task) => task.run(),
        Task::Model(task) => task.run(),
        Task::Contract(task) => task.run(),
        Task::Stress(task) => task.run(),
        Task::Bench(task) => task.run(),
        Task::Watchdog => xtask::watchdog::keep_watch().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}
