//! Publishing orders for those who would rather call than talk to the bus themselves.

use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use super::submission::hex;
use crate::{
    Backoff, BusError, BusState, Faults, IdempotencyKey, OrderBus, OrderUid, OutgoingMessage, Parsed,
    PublishAck, TraceParent, parse,
};

/// How orders are published.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishSettings {
    /// How long publishing may take, all attempts together. Less than the bus's de-duplication window, or a late attempt would be
    /// stored a second time.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// How long one attempt may wait for its acknowledgement before the message is sent again under the same id.
    #[serde(with = "duration")]
    pub attempt: Duration,
}

impl Default for PublishSettings {
    fn default() -> Self {
        PublishSettings {
            deadline: Duration::from_secs(5),
            attempt: Duration::from_secs(2),
        }
    }
}

/// An order that the bus has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub order_uid: OrderUid,
    /// Under which sequence the bus has stored it.
    pub sequence: u64,
    /// Whether it had been stored under this key before: by an earlier request, or by an attempt of this one whose acknowledgement
    /// got lost. Never without a key.
    pub replayed: bool,
}

/// Why an order was not published. The bus's own words are logged, not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The message is no order.
    #[error("{0}")]
    Invalid(Faults),
    /// The bus is out of reach. Nothing was sent: ask again.
    #[error("the bus is out of reach")]
    Unavailable,
    /// The bus did not acknowledge in time. The order may be stored or not: ask again under the same key.
    #[error("the bus did not acknowledge in time")]
    Unacknowledged,
    /// A fault of ours, or of how the bus is set up.
    #[error("the order could not be published")]
    Other,
}

/// Checks orders and publishes them as canonical JSON, so that whatever the bus acknowledged can be stored.
pub struct OrderPublisher {
    bus: Arc<dyn OrderBus>,
    settings: PublishSettings,
}

impl OrderPublisher {
    /// Publishes to `bus`.
    pub fn new(bus: Arc<dyn OrderBus>, settings: PublishSettings) -> Self {
        OrderPublisher { bus, settings }
    }

    /// Checks a message in either spelling, publishes the order that it is, and waits until the bus has stored it.
    ///
    /// Under a key, the same order is stored once within the bus's de-duplication window, in whatever spelling it comes; another order
    /// under the same key is another message. Without a key every call is a message of its own.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub async fn publish(
        &self,
        message: &[u8],
        key: Option<&IdempotencyKey>,
        trace: Option<&TraceParent>,
    ) -> Result<Published, PublishError> {
        let Parsed { order, .. } = parse(message).map_err(PublishError::Invalid)?;
        let payload = order.json().clone();
        let id = match key {
            Some(key) => key.message_id(&payload),
            None => new_id()?,
        };
        let headers = trace.map(|trace| (TraceParent::HEADER.to_owned(), trace.as_str().to_owned()));
        let ack = self.send(OutgoingMessage {
            id,
            headers: headers.into_iter().collect(),
            payload,
        });
        let ack = ack.await?;
        Ok(Published {
            order_uid: order.order_uid.clone(),
            sequence: ack.sequence,
            replayed: ack.duplicate && key.is_some(),
        })
    }

    /// Sends a message until it is acknowledged, or the time is up. Its id makes every further attempt safe.
    async fn send(&self, message: OutgoingMessage) -> Result<PublishAck, PublishError> {
        let give_up = Instant::now() + self.settings.deadline;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut may_be_stored = false;
        loop {
            // While it is known that nobody listens, callers are told at once instead of each waiting for its own time-out.
            if !may_be_stored && self.bus.state() == BusState::Disconnected {
                return Err(PublishError::Unavailable);
            }
            let attempt_ends = give_up.min(Instant::now() + self.settings.attempt);
            match timeout_at(attempt_ends, self.bus.publish(message.clone())).await {
                Ok(Ok(ack)) => return Ok(ack),
                Ok(Err(BusError::Unavailable(error))) => {
                    tracing::debug!(%error, "failed to publish an order; trying again");
                }
                Err(_) => tracing::debug!("an order was not acknowledged yet; trying again"),
                Ok(Err(error @ (BusError::Refused(_) | BusError::Unsuitable(_)))) => {
                    tracing::error!(%error, "failed to publish an order");
                    return Err(PublishError::Other);
                }
            }
            may_be_stored = true;
            let next = Instant::now() + backoff.step();
            if next >= give_up {
                return Err(PublishError::Unacknowledged);
            }
            sleep(next - Instant::now()).await;
        }
    }
}

/// An id that names one attempt. It must never be the same as another's, or an order is taken for a repeat and lost: so its
/// randomness is the operating system's.
fn new_id() -> Result<String, PublishError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        tracing::error!(%error, "the operating system has no randomness");
        PublishError::Other
    })?;
    Ok(hex(&id))
}
