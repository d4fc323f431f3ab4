//! Asks the broker what no port of the service's tells: how often it had to deliver a message once more.

use std::time::Duration;

use anyhow::{Context, Result};
use order_nats::NatsSettings;
use tokio::time::timeout;

/// How long the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The broker, under the names of one service.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    pub(super) url: String,
    pub(super) settings: NatsSettings,
}

impl Broker {
    /// Its version.
    ///
    /// # Errors
    ///
    /// Where it does not answer.
    pub(super) async fn version(&self) -> Result<String> {
        Ok(self.connect().await?.server_info().version)
    }

    /// How many deliveries the service's consumer has had beyond one of each message, since it was made.
    ///
    /// # Errors
    ///
    /// Where it cannot be asked.
    pub(super) async fn redeliveries(&self) -> Result<u64> {
        let jetstream = async_nats::jetstream::new(self.connect().await?);
        let asked = async {
            let stream = jetstream.get_stream(self.settings.stream.as_str()).await?;
            Ok::<_, async_nats::Error>(stream.consumer_info(self.settings.consumer.as_str()).await?)
        };
        let info = timeout(PATIENCE, asked)
            .await
            .context("the broker does not answer")?;
        let delivered = info
            .map_err(|error| anyhow::anyhow!("cannot ask for the consumer: {error}"))?
            .delivered;
        // Every delivery has a number, and every message that was delivered has one.
        Ok(delivered
            .consumer_sequence
            .saturating_sub(delivered.stream_sequence))
    }

    /// Removes the stream with all that is in it.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed.
    pub(super) async fn delete_stream(&self) -> Result<()> {
        let jetstream = async_nats::jetstream::new(self.connect().await?);
        let deleted = timeout(PATIENCE, jetstream.delete_stream(self.settings.stream.as_str()));
        let deleted = deleted.await.context("the broker does not answer")?;
        deleted.context("cannot remove the stream of this run").map(drop)
    }

    async fn connect(&self) -> Result<async_nats::Client> {
        let connected = timeout(PATIENCE, async_nats::connect(self.url.as_str())).await;
        connected
            .context("the broker does not answer")?
            .context("cannot connect to the broker")
    }
}
