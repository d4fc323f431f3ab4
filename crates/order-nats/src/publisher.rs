//! Publishing: every message is answered before it counts.

use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use async_nats::jetstream::{Error as JetStreamError, ErrorCode};
use async_nats::{Client, Request, RequestErrorKind};
use order_domain::{BusError, OutgoingMessage, PublishAck};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::instruments::PublishInstruments;
use crate::settings::NatsSettings;

/// What one permit of the window stands for. It also bounds how many tiny messages are on their way at once.
const BYTES_A_PERMIT: usize = 8 << 10;

/// Publishes to one subject.
///
/// It sends the request itself instead of through the driver's JetStream context, whose permits are used up by thousands
/// of publishes at once, which then wait for ever.
#[derive(Debug)]
pub(crate) struct Publisher {
    client: Client,
    subject: String,
    stream: String,
    within: Duration,
    window: Semaphore,
    permits: u32,
    instruments: PublishInstruments,
}

/// The broker's answer.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    stream: String,
    #[serde(default, rename = "seq")]
    sequence: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<JetStreamError>,
}

impl Publisher {
    pub(crate) fn new(client: Client, settings: &NatsSettings) -> Self {
        let permits = (settings.publish_window / BYTES_A_PERMIT).clamp(1, Semaphore::MAX_PERMITS >> 4) as u32;
        Publisher {
            client,
            subject: settings.subject.to_string(),
            stream: settings.stream.to_string(),
            within: settings.publish_timeout,
            window: Semaphore::new(permits as usize),
            permits,
            instruments: PublishInstruments::new(settings),
        }
    }

    pub(crate) async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        let began = Instant::now();
        let answer = self.publish_within(message).await;
        self.instruments.record(began, &answer);
        answer
    }

    async fn publish_within(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        let headers = headers(&message)?;
        let header_bytes: usize = message
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let cost = 1 + ((message.payload.len() + header_bytes) / BYTES_A_PERMIT) as u32;
        let sending = async {
            // The window is waited for within the time-out too, so that a broker that hangs does not gather waiters without bound.
            let permit = self.window.acquire_many(cost.min(self.permits)).await;
            let permit = permit.map_err(|closed| BusError::Unavailable(closed.into()))?;
            let answer = self.send(headers, message.payload).await;
            drop(permit);
            answer
        };
        match timeout(self.within, sending).await {
            Ok(answer) => answer,
            Err(_) => Err(BusError::Unavailable(
                format!("no answer within {:?}", self.within).into(),
            )),
        }
    }

    async fn send(&self, headers: HeaderMap, payload: bytes::Bytes) -> Result<PublishAck, BusError> {
        // Our own time-out runs already.
        let request = Request::new().headers(headers).payload(payload).timeout(None);
        let response = self.client.send_request(self.subject.clone(), request).await;
        let response = response.map_err(|error| match error.kind() {
            RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::InvalidSubject => {
                BusError::Refused(error.into())
            }
            RequestErrorKind::NoResponders => {
                BusError::Unavailable(format!("no stream takes the subject `{}`", self.subject).into())
            }
            RequestErrorKind::TimedOut | RequestErrorKind::Other => BusError::Unavailable(error.into()),
        })?;
        let answer: Answer = serde_json::from_slice(&response.payload).map_err(|error| {
            BusError::Unsuitable(format!(
                "something else than JetStream answers on the subject `{}`: {error}",
                self.subject
            ))
        })?;
        match answer.error {
            Some(error) => Err(refusal(error)),
            None if answer.stream != self.stream => Err(BusError::Unsuitable(format!(
                "the subject `{}` is stored by the stream `{}`, expected `{}`",
                self.subject, answer.stream, self.stream
            ))),
            None => Ok(PublishAck {
                sequence: answer.sequence,
                duplicate: answer.duplicate,
            }),
        }
    }
}

/// What an error in the broker's answer means for the message.
fn refusal(error: JetStreamError) -> BusError {
    match error.error_code() {
        // The same message will be as large next time.
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            BusError::Refused(error.into())
        }
        ErrorCode::STREAM_SEALED => BusError::Unsuitable(error.to_string()),
        // A full stream has room again when old orders have aged; a cluster without a leader will elect one.
        _ => BusError::Unavailable(error.into()),
    }
}

/// The message's own headers, and the id that the broker recognises it by.
fn headers(message: &OutgoingMessage) -> Result<HeaderMap, BusError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        if name.is_empty() {
            return Err(BusError::Refused("a header without a name".into()));
        }
        // The driver panics at what its checked constructors refuse.
        let name: HeaderName = name.parse().map_err(refused)?;
        let value: HeaderValue = value.parse().map_err(refused)?;
        headers.append(name, value);
    }
    let id: HeaderValue = message.id.parse().map_err(refused)?;
    headers.insert(NATS_MESSAGE_ID, id);
    Ok(headers)
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> BusError {
    BusError::Refused(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error_code: u64) -> JetStreamError {
        serde_json::from_value(serde_json::json!({"code": 503, "err_code": error_code, "description": "d"}))
            .unwrap()
    }

    #[test]
    fn only_what_will_never_fit_is_refused_for_good() {
        assert!(matches!(refusal(answer(10054)), BusError::Refused(_)));
        assert!(matches!(refusal(answer(10097)), BusError::Refused(_)));
        // The stream is full; there is no leader; whatever a later broker may say.
        for code in [10077, 10008, 99_999] {
            assert!(
                matches!(refusal(answer(code)), BusError::Unavailable(_)),
                "{code}"
            );
        }
    }

    #[test]
    fn a_header_that_would_break_the_protocol_is_refused() {
        for (id, name, value) in [
            ("a\r\nX: y", "n", "v"),
            ("a", "n n", "v"),
            ("a", "", "v"),
            ("a", "n:", "v"),
            ("a", "n", "v\r\n"),
        ] {
            let headers_given = vec![(name.to_owned(), value.to_owned())];
            let message = OutgoingMessage {
                id: id.to_owned(),
                headers: headers_given,
                payload: bytes::Bytes::new(),
            };
            assert!(
                matches!(headers(&message), Err(BusError::Refused(_))),
                "{id:?} {name:?} {value:?}"
            );
        }
    }
}
