//! What the stream still holds, once more, beside the service that consumes it.

use std::time::Duration;

use async_nats::datetime;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{Context, ErrorCode};
use async_trait::async_trait;
use jiff::Timestamp;
use order_domain::{Backlog, BusError, BusState, OrderBus, OutgoingMessage, PublishAck, Subscription};

use crate::bus::{NatsOrderBus, not_connected};
use crate::names::NatsName;

/// How long the broker keeps a replay's consumer that nobody asks any more: a replay that was killed leaves nothing behind.
const ABANDONED_AFTER: Duration = Duration::from_secs(10 * 60);

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// At the first message of this sequence or a later one.
    Sequence(u64),
    /// At the first message that was stored at this time or later.
    Time(Timestamp),
}

/// An [`OrderBus`] that delivers once more what the stream holds, from some place on.
///
/// It has a consumer of its own: what the service has acknowledged, and what it has in hand, is not touched. It delivers the
/// same messages under the same revisions, so that taking them in again changes nothing but what is missing. It goes on with
/// messages that are published meanwhile; [`progress`](Self::progress) says when all those are through that were there at the start.
#[derive(Debug, Clone)]
pub struct NatsReplay {
    bus: NatsOrderBus,
    jetstream: Context,
    from: ReplayFrom,
    last: u64,
}

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayProgress {
    /// Everything up to this sequence was taken in.
    pub through: u64,
    /// The sequence of the last message that was there at the start.
    pub last: u64,
    /// Whether all that was there at the start was taken in.
    pub done: bool,
}

impl NatsReplay {
    /// Prepares a replay of the stream that `bus` reads. Nothing is delivered before the first subscription.
    ///
    /// # Errors
    ///
    /// [`Unsuitable`](BusError::Unsuitable) if there is no stream, [`Unavailable`](BusError::Unavailable) if the broker does not say.
    pub async fn of(bus: &NatsOrderBus, from: ReplayFrom) -> Result<Self, BusError> {
        let mut link = bus.link.clone();
        if !link.connected(bus.settings.request_timeout).await {
            return Err(not_connected());
        }
        // A name that no one else has, so that two replays do not share their messages.
        let mut settings = (*bus.settings).clone();
        let unique: String = std::iter::repeat_with(fastrand::alphanumeric).take(10).collect();
        settings.consumer =
            NatsName::new(&format!("replay-{unique}")).expect("letters and digits make a name");
        let mut replay = NatsReplay {
            bus: bus.with_settings(settings),
            jetstream: bus.jetstream.clone(),
            from,
            last: 0,
        };
        replay.last = replay.stream().await?.cached_info().state.last_sequence;
        Ok(replay)
    }

    /// How far the replay is.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BusError::Unavailable), also while there is no subscription yet.
    pub async fn progress(&self) -> Result<ReplayProgress, BusError> {
        let stream = self.stream().await?;
        let consumer = stream.consumer_info(self.bus.settings.consumer.as_str()).await;
        let consumer = consumer.map_err(|error| BusError::Unavailable(error.into()))?;
        let through = consumer.ack_floor.stream_sequence;
        // Where the last messages are of other subjects, or gone, the floor never comes to the last sequence.
        let nothing_left = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
        Ok(ReplayProgress {
            through,
            last: self.last,
            done: through >= self.last || nothing_left,
        })
    }

    /// Ends the replay: nothing of it stays on the broker.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BusError::Unavailable): the broker forgets it by itself, some ten minutes later.
    pub async fn end(self) -> Result<(), BusError> {
        let stream = self.stream().await?;
        match stream.delete_consumer(self.bus.settings.consumer.as_str()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(BusError::Unavailable(error.into())),
        }
    }

    async fn stream(&self) -> Result<Stream, BusError> {
        let name = self.bus.settings.stream.as_str();
        self.jetstream
            .get_stream(name)
            .await
            .map_err(|error| match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    BusError::Unsuitable(format!("there is no stream `{name}` to replay"))
                }
                _ => BusError::Unavailable(error.into()),
            })
    }

    async fn consumer(&self) -> Result<PullConsumer, BusError> {
        let stream = self.stream().await?;
        let name = self.bus.settings.consumer.as_str();
        match stream.consumer_info(name).await {
            Ok(_) => return stream.get_consumer(name).await.map_err(BusError::Unavailable),
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {}
            Err(error) => return Err(BusError::Unavailable(error.into())),
        }
        let created = stream.create_consumer(self.wanted_consumer()?).await;
        created.map_err(|error| BusError::Unavailable(error.into()))
    }

    fn wanted_consumer(&self) -> Result<pull::Config, BusError> {
        let settings = &self.bus.settings;
        let deliver_policy = match self.from {
            // There is no message 0; the broker refuses to begin at it.
            ReplayFrom::Sequence(0 | 1) => DeliverPolicy::All,
            ReplayFrom::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
            ReplayFrom::Time(time) => DeliverPolicy::ByStartTime {
                start_time: datetime::from_nanos(time.as_nanosecond()).map_err(BusError::Unavailable)?,
            },
        };
        Ok(pull::Config {
            durable_name: Some(settings.consumer.to_string()),
            description: Some("Replays orders into the database; removed when it is through".to_owned()),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: settings.ack_wait,
            max_deliver: -1,
            max_ack_pending: i64::try_from(settings.max_ack_pending).unwrap_or(i64::MAX),
            filter_subject: settings.subject.to_string(),
            inactive_threshold: ABANDONED_AFTER,
            ..pull::Config::default()
        })
    }
}

#[async_trait]
impl OrderBus for NatsReplay {
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        self.bus.publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        let mut link = self.bus.link.clone();
        if !link.connected(self.bus.settings.request_timeout).await {
            return Err(not_connected());
        }
        // One that the broker has forgotten begins at the start again, which costs time and changes nothing.
        let consumer = self.consumer().await?;
        self.bus.open(consumer, link).await
    }

    fn state(&self) -> BusState {
        self.bus.state()
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        self.bus.backlog().await
    }
}
