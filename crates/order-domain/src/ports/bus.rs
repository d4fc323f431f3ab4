//! Where orders come from.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::Revision;

/// Where orders come from: a durable stream that remembers what was acknowledged.
#[async_trait]
pub trait OrderBus: Send + Sync {
    /// Publishes a message and waits until the bus has stored it.
    ///
    /// A message whose id was published within the de-duplication window MUST NOT be stored again, and is answered with
    /// the first one's sequence.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BusError::Unavailable) if it may or may not be stored: publish it again under the same id.
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError>;

    /// Opens a subscription, and creates what it needs on the bus where that is missing.
    ///
    /// All subscriptions share the messages: one that is not acknowledged within the bus's own time MUST be delivered again, to any of
    /// them, without end.
    ///
    /// # Errors
    ///
    /// [`Unsuitable`](BusError::Unsuitable) if what is there cannot serve, saying what is wrong with it.
    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError>;

    /// Whether the bus is in reach, as far as is known.
    fn state(&self) -> BusState;

    /// How far consumption is behind, for all who share it; for metrics.
    ///
    /// A message MUST be counted from when it was published until it is acknowledged.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](BusError::Unavailable), also where nobody has subscribed yet.
    async fn backlog(&self) -> Result<Backlog, BusError>;
}

/// Messages as they come.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for a message, then takes what else is there, up to `limits`; never empty.
    ///
    /// It MUST be safe to drop: a message that was not answered is not lost to this subscription. It MUST NOT wait for more once it has one.
    ///
    /// # Errors
    ///
    /// The subscription is at its end: open another.
    async fn take(&mut self, limits: TakeLimits) -> Result<Vec<IncomingMessage>, BusError>;

    /// Tells the bus that these need never be delivered again. A hint: the bus may forget it.
    ///
    /// Returns when the bus was told, or after `within`, whichever is first.
    async fn acknowledge(&self, messages: &[AckToken], within: Duration);

    /// Tells the bus that these are still being worked on, so that their time begins anew. A hint.
    async fn progress(&self, messages: &[AckToken]);

    /// Ends the subscription: hands `messages`, and all that was fetched but not taken, back to be delivered to others at once. A hint.
    async fn release(self: Box<Self>, messages: &[AckToken], within: Duration);
}

/// How much to take at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TakeLimits {
    /// At most so many messages.
    pub messages: usize,
    /// No further message once the payloads have so many bytes.
    pub bytes: usize,
}

/// A thousand messages and 4 MiB.
impl Default for TakeLimits {
    fn default() -> Self {
        TakeLimits {
            messages: 1_000,
            bytes: 4 << 20,
        }
    }
}

/// A message as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMessage {
    /// Where it was published.
    pub subject: String,
    /// Its headers; a name may stand more than once.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub payload: Bytes,
}

/// A message as it was delivered.
#[derive(Debug, Clone)]
pub struct IncomingMessage {
    /// The message as it was published.
    pub message: RawMessage,
    /// When and under which sequence the bus stored it.
    pub revision: Revision,
    /// Whether it was delivered before. May be wrong after the bus restarted: for metrics only.
    pub redelivered: bool,
    /// What acknowledges it.
    pub token: AckToken,
}

/// Names one delivery of one message to its bus. Opaque; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckToken(pub Bytes);

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Names this attempt to publish, not the order: an id used again within the window is not stored again.
    pub id: String,
    /// Its headers, beside those that the bus itself needs.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub payload: Bytes,
}

/// The bus's word that it has stored a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishAck {
    /// Under which sequence.
    pub sequence: u64,
    /// Whether it was stored before, under the same id.
    pub duplicate: bool,
}

/// How far consumption is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that were not delivered yet.
    pub undelivered: u64,
    /// Messages that were delivered and not acknowledged yet, those that are to be delivered again included.
    pub unacknowledged: u64,
    /// When the oldest message that is not acknowledged was published.
    pub oldest: Option<Timestamp>,
    /// For how long the bus keeps a message, whether read or not. Orders are lost when `oldest` is as long ago as this; half
    /// of it is an alarm. `None` for as long as there is room.
    pub kept_for: Option<Duration>,
}

/// Whether the bus is in reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusState {
    /// In reach.
    Connected,
    /// Out of reach; being tried again.
    Disconnected,
}

/// Why the bus did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Out of reach, or too slow: ask again.
    #[error("the bus is out of reach: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bus refuses this message for good: it is too large, say.
    #[error("the bus refuses the message: {0}")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is on the bus under our names cannot serve. The text says what is wrong, and what was expected.
    #[error("the bus cannot serve: {0}")]
    Unsuitable(String),
}
