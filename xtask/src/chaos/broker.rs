//! What is done to the stream and its consumer behind the service's back.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream;
use order_nats::NatsSettings;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes the consumer that the replicas share.
///
/// # Errors
///
/// Where the broker cannot be reached in time, which other faults may be the reason of.
pub(super) async fn delete_consumer(url: &str) -> Result<()> {
    let settings = NatsSettings::default();
    within(async {
        let jetstream = jetstream::new(async_nats::connect(url).await?);
        let stream = jetstream.get_stream(settings.stream.as_str()).await?;
        stream.delete_consumer(settings.consumer.as_str()).await?;
        Ok(())
    })
    .await
    .context("cannot delete the consumer")
}

/// Deletes the stream with everything in it. The replicas make it anew.
///
/// # Errors
///
/// Where the broker cannot be reached in time.
pub(super) async fn delete_stream(url: &str) -> Result<()> {
    let settings = NatsSettings::default();
    within(async {
        let jetstream = jetstream::new(async_nats::connect(url).await?);
        jetstream.delete_stream(settings.stream.as_str()).await?;
        Ok(())
    })
    .await
    .context("cannot delete the stream")
}

/// Leaves only the newest messages in the stream, as time does.
///
/// # Errors
///
/// Where the broker cannot be reached in time.
pub(super) async fn keep_newest(url: &str, messages: u64) -> Result<()> {
    let settings = NatsSettings::default();
    within(async {
        let jetstream = jetstream::new(async_nats::connect(url).await?);
        let stream = jetstream.get_stream(settings.stream.as_str()).await?;
        stream.purge().keep(messages).await?;
        Ok(())
    })
    .await
    .context("cannot remove old messages")
}

async fn within(work: impl Future<Output = Result<()>>) -> Result<()> {
    timeout(PATIENCE, work)
        .await
        .context("the broker did not answer")?
}
