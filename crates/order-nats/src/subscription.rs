//! Messages as they come, over a pull subscription that is always one request ahead.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{self, MessagesError, MessagesErrorKind};
use async_nats::jetstream::{AckKind, Message};
use async_nats::{Client, Subject};
use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use metrics::Counter;
use order_domain::{AckToken, BusError, IncomingMessage, RawMessage, Revision, Subscription, TakeLimits};
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, timeout};

use crate::connection::Link;
use crate::instruments;
use crate::settings::NatsSettings;

/// How long the broker keeps a message that was handed back: until it has heard that we want no more, or it would send it to
/// us again.
const HANDED_BACK_FOR: Duration = Duration::from_millis(50);

/// One replica's share of the consumer's messages.
///
/// Memory: the driver asks for the next pull when half of the last one is used up, and may ask for two more while nobody takes, so
/// that less than four pulls of `pull_messages` and `pull_bytes` ever wait here.
pub(crate) struct NatsSubscription {
    client: Client,
    consumer: PullConsumer,
    messages: pull::Stream,
    link: Link,
    /// Messages that the driver cannot read, found before the first pull. They come first.
    unreadable: VecDeque<IncomingMessage>,
    /// When the broker last failed to say that it is there.
    silent_since: Option<Instant>,
    silence: Duration,
    /// Why the subscription ended, where that was found out behind messages that had to be answered first.
    ended: Option<BusError>,
    consumed: Counter,
}

impl NatsSubscription {
    pub(crate) async fn open(
        client: Client,
        consumer: PullConsumer,
        link: Link,
        unreadable: Vec<IncomingMessage>,
        settings: &NatsSettings,
        pull_bytes: usize,
    ) -> Result<Self, BusError> {
        let messages = consumer
            .stream()
            .max_messages_per_batch(settings.pull_messages)
            .max_bytes_per_batch(pull_bytes)
            .expires(settings.pull_expires)
            .heartbeat(settings.heartbeat)
            .messages()
            .await
            .map_err(|error| BusError::Unavailable(error.into()))?;
        let silence = settings.heartbeat * 2;
        Ok(NatsSubscription {
            client,
            consumer,
            messages,
            link,
            unreadable: unreadable.into(),
            silent_since: None,
            silence,
            ended: None,
            consumed: instruments::consumed(settings),
        })
    }

    /// What the driver's answer means: a message, nothing yet, or the end.
    fn judge(
        &mut self,
        next: Option<Result<Message, MessagesError>>,
    ) -> Result<Option<IncomingMessage>, BusError> {
        match next {
            Some(Ok(message)) => {
                self.silent_since = None;
                Ok(incoming(message))
            }
            Some(Err(error)) if error.kind() == MessagesErrorKind::MissingHeartbeat => {
                // One may be a pause of ours. The driver tells of the next one after as long again, unless a word came between them.
                let now = Instant::now();
                let again = self
                    .silent_since
                    .is_some_and(|before| now - before < self.silence * 3 / 2);
                self.silent_since = Some(now);
                if again {
                    Err(BusError::Unavailable(error.into()))
                } else {
                    Ok(None)
                }
            }
            Some(Err(error)) => Err(BusError::Unavailable(error.into())),
            None => Err(BusError::Unavailable("the subscription came to its end".into())),
        }
    }

    /// The next message that is here already.
    fn ready(&mut self) -> Result<Option<IncomingMessage>, BusError> {
        loop {
            // Unconstrained, because tokio's budget would end a batch at 127 messages as if no more were there.
            match unconstrained(self.messages.next()).now_or_never() {
                None => return Ok(None),
                Some(next) => {
                    if let Some(message) = self.judge(next)? {
                        return Ok(Some(message));
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Subscription for NatsSubscription {
    async fn take(&mut self, limits: TakeLimits) -> Result<Vec<IncomingMessage>, BusError> {
        if let Some(ended) = &self.ended {
            return Err(BusError::Unavailable(ended.to_string().into()));
        }
        if let Some(first) = self.unreadable.pop_front() {
            // Alone, so that it is acknowledged before the first pull could bring it once more.
            self.consumed.increment(1);
            return Ok(vec![first]);
        }
        let first = loop {
            tokio::select! {
                biased;
                next = self.messages.next() => {
                    if let Some(message) = self.judge(next)? {
                        break message;
                    }
                }
                // The broker forgets a request when its connection ends. The driver would ask again, but count wrongly what
                // is under way and so fall silent later.
                () = self.link.replaced() => {
                    return Err(BusError::Unavailable("the connection was made anew".into()));
                }
            }
        };
        // From here on nothing waits, so that no message can be lost to a `take` that is dropped.
        let mut bytes = first.message.payload.len();
        let mut taken = vec![first];
        while taken.len() < limits.messages && bytes < limits.bytes {
            match self.ready() {
                Ok(Some(message)) => {
                    bytes += message.message.payload.len();
                    taken.push(message);
                }
                Ok(None) => break,
                Err(ended) => {
                    self.ended = Some(ended);
                    break;
                }
            }
        }
        self.consumed.increment(taken.len() as u64);
        Ok(taken)
    }

    async fn acknowledge(&self, messages: &[AckToken], within: Duration) {
        let telling = async {
            tell(&self.client, messages, AckKind::Ack).await;
            self.client.flush().await
        };
        match timeout(within, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "failed to acknowledge; they come again"),
            Err(_) => tracing::debug!(
                messages = messages.len(),
                ?within,
                "acknowledging took too long; they may come again"
            ),
        }
    }

    async fn progress(&self, messages: &[AckToken]) {
        // The next notice comes soon enough, so this one need not wait for long.
        let _ = timeout(self.silence, tell(&self.client, messages, AckKind::Progress)).await;
    }

    async fn release(mut self: Box<Self>, messages: &[AckToken], within: Duration) {
        let handing_back = async {
            // After this answer everything that the broker sent before it is here too.
            let _ = self.consumer.get_info().await;
            let mut back = messages.to_vec();
            back.extend(self.unreadable.drain(..).map(|message| message.token));
            while let Ok(Some(message)) = self.ready() {
                back.push(message.token);
            }
            // Ends the pull subscription before anything is handed back, or the broker would send it to us again.
            let NatsSubscription { client, messages, .. } = *self;
            drop(messages);
            tell(&client, &back, AckKind::Nak(Some(HANDED_BACK_FOR))).await;
            client.flush().await
        };
        match timeout(within, handing_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "failed to hand messages back; they come again later"),
            Err(_) => tracing::debug!(
                ?within,
                "handing messages back took too long; they come again later"
            ),
        }
    }
}

/// Answers deliveries. Nothing comes back: the broker takes it as a hint.
async fn tell(client: &Client, messages: &[AckToken], kind: AckKind) {
    for AckToken(address) in messages {
        let Ok(address) = Subject::try_from(address.clone()) else {
            continue;
        };
        if let Err(error) = client.publish(address, kind.into()).await {
            // The connection is gone for good, and with it everything that was to be told.
            tracing::debug!(%error, "failed to answer messages");
            return;
        }
    }
}

/// The message as the domain knows it; `None` for one that did not come from the stream.
fn incoming(message: Message) -> Option<IncomingMessage> {
    let info = match message.info() {
        Ok(info) => info,
        Err(error) => {
            tracing::warn!(%error, "something else than the stream sent a message; it is ignored");
            return None;
        }
    };
    // The broker stamps nanoseconds; a revision has the microseconds that the database can keep.
    let microseconds = info.published.unix_timestamp_nanos().div_euclid(1_000);
    let revision = Revision {
        published_at: i64::try_from(microseconds).ok()?,
        sequence: info.stream_sequence,
    };
    let redelivered = info.delivered > 1;
    let message = message.message;
    let token = AckToken(message.reply?.into_string().into());
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
        headers.extend(values.iter().map(|value| (name.to_string(), value.to_string())));
    }
    // The driver keeps them in no order; this way the same message always looks the same.
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    let message = RawMessage {
        subject: message.subject.into_string(),
        headers,
        payload: message.payload,
    };
    Some(IncomingMessage {
        message,
        revision,
        redelivered,
        token,
    })
}
