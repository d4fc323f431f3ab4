//! `cargo xtask replay`: what the stream still holds, taken in once more.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use order_domain::{
    Batch, BusError, CacheSize, Coherence, FoundOrders, Health, IngestSettings, Ingestor, OrderBus,
    OrderCache, OrderDocument, OrderPage, OrderQuery, OrderRepository, OrderStream, OrderUid,
    RepositoryError, Revision, StoreOutcome, StoreReport,
};
use order_nats::{NatsOrderBus, NatsReplay, ReplayFrom, ReplayProgress};
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::seed::broker;

/// How often the broker is asked how far the replay is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Takes in once more what the stream still holds, beside the running service.
///
/// Every message goes through the same ingestion under the revision it had: what is stored stays, what is missing comes back. It
/// is how a database that was restored from a backup catches up. The service's own consumer is not touched. Broker and database
/// are those of ORDERS__NATS__URL and ORDERS__POSTGRES__URL, else of `cargo xtask up` or `services up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask replay --since 2026-11-20T08:00:00Z
  cargo xtask replay --since 36h
  cargo xtask replay --from-sequence 1")]
#[group(required = true, multiple = false)]
pub(crate) struct Replay {
    /// Begins at the first message that was published at this time or later: RFC 3339, or how long ago, as in `90m` or `36h`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Begins at the first message of this sequence or a later one.
    #[arg(long, value_name = "N")]
    from_sequence: Option<u64>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago = text
        .parse::<SignedDuration>()
        .ok()
        .filter(|ago| !ago.is_negative());
    ago.and_then(|ago| Timestamp::now().checked_sub(ago).ok())
        .ok_or_else(|| "neither a time as 2026-11-20T08:00:00Z nor how long ago, as 90m or 36h".to_owned())
}

impl Replay {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let from = match (self.since, self.from_sequence) {
            (Some(time), _) => ReplayFrom::Time(time),
            (None, Some(sequence)) => ReplayFrom::Sequence(sequence),
            (None, None) => bail!("give --since or --from-sequence"),
        };
        tokio::runtime::Runtime::new()?.block_on(replay(from))
    }
}

async fn replay(from: ReplayFrom) -> Result<ExitCode> {
    let store = database::connect()?;
    let settings = broker::settings()?;
    eprintln!("Replaying the stream {} of {} …", settings.stream, settings.url);
    let replay = NatsReplay::of(&NatsOrderBus::connect(settings).await?, from).await?;

    let bus: Arc<dyn OrderBus> = Arc::new(replay.clone());
    let repository = Arc::new(Counting::over(store.orders()));
    let health = Arc::new(Health::new(Arc::clone(&bus)));
    let ingestor = Ingestor::new(
        bus,
        Arc::clone(&repository) as Arc<dyn OrderRepository>,
        Arc::new(Coherence::new(Arc::new(NoCache), Duration::ZERO)),
        Arc::clone(&health),
        IngestSettings::default(),
    );
    let stop = CancellationToken::new();
    let ingesting = tokio::spawn(ingestor.run(stop.clone()));
    let ended = tokio::select! {
        through = until_through(&replay, &health) => through.map(Some),
        _ = tokio::signal::ctrl_c() => Ok(None),
    };
    stop.cancel();
    ingesting.await?;
    if let Err(error) = replay.end().await {
        eprintln!("The replay's consumer is left on the broker, which forgets it by itself: {error}");
    }
    println!("{}", repository.summary());
    match ended? {
        Some(_) => Ok(ExitCode::SUCCESS),
        None => {
            eprintln!("Ended before everything was through. What is stored stays; begin again at any time.");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Shows how far the replay is, until everything is through that was there at the start.
async fn until_through(replay: &NatsReplay, health: &Health) -> Result<ReplayProgress> {
    let style = ProgressStyle::with_template("[{bar:32}] sequence {human_pos} of {human_len}  {msg}")
        .expect("the template is a constant")
        .progress_chars("=> ");
    let bar = ProgressBar::new(0).with_style(style);
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut told = String::new();
    loop {
        look.tick().await;
        match replay.progress().await {
            Ok(progress) => {
                bar.set_length(progress.last);
                bar.set_position(progress.through.min(progress.last));
                if progress.done {
                    bar.finish_and_clear();
                    return Ok(progress);
                }
            }
            // Not begun yet, or the broker is away: the ingestor goes on when it is back.
            Err(BusError::Unavailable(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let troubles = health.report().troubles.join("; ");
        if told != troubles && !troubles.is_empty() {
            bar.suspend(|| eprintln!("Waiting: {troubles}"));
        }
        told = troubles;
    }
}

/// The repository, and what became of the orders that were stored in it.
struct Counting {
    inner: Arc<dyn OrderRepository>,
    stored: AtomicU64,
    there_already: AtomicU64,
    dead_letters: AtomicU64,
}

impl Counting {
    fn over(inner: Arc<dyn OrderRepository>) -> Self {
        Counting {
            inner,
            stored: AtomicU64::new(0),
            there_already: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
        }
    }

    fn summary(&self) -> String {
        let count = |counter: &AtomicU64| HumanCount(counter.load(Relaxed));
        format!(
            "{} orders stored, {} were there already or newer, {} messages are dead letters",
            count(&self.stored),
            count(&self.there_already),
            count(&self.dead_letters)
        )
    }
}

#[async_trait]
impl OrderRepository for Counting {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let report = self.inner.store(batch).await?;
        for outcome in &report.outcomes {
            let counter = match outcome {
                StoreOutcome::Stored => &self.stored,
                StoreOutcome::Superseded { .. } => &self.there_already,
            };
            counter.fetch_add(1, Relaxed);
        }
        self.dead_letters
            .fetch_add(batch.dead_letters().len() as u64, Relaxed);
        Ok(report)
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        self.inner.find(uid).await
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        self.inner.find_many(uids, max_bytes).await
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        self.inner.page(query).await
    }

    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_> {
        self.inner.newest(limit, max_bytes)
    }
}

/// Nobody reads here: the replicas learn of the changes from the commit log.
struct NoCache;

impl OrderCache for NoCache {
    fn get(&self, _uid: &str) -> Option<OrderDocument> {
        None
    }

    fn put_if(&self, _document: OrderDocument, _allowed: &dyn Fn() -> bool) -> bool {
        false
    }

    fn drop_older(&self, _uid: &OrderUid, _revision: Revision) {}

    fn clear(&self) {}

    fn size(&self) -> CacheSize {
        CacheSize::default()
    }

    fn max_bytes(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_given_as_one_or_as_how_long_ago() {
        assert_eq!(
            time("2026-11-20T08:00:00Z"),
            Ok("2026-11-20T08:00:00Z".parse().unwrap())
        );
        let ago = Timestamp::now().duration_since(time("36h").unwrap());
        assert!((ago - SignedDuration::from_hours(36)).abs() < SignedDuration::from_mins(1));
        for wrong in ["", "yesterday", "-1h", "36"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
