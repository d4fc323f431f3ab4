//! `cargo xtask model`: histories of the seeded model, of the code as it is or with one of its guards taken out.

mod guards;
mod mutant;

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use self::guards::{GUARDS, Guard};
use self::mutant::Mutants;
use crate::cargo;

/// How many histories are run where it is not said.
const HISTORIES: u64 = 10_000;
/// How many may pass before a guard that was taken out counts as not missed.
const HISTORIES_WITHOUT: u64 = 200_000;
/// Takes out every guard, one after another.
const ALL: &str = "all";

/// Runs histories of the seeded model of the whole service, until one breaks a promise.
///
/// One seed decides one history: every wait, loss and choice in it. With --without it shows that the model would notice: a guard is taken
/// out of a copy of the crates, and the first history that breaks a promise by it is named.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask model --seed 42
  cargo xtask model --histories 200000 --cache moka
  cargo xtask model --without stamp
  cargo xtask model --without all")]
pub(crate) struct Model {
    /// Runs the history of this seed alone, and tells what happened in it where it breaks a promise. With --histories: begins there.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many histories to run. By default 1 with --seed, 200,000 with --without, else 10,000.
    #[arg(long, value_name = "N")]
    histories: Option<u64>,
    /// Which cache the replicas have. A guard that is a cache's own is always tried on that.
    #[arg(long, value_enum, default_value_t)]
    cache: Cache,
    /// Takes out this guard, or all of them one after another, and says which seed found it missing.
    #[arg(long, value_name = "GUARD", value_parser = guard_names())]
    without: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Cache {
    /// The in-memory one of the domain's tests.
    #[default]
    Memory,
    /// The one of the service.
    Moka,
}

/// The histories to run, in the words of the example `model` of `order-moka`.
#[derive(Debug, Clone, Copy)]
struct Histories {
    cache: Cache,
    first: u64,
    count: u64,
}

impl Model {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let default = match (&self.without, self.seed) {
            (Some(_), _) => HISTORIES_WITHOUT,
            (None, Some(_)) => 1,
            (None, None) => HISTORIES,
        };
        let histories = Histories {
            cache: self.cache,
            first: self.seed.unwrap_or(0),
            count: self.histories.unwrap_or(default),
        };
        let Some(name) = &self.without else {
            let status = histories.command().status().context("cannot run cargo")?;
            return Ok(if status.success() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        };
        let chosen: Vec<&Guard> = GUARDS
            .iter()
            .filter(|guard| name == ALL || guard.name == name)
            .collect();
        run_without(&chosen, histories)
    }
}

/// Answers success where each guard was missed.
fn run_without(chosen: &[&Guard], histories: Histories) -> Result<ExitCode> {
    let mutants = Mutants::prepare()?;
    let width = chosen.iter().map(|guard| guard.name.len()).max().unwrap_or(0);
    println!(
        "{:<width$}  {:<6}  {:>7}  promise broken without it",
        "guard", "cache", "seed"
    );
    let mut missed = 0;
    for guard in chosen {
        let histories = Histories {
            cache: guard.only_over.unwrap_or(histories.cache),
            ..histories
        };
        let cache = histories.cache.name();
        match mutants.run(guard, histories)? {
            Some(found) => {
                missed += 1;
                println!(
                    "{:<width$}  {cache:<6}  {:>7}  {}",
                    guard.name, found.seed, found.what
                );
            }
            None => println!("{:<width$}  {cache:<6}  {:>7}  NOT MISSED", guard.name, "-"),
        }
    }
    println!("{missed} of {} guards were missed.", chosen.len());
    Ok(if missed == chosen.len() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Histories {
    /// A command that runs them, of the project as it is.
    fn command(self) -> Command {
        let mut command = cargo::command("run");
        command
            .args([
                "--all-features",
                "--quiet",
                "--example",
                "model",
                "--",
                self.cache.name(),
            ])
            .args([self.first.to_string(), self.count.to_string()])
            .stdin(Stdio::null());
        command
    }
}

impl Cache {
    fn name(self) -> &'static str {
        match self {
            Cache::Memory => "memory",
            Cache::Moka => "moka",
        }
    }
}

fn guard_names() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(ALL).chain(GUARDS.iter().map(|guard| guard.name)))
}
