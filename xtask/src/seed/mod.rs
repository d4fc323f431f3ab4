//! `cargo xtask seed`: publishes orders, and says what became of them.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use futures::FutureExt;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use order_nats::NatsOrderBus;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use xtask::orders::{Message, Mix, OrderGenerator, Spelling};

use crate::arguments;

pub(crate) mod broker;
mod file;
pub(crate) mod publisher;
pub(crate) mod record;
mod tally;

use publisher::{Fate, Plan, Standing, Times, Wish};
use record::Recorder;
use tally::Tally;
pub(crate) use tally::http_address;

/// Publishes orders for the service to take in: made ones, or those of a file.
///
/// They go where ORDERS__NATS__URL says, else to the nats-server of `cargo xtask up` or `services up`. While it is away the
/// same messages are tried again until it is back. Ctrl-C ends the run early, with its summary.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask seed --count 10000
  cargo xtask seed --count 60000 --rate 1000 --update 20 --bad 1
  cargo xtask seed --file order.json
  cargo xtask seed --count 10000 --record published.jsonl
  cargo xtask verify published.jsonl")]
pub(crate) struct Seed {
    /// How many messages to publish.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// Messages a second, evenly. As many as the broker takes, if not given.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// The same seed, with the same other options, gives the same orders. A random one, if not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many of a hundred messages are bad: JSON that breaks off, a wrong type, a missing field, NUL, too large.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = arguments::percent)]
    bad: f64,
    /// How many of a hundred messages are new versions of orders published earlier in this run.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = arguments::percent)]
    update: f64,
    /// How the fields are spelled: as the service writes them, or in camelCase as the Go service does.
    #[arg(long, value_enum, default_value_t)]
    spelling: SpellingArg,
    /// Publishes the messages of this file as they are: one JSON document, an array, or one document a line (.jsonl or .ndjson,
    /// or seen from the content). `-` for standard input.
    #[arg(long, conflicts_with_all = ["count", "seed", "bad", "update", "spelling"])]
    file: Option<PathBuf>,
    /// Writes down what was published, for `cargo xtask verify`.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum SpellingArg {
    #[default]
    Canonical,
    Camel,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_finite() && number > 0.0 {
        Ok(number)
    } else {
        Err("not more than 0".to_owned())
    }
}

impl Seed {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.bad + self.update > 100.0 {
            bail!("--bad and --update are shares of all messages: together at most 100");
        }
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(self.publish())
    }

    async fn publish(self) -> Result<ExitCode> {
        let source = self.source()?;
        let recorder = self.record.as_deref().map(Recorder::create).transpose()?;
        let settings = broker::settings()?;
        let count = HumanCount(source.count);
        eprintln!("Publishing to {} (messages: {count}) …", settings.url);
        let bus = NatsOrderBus::connect(settings).await?;
        let plan = Plan {
            run: format!("seed-{:016x}", rand::random::<u64>()),
            rate: self.rate,
        };
        let mut tally = Tally::default();
        let seed = source.seed;
        let times = source.publish(&bus, &plan, &mut tally, recorder).await?;
        tally.print(times, seed);
        Ok(if tally.is_complete() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn source(&self) -> Result<Source> {
        if let Some(path) = &self.file {
            let messages = file::read(path)?;
            let count = messages.len() as u64;
            return Ok(Source {
                messages: Box::new(messages.into_iter()),
                count,
                seed: None,
            });
        }
        // Short enough to be typed again.
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let spelling = match self.spelling {
            SpellingArg::Canonical => Spelling::Canonical,
            SpellingArg::Camel => Spelling::Camel,
        };
        let mix = Mix {
            bad_percent: self.bad,
            update_percent: self.update,
            spelling,
        };
        let messages = OrderGenerator::new(seed, mix).take(usize::try_from(self.count)?);
        Ok(Source {
            messages: Box::new(messages),
            count: self.count,
            seed: Some(seed),
        })
    }
}

/// The messages of a run.
struct Source {
    messages: Box<dyn Iterator<Item = Message> + Send>,
    count: u64,
    /// What they were made from; `None` for those of a file.
    seed: Option<u64>,
}

impl Source {
    async fn publish(
        self,
        bus: &NatsOrderBus,
        plan: &Plan,
        tally: &mut Tally,
        mut recorder: Option<Recorder>,
    ) -> Result<Times> {
        let standing = Standing::default();
        let settle = |id: &str, message: Message, fate: Fate| {
            tally.add(&message, &fate);
            match (&mut recorder, fate) {
                (Some(recorder), Fate::Acknowledged(ack)) => recorder.add(id, Some(ack.sequence), &message),
                (Some(recorder), Fate::Unknown) => recorder.add(id, None, &message),
                (Some(_), Fate::Refused(_)) | (None, _) => Ok(()),
            }
        };
        let (made, messages) = mpsc::channel(256);
        // Making orders takes as much time as publishing them: it gets a thread of its own.
        tokio::task::spawn_blocking(move || {
            for message in self.messages {
                if made.blocking_send(message).is_err() {
                    break;
                }
            }
        });
        let wished = wish_to_end();
        // Messages sent before there is a stream for them are lost and have to be sent again. A broker that is out of reach
        // is left to the publisher, which says so.
        let mut prepared = pin!(broker::prepare(bus).fuse());
        if let Ok(prepared) = timeout(Duration::from_secs(2), &mut prepared).await {
            prepared?;
        }
        let times = tokio::select! {
            times = publisher::publish(bus, messages, plan, wished, &standing, settle) => times,
            Err(error) = &mut prepared => Err(error),
            never = show(&standing, self.count) => match never {},
        };
        // The record of a run that failed still tells what was published until then.
        recorder.map_or(Ok(()), Recorder::finish).and(times)
    }
}

/// Ctrl-C ends the run in order; a second one at once.
fn wish_to_end() -> watch::Receiver<Wish> {
    let (wish, wished) = watch::channel(Wish::GoOn);
    tokio::spawn(async move {
        for step in [Wish::End, Wish::EndNow] {
            if tokio::signal::ctrl_c().await.is_ok() {
                wish.send_replace(step);
            }
        }
    });
    wished
}

/// Shows how far the run is: a bar on a terminal; elsewhere only when it stalls and when it goes on.
async fn show(standing: &Standing, count: u64) -> std::convert::Infallible {
    let style = "[{bar:32}] {human_pos}/{human_len}  {per_sec}  {eta} left  {msg}";
    let style = ProgressStyle::with_template(style)
        .expect("the template is a constant")
        .progress_chars("=> ");
    let bar = Finishing(ProgressBar::new(count).with_style(style));
    let mut look = tokio::time::interval(Duration::from_millis(100));
    let mut stalled = false;
    loop {
        look.tick().await;
        bar.0.set_position(standing.acknowledged.load(Ordering::Relaxed));
        let trouble = standing.trouble();
        match &trouble {
            Some(trouble) if !stalled => {
                bar.0
                    .suspend(|| eprintln!("Publishing stalls: {trouble}. Trying again; Ctrl-C ends."));
            }
            None if stalled => bar.0.suspend(|| eprintln!("Publishing goes on.")),
            _ => {}
        }
        stalled = trouble.is_some();
    }
}

/// A bar that leaves the screen when the run is over.
struct Finishing(ProgressBar);

impl Drop for Finishing {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
