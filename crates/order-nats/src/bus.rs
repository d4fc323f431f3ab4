//! The bus itself.

use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use order_domain::{Backlog, BusError, BusState, OrderBus, OutgoingMessage, PublishAck, Subscription};
use tokio::time::Instant;

use crate::connection::{self, Link};
use crate::publisher::Publisher;
use crate::settings::{NatsSettings, NatsSettingsError};
use crate::subscription::NatsSubscription;
use crate::topology;
use crate::unreadable::{self, Which};

/// An [`OrderBus`] on NATS JetStream: one stream, one subject, and one durable consumer that all replicas share.
///
/// Cloning is cheap: clones share the connection.
#[derive(Debug, Clone)]
pub struct NatsOrderBus {
    client: Client,
    pub(crate) jetstream: Context,
    pub(crate) link: Link,
    publisher: Arc<Publisher>,
    pub(crate) settings: Arc<NatsSettings>,
    last_opened: Arc<Mutex<Option<Opened>>>,
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
            last_opened: Arc::default(),
        })
    }

    /// The same connection, for a consumer of another name.
    pub(crate) fn with_settings(&self, settings: NatsSettings) -> Self {
        NatsOrderBus {
            settings: Arc::new(settings),
            last_opened: Arc::default(),
            ..self.clone()
        }
    }

    /// Opens a subscription to this consumer, over the connection that `link` found.
    pub(crate) async fn open(
        &self,
        consumer: PullConsumer,
        link: Link,
    ) -> Result<Box<dyn Subscription>, BusError> {
        let pull_bytes = topology::pull_bytes(&self.jetstream, &self.settings);
        let unreadable = if self.lost_a_connection_without_cause(link.times()) {
            unreadable::find(&self.jetstream, &consumer, &self.settings).await?
        } else {
            Vec::new()
        };
        let client = self.client.clone();
        let opening = NatsSubscription::open(client, consumer, link, unreadable, &self.settings, pull_bytes);
        Ok(Box::new(opening.await?))
    }

    /// Whether the connection that the last subscription was opened on was lost although the broker did not restart, or soon after
    /// the subscription was opened: as it is when a message comes that the driver cannot read.
    fn lost_a_connection_without_cause(&self, connection: u64) -> bool {
        let server = self.client.server_info().server_id;
        let opened = Opened {
            connection,
            server,
            at: Instant::now(),
        };
        let mut last = self.last_opened.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = last.replace(opened.clone()) else {
            return false;
        };
        let soon = opened.at - before.at < self.settings.ack_wait * 2;
        before.connection != opened.connection && (before.server == opened.server || soon)
    }
}

/// When and on what a subscription was opened.
#[derive(Debug, Clone)]
struct Opened {
    connection: u64,
    server: String,
    at: Instant,
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
        self.open(consumer, link).await
    }

    fn state(&self) -> BusState {
        match self.client.connection_state() {
            State::Connected => BusState::Connected,
            State::Pending | State::Disconnected => BusState::Disconnected,
        }
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        let unavailable = |error: async_nats::Error| BusError::Unavailable(error);
        let stream = self.jetstream.get_stream(self.settings.stream.as_str()).await;
        let stream = stream.map_err(|error| unavailable(error.into()))?;
        let consumer = stream.consumer_info(self.settings.consumer.as_str()).await;
        let consumer = consumer.map_err(|error| unavailable(error.into()))?;
        let max_age = stream.cached_info().config.max_age;
        let mut backlog = Backlog {
            undelivered: consumer.num_pending,
            unacknowledged: consumer.num_ack_pending as u64,
            oldest: None,
            kept_for: (!max_age.is_zero()).then_some(max_age),
        };
        if backlog.undelivered + backlog.unacknowledged > 0 {
            let sequence = consumer.ack_floor.stream_sequence + 1;
            let which = Which {
                sequence,
                next_by_subject: Some(self.settings.subject.as_str()),
            };
            // `None` where it was acknowledged, or aged, since the consumer was asked.
            let oldest = unreadable::fetch(&self.jetstream, &self.settings, which).await?;
            backlog.oldest = oldest.map(|stored| stored.published_at);
        }
        Ok(backlog)
    }
}

pub(crate) fn not_connected() -> BusError {
    BusError::Unavailable("there is no connection".into())
}
