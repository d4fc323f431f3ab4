//! `cargo xtask verify`: reads recorded orders back and compares every byte.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures::future::join_all;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use xtask::load::Endpoint;

pub(crate) mod client;
mod expected;

use client::Connection;
use expected::{Expectations, Verdict};

use crate::seed::http_address;

/// Of many orders that are wrong in the same way, so many are named.
const NAMED: usize = 5;

/// Reads every order of a record over HTTP and compares it, byte for byte, with the newest version published.
///
/// Ends with an error if one is missing or different. What was published after the record was written counts as a
/// difference: do not publish the same orders meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  cargo xtask seed --count 10000 --update 20 --record published.jsonl
  cargo xtask verify published.jsonl")]
pub(crate) struct Verify {
    /// What `cargo xtask seed --record` wrote.
    record: PathBuf,
    /// Where the service is. Where `cargo xtask up` runs it, if not given.
    #[arg(long)]
    url: Option<String>,
    /// How many orders to ask for at once, each on a connection that is kept alive.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// For how many seconds to ask again for what is not yet as it should be.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    within: u64,
}

/// Where one order stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    NotAsked,
    Compared(Verdict),
    /// The service did not answer, or neither with an order nor that there is none.
    NoAnswer(String),
}

impl Standing {
    fn is_settled(&self) -> bool {
        matches!(self, Standing::Compared(Verdict::Equal | Verdict::NeverStored))
    }
}

impl Verify {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let expected = Expectations::read(&self.record)?;
        ensure!(
            expected.count() > 0,
            "there is no order in {}",
            self.record.display()
        );
        let url = self
            .url
            .clone()
            .unwrap_or_else(|| format!("http://{}", http_address()));
        let service = Endpoint::new(&url)?;
        let begin = Instant::now();
        let mut standings = vec![Standing::NotAsked; expected.count()];
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(self.settle(&service, &expected, &mut standings))?;
        Ok(report(&expected, &standings, begin.elapsed()))
    }

    /// Asks for every order, and again for those that are not right yet, until all are or time is up.
    async fn settle(
        &self,
        service: &Endpoint,
        expected: &Expectations,
        standings: &mut [Standing],
    ) -> Result<()> {
        let style = ProgressStyle::with_template("[{bar:32}] {human_pos}/{human_len}  {per_sec}  {eta} left")
            .expect("the template is a constant")
            .progress_chars("=> ");
        let bar = ProgressBar::new(expected.count() as u64).with_style(style);
        let deadline = Instant::now() + Duration::from_secs(self.within);
        loop {
            let open: Vec<usize> = (0..standings.len())
                .filter(|number| !standings[*number].is_settled())
                .collect();
            bar.set_position((standings.len() - open.len()) as u64);
            for (number, standing) in self.ask(service, expected, &open, &bar).await? {
                standings[number] = standing;
            }
            if standings.iter().all(Standing::is_settled) || Instant::now() >= deadline {
                bar.finish_and_clear();
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Asks for these orders, over several connections.
    async fn ask(
        &self,
        service: &Endpoint,
        expected: &Expectations,
        numbers: &[usize],
        bar: &ProgressBar,
    ) -> Result<Vec<(usize, Standing)>> {
        let next = AtomicUsize::new(0);
        let connections = (0..self.connections.clamp(1, numbers.len().max(1))).map(|_| async {
            let mut connection = Connection::new(service);
            let mut standings = Vec::new();
            while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let standing = match connection.order(expected.uid(number)).await {
                    Ok(served) => Standing::Compared(expected.compare(number, served.as_deref())?),
                    Err(error) => Standing::NoAnswer(format!("{error:#}")),
                };
                if standing.is_settled() {
                    bar.inc(1);
                }
                standings.push((number, standing));
            }
            Ok(standings)
        });
        join_all(connections)
            .await
            .into_iter()
            .collect::<Result<Vec<_>>>()
            .map(|all| all.concat())
    }
}

/// Prints where the orders stand; a failure if one is not as it should be.
fn report(expected: &Expectations, standings: &[Standing], elapsed: Duration) -> ExitCode {
    let count = |of: fn(&Standing) -> bool| HumanCount(standings.iter().filter(|it| of(it)).count() as u64);
    let read = count(|it| matches!(it, Standing::Compared(Verdict::Equal | Verdict::Different(_))));
    println!(
        "read       {read} of {} in {:.2} s",
        HumanCount(standings.len() as u64),
        elapsed.as_secs_f64()
    );
    println!(
        "equal      {}",
        count(|it| *it == Standing::Compared(Verdict::Equal))
    );
    println!(
        "missing    {}",
        count(|it| *it == Standing::Compared(Verdict::Missing))
    );
    println!(
        "different  {}",
        count(|it| matches!(it, Standing::Compared(Verdict::Different(_))))
    );
    if standings.contains(&Standing::Compared(Verdict::NeverStored)) {
        let never = count(|it| *it == Standing::Compared(Verdict::NeverStored));
        println!("unknown    {never} were never acknowledged, and are not there");
    }
    if standings.iter().any(|it| matches!(it, Standing::NoAnswer(_))) {
        println!("no answer  {}", count(|it| matches!(it, Standing::NoAnswer(_))));
    }
    let mut named = [0; 3];
    for (number, standing) in standings.iter().enumerate() {
        let (kind, what) = match standing {
            Standing::Compared(Verdict::Missing) => (0, "is missing".to_owned()),
            Standing::Compared(Verdict::Different(byte)) => (1, format!("is different from byte {byte} on")),
            Standing::NoAnswer(why) => (2, why.clone()),
            Standing::NotAsked | Standing::Compared(Verdict::Equal | Verdict::NeverStored) => continue,
        };
        named[kind] += 1;
        if named[kind] <= NAMED {
            println!("  {}: {what}", expected.uid(number));
        }
    }
    if named == [0; 3] {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
