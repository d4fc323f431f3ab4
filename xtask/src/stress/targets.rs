//! Which orders are asked for, and that they are there before the load begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use xtask::load::{Amount, Class, Endpoint, Generator, Pace, Plan};
use xtask::orders::Dice;

use super::args::Uids;
use super::publishing::{Ledger, Publish};
use super::stock::Stock;
use super::world::World;
use crate::verify::client::Connection;

/// What the classes of reads are called, in the order in which they are made.
pub(super) const CLASSES: [&str; 3] = ["hit", "miss", "unknown"];
/// How long published orders may take until all of them can be read.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a cached order weighs besides its JSON, and a little more.
const BYTES_AN_ENTRY: u64 = 700;

/// The orders that reads are about.
#[derive(Debug)]
pub(super) struct Targets {
    /// Those that should be in the cache.
    hits: Vec<String>,
    /// Those that are stored and should not be.
    misses: Vec<String>,
    unknown: Vec<String>,
    misses_percent: f64,
    unknown_percent: f64,
    /// Whether they are orders of the stock, which can be published.
    of_the_stock: bool,
}

impl Targets {
    /// Chooses them: orders of the stock, or those of a file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, or there is no way to have misses.
    pub(super) fn choose(uids: &Uids, stock: &Stock, can_publish: bool) -> Result<Targets> {
        let misses_percent = match uids.misses {
            Some(percent) => percent,
            None if can_publish && uids.uids.is_none() => 4.0,
            None => 0.0,
        };
        ensure!(
            misses_percent + uids.unknown <= 100.0,
            "--misses and --unknown are shares of all requests: together at most 100"
        );
        ensure!(
            misses_percent == 0.0 || (can_publish && uids.uids.is_none()),
            "misses need orders that nobody has asked for: give --nats too, or --misses 0"
        );
        let hits: Vec<String> = match &uids.uids {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(str::to_owned).collect()
            }
            None => (0..uids.orders)
                .map(|number| stock.uid(number).to_string())
                .collect(),
        };
        ensure!(!hits.is_empty(), "there is no uid to ask for");
        let cold = if misses_percent > 0.0 {
            Targets::cold(uids)
        } else {
            0
        };
        let misses = (uids.orders..uids.orders + cold).map(|number| stock.uid(number).to_string());
        let unknown = (0..uids.orders.max(1_000)).map(|number| stock.unknown_uid(number).to_string());
        Ok(Targets {
            hits,
            misses: misses.collect(),
            unknown: unknown.collect(),
            misses_percent,
            unknown_percent: uids.unknown,
            of_the_stock: uids.uids.is_none(),
        })
    }

    /// How many orders are kept out of the cache.
    fn cold(uids: &Uids) -> u64 {
        (uids.orders / 2).max(1_000)
    }

    /// The numbers that are taken: those of all orders that these targets may publish.
    pub(super) fn end(uids: &Uids) -> u64 {
        uids.orders + Targets::cold(uids)
    }

    /// How large a cache holds the hits, and too few of the misses for one to be still there when its turn comes again.
    pub(super) fn cache_bytes(&self, stock: &Stock) -> Option<u64> {
        let weight = |number: usize| stock.order(number as u64).1.len() as u64 + BYTES_AN_ENTRY;
        let hits: u64 = (0..self.hits.len()).map(weight).sum();
        (self.misses_percent > 0.0).then_some(hits + hits / 10)
    }

    /// The classes for the generator.
    pub(super) fn classes(&self) -> Vec<Class> {
        let hits_percent = 100.0 - self.misses_percent - self.unknown_percent;
        let parts = [
            (hits_percent, 200, &self.hits, false),
            // In turn: by chance one would be asked for again while it is still cached.
            (self.misses_percent, 200, &self.misses, true),
            (self.unknown_percent, 404, &self.unknown, false),
        ];
        let class =
            |(name, (percent, expected, uids, in_turn)): (&str, (f64, u16, &Vec<String>, bool))| Class {
                name: name.to_owned(),
                percent,
                expected,
                paths: uids.iter().map(|uid| format!("/api/v1/orders/{uid}")).collect(),
                in_turn,
            };
        CLASSES.into_iter().zip(parts).map(class).collect()
    }

    /// So many paths as the classes are mixed, with the class of each: for who asks for what a list says.
    pub(super) fn mixed(&self, seed: u64, count: u64) -> impl Iterator<Item = (usize, String)> {
        let classes = self.classes();
        let mut dice = Dice::new(seed, u64::MAX - 7);
        let mut turns = [0; CLASSES.len()];
        (0..count).map(move |_| {
            let index = if dice.percent(self.misses_percent) {
                1
            } else if dice.percent(self.unknown_percent * 100.0 / (100.0 - self.misses_percent).max(1e-9)) {
                2
            } else {
                0
            };
            let paths = &classes[index].paths;
            turns[index] += 1;
            let path = if classes[index].in_turn {
                &paths[turns[index] % paths.len()]
            } else {
                dice.pick(paths)
            };
            (index, path.clone())
        })
    }

    /// Publishes the orders where that is for us to do, and waits until all can be read. Leaves the hits in the cache.
    ///
    /// # Errors
    ///
    /// Where they cannot be published, or are not there.
    pub(super) async fn make_ready(&self, world: &World, stock: &Arc<Stock>, run: &str) -> Result<()> {
        let published = self.of_the_stock && world.broker.is_some();
        if published {
            // Those that shall not be in the cache first: the later ones push them out.
            let hits = self.hits.len() as u64;
            for (first, count) in [(hits, self.misses.len() as u64), (0, hits)] {
                publish(world, stock, run, first, count).await?;
            }
        }
        let patience = if published { PATIENCE } else { Duration::ZERO };
        let some_misses: Vec<&String> = self.misses.iter().step_by(101).collect();
        read_all(&world.endpoint, &some_misses, patience).await?;
        let hits: Vec<&String> = self.hits.iter().collect();
        // Twice: what a small cache has counted as asked for more than once it keeps.
        for _ in 0..2 {
            read_all(&world.endpoint, &hits, patience).await?;
        }
        Ok(())
    }
}

async fn publish(world: &World, stock: &Arc<Stock>, run: &str, first: u64, count: u64) -> Result<()> {
    let broker = world.broker.as_ref().context("there is no broker")?;
    if count == 0 {
        return Ok(());
    }
    let plan = Plan {
        pace: Pace::Max,
        amount: Amount::Count(count, PATIENCE),
        warm_up: Duration::ZERO,
        workers: 256,
        threads: 1,
        patience: Duration::ZERO,
    };
    let ledger = Arc::new(Ledger::default());
    let work = Publish {
        stock: Arc::clone(stock),
        first,
        broker: broker.settings.clone(),
        run: format!("{run}-{first}"),
        timeout: Duration::from_secs(30),
        ledger: Arc::clone(&ledger),
        sample: None,
    };
    let measured = Generator::start(&plan, work).await?.finish().await?;
    if ledger.acknowledged() < count {
        let faults: Vec<&String> = measured.recording.faults.keys().collect();
        bail!(
            "only {} of {count} orders could be published: {faults:?}",
            ledger.acknowledged()
        );
    }
    Ok(())
}

/// Asks for these orders until each has been answered.
async fn read_all(endpoint: &Endpoint, uids: &[&String], patience: Duration) -> Result<()> {
    const CONNECTIONS: usize = 32;
    let deadline = Instant::now() + patience;
    let part = uids.len().div_ceil(CONNECTIONS).max(1);
    let readers = uids.chunks(part).map(|uids| async move {
        let mut connection = Connection::new(endpoint);
        for uid in uids {
            loop {
                match connection.order(uid).await {
                    Ok(Some(_)) => break,
                    Ok(None) if Instant::now() >= deadline => bail!(
                        "the order {uid} is not there: publish it first, with `cargo xtask seed` of the same --seed and as \
                         many as --orders, or give --nats"
                    ),
                    Err(error) if Instant::now() >= deadline => return Err(error),
                    Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        }
        Ok(())
    });
    try_join_all(readers).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(misses: Option<f64>) -> Uids {
        Uids {
            orders: 100,
            misses,
            unknown: 1.0,
            uids: None,
        }
    }

    #[test]
    fn no_order_is_in_two_classes() {
        let stock = Stock::new(3).unwrap();
        let targets = Targets::choose(&uids(None), &stock, true).unwrap();
        let classes = targets.classes();
        assert_eq!(
            classes.iter().map(|class| class.percent).collect::<Vec<_>>(),
            [95.0, 4.0, 1.0]
        );
        assert_eq!(
            classes.iter().map(|class| class.expected).collect::<Vec<_>>(),
            [200, 200, 404]
        );
        let paths: std::collections::BTreeSet<&String> =
            classes.iter().flat_map(|class| &class.paths).collect();
        assert_eq!(paths.len(), 100 + 1_000 + 1_000);
    }

    #[test]
    fn misses_need_someone_to_publish_them() {
        let stock = Stock::new(3).unwrap();
        assert!(Targets::choose(&uids(Some(5.0)), &stock, false).is_err());
        let targets = Targets::choose(&uids(None), &stock, false).unwrap();
        assert_eq!((targets.misses_percent, targets.cache_bytes(&stock)), (0.0, None));
        assert!(Targets::choose(&uids(Some(99.5)), &stock, true).is_err());
    }
}
