//! The bus itself.

use std::sync::Arc;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::stream::{RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use jiff::Timestamp;
use order_domain::{BusError, BusState, OrderBus, OutgoingMessage, PublishAck, Subscription};

use crate::connection::{self, Link};
use crate::publisher::Publisher;
use crate::settings::{NatsSettings, NatsSettingsError};
use crate::subscription::NatsSubscription;
use crate::topology;

/// An [`OrderBus`] on NATS JetStream: one stream, one subject, and one durable consumer that all replicas share.
///
/// Cloning is cheap: clones share the connection.
#[derive(Debug, Clone)]
pub struct NatsOrderBus {
    client: Client,
    jetstream: Context,
    link: Link,
    publisher: Arc<Publisher>,
    settings: Arc<NatsSettings>,
}

/// How far behind the consumer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that were not delivered yet.
    pub undelivered: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub unacknowledged: u64,
    /// When the oldest message that is not acknowledged was published. Orders are lost when this is as long ago as the stream's
    /// `max_age`; half of it is an alarm.
    pub oldest: Option<Timestamp>,
}

impl NatsOrderBus {
    /// Begins to connect, and goes on for ever. The broker need not be there: until it is, the bus says that it is out of reach.
    ///
    /// # Errors
    ///
    /// The settings cannot be used, whatever the broker says.
    pub async fn connect(settings: NatsSettings) -> Result<Self, NatsSettingsError> {
        let (client, link) = connection::connect(&settings).await?;
        Ok(NatsOrderBus {
            jetstream: jetstream::new(client.clone()),
            publisher: Arc::new(Publisher::new(client.clone(), &settings)),
            client,
            link,
            settings: Arc::new(settings),
        })
    }

    /// How far behind the consumer is; for metrics.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BusError::Unavailable), also where there is no consumer yet.
    pub async fn backlog(&self) -> Result<Backlog, BusError> {
        let unavailable = |error: async_nats::Error| BusError::Unavailable(error);
        let stream = self.jetstream.get_stream(self.settings.stream.as_str()).await;
        let stream = stream.map_err(|error| unavailable(error.into()))?;
        let consumer = stream.consumer_info(self.settings.consumer.as_str()).await;
        let consumer = consumer.map_err(|error| unavailable(error.into()))?;
        let mut backlog = Backlog {
            undelivered: consumer.num_pending,
            unacknowledged: consumer.num_ack_pending as u64,
            oldest: None,
        };
        if backlog.undelivered + backlog.unacknowledged > 0 {
            backlog.oldest = self
                .published_after(&stream, consumer.ack_floor.stream_sequence)
                .await?;
        }
        Ok(backlog)
    }

    /// When the first message after `sequence` was published, if there is one.
    async fn published_after(&self, stream: &Stream, sequence: u64) -> Result<Option<Timestamp>, BusError> {
        let first = stream
            .raw_message_builder()
            .sequence(sequence + 1)
            .next_by_subject(self.settings.subject.as_str())
            .send()
            .await;
        match first {
            Ok(message) => Ok(Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).ok()),
            // Acknowledged, or aged, since the consumer was asked.
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(BusError::Unavailable(error.into())),
        }
    }
}

#[async_trait]
impl OrderBus for NatsOrderBus {
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        // What is handed to the driver while there is no connection would be kept in memory, and sent long after its caller has
        // given up.
        if self.state() == BusState::Disconnected {
            return Err(not_connected());
        }
        self.publisher.publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        let mut link = self.link.clone();
        if !link.connected(self.settings.request_timeout).await {
            return Err(not_connected());
        }
        let consumer = topology::ensure(&self.jetstream, &self.settings).await?;
        let pull_bytes = topology::pull_bytes(&self.jetstream, &self.settings);
        let subscription =
            NatsSubscription::open(self.client.clone(), consumer, link, &self.settings, pull_bytes).await?;
        Ok(Box::new(subscription))
    }

    fn state(&self) -> BusState {
        match self.client.connection_state() {
            State::Connected => BusState::Connected,
            State::Pending | State::Disconnected => BusState::Disconnected,
        }
    }
}

fn not_connected() -> BusError {
    BusError::Unavailable("there is no connection".into())
}
