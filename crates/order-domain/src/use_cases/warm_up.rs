//! Fills the cache in the background after a start.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Backoff, Coherence, OrderRepository, RepositoryError};

/// How the cache is warmed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WarmUpSettings {
    /// How many of the newest orders to put. 0 for none.
    pub orders: usize,
}

impl Default for WarmUpSettings {
    fn default() -> Self {
        WarmUpSettings { orders: 100_000 }
    }
}

/// Puts the newest orders into the cache, until there are `settings.orders` of them or the cache is full. The service answers
/// meanwhile, from the database. Whatever fails is tried again, until told to stop.
pub async fn warm_up(
    repository: Arc<dyn OrderRepository>,
    coherence: Arc<Coherence>,
    settings: WarmUpSettings,
    stop: CancellationToken,
) {
    if settings.orders == 0 {
        return;
    }
    stop.run_until_cancelled(async {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            // The follower runs first: without it nothing tells what changes while the snapshot is read.
            while !coherence.is_proven() {
                sleep(Duration::from_millis(20)).await;
            }
            let began = Instant::now();
            match fill_from_snapshot(&*repository, &coherence, &settings).await {
                Ok(Some(orders)) => {
                    tracing::info!(
                        orders,
                        seconds = began.elapsed().as_secs_f64(),
                        "the cache is warm"
                    );
                    return;
                }
                Ok(None) => tracing::info!("the warm-up lost its ground and begins anew"),
                Err(error) => tracing::warn!(%error, "failed to warm the cache; trying again"),
            }
            sleep(backoff.step()).await;
        }
    })
    .await;
}

/// Answers how many orders were put; `None` if the log broke meanwhile.
async fn fill_from_snapshot(
    repository: &dyn OrderRepository,
    coherence: &Coherence,
    settings: &WarmUpSettings,
) -> Result<Option<usize>, RepositoryError> {
    // From before the snapshot until the end.
    let warm_up = coherence.begin_warm_up();
    let max_bytes = coherence.cache().max_bytes();
    let mut orders = repository.newest(settings.orders, max_bytes);
    let (mut put, mut bytes) = (0, 0);
    while let Some(chunk) = orders.next().await {
        for document in chunk? {
            bytes += document.weight() as u64;
            put += usize::from(warm_up.put(document));
        }
        if warm_up.is_void() {
            return Ok(None);
        }
        if bytes >= max_bytes {
            break;
        }
    }
    Ok(Some(put))
}
