//! Messages that the driver cannot read.
//!
//! The broker stores any bytes as headers. The driver drops its connection at some of them (text that is not UTF-8, a
//! name with a space), and with it whatever came behind. The broker delivers again, the oldest first, so that one such message would
//! hold up all behind it for ever. Where that seems to have happened, what is unacknowledged is looked through by another way, one
//! in which headers travel as text.

use std::str::FromStr;

use async_nats::StatusCode;
use async_nats::header::HeaderName;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::{Context, Error as JetStreamError, ErrorCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use order_domain::{AckToken, BusError, IncomingMessage, RawMessage, Revision};
use serde::{Deserialize, Serialize};

use crate::settings::NatsSettings;

/// How many messages are asked for at once.
const AT_ONCE: usize = 16;

/// Looks through what was delivered and not acknowledged, and answers those that the driver cannot read, oldest first.
///
/// It stops at one pull's worth: the rest is found the next time.
pub(crate) async fn find(
    jetstream: &Context,
    consumer: &PullConsumer,
    settings: &NatsSettings,
) -> Result<Vec<IncomingMessage>, BusError> {
    let info = consumer
        .get_info()
        .await
        .map_err(|error| BusError::Unavailable(error.into()))?;
    let first = info.ack_floor.stream_sequence + 1;
    let last = info
        .delivered
        .stream_sequence
        .min(first.saturating_add(settings.max_ack_pending as u64));
    let mut looks = futures::stream::iter(first..=last)
        .map(|sequence| {
            fetch(
                jetstream,
                settings,
                Which {
                    sequence,
                    next_by_subject: None,
                },
            )
        })
        .buffered(AT_ONCE);
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(stored) = looks.try_next().await? {
        let Some(stored) = stored else { continue };
        if stored.subject == settings.subject.as_str() && !is_readable(&stored.headers) {
            bytes += stored.payload.len();
            found.push(stored.into_incoming(settings));
        }
        if found.len() >= settings.pull_messages || bytes >= settings.pull_bytes {
            break;
        }
    }
    Ok(found)
}

/// Which message to fetch.
#[derive(Debug, Serialize)]
pub(crate) struct Which<'a> {
    /// The one of this sequence, or the first from there on where a subject is given.
    #[serde(rename = "seq")]
    pub(crate) sequence: u64,
    /// Only of this subject.
    #[serde(rename = "next_by_subj", skip_serializing_if = "Option::is_none")]
    pub(crate) next_by_subject: Option<&'a str>,
}

/// A message as the stream keeps it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) published_at: Timestamp,
    subject: String,
    sequence: u64,
    headers: Vec<u8>,
    payload: Bytes,
}

/// Fetches a message whatever its headers are; `None` if there is none such.
pub(crate) async fn fetch(
    jetstream: &Context,
    settings: &NatsSettings,
    which: Which<'_>,
) -> Result<Option<Stored>, BusError> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<JetStreamError>,
        message: Option<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        subject: String,
        seq: u64,
        time: Timestamp,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
    }
    let asked = jetstream
        .request(format!("STREAM.MSG.GET.{}", settings.stream), &which)
        .await;
    let answer: Answer = asked.map_err(|error| BusError::Unavailable(error.into()))?;
    let message = match (answer.message, answer.error) {
        (Some(message), _) => message,
        // It aged, or was deleted.
        (None, Some(error)) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
        (None, Some(error)) => return Err(BusError::Unavailable(error.into())),
        (None, None) => return Ok(None),
    };
    let decoded = |text: String| {
        BASE64_STANDARD
            .decode(text)
            .map_err(|error| BusError::Unavailable(error.into()))
    };
    Ok(Some(Stored {
        published_at: message.time,
        subject: message.subject,
        sequence: message.seq,
        headers: decoded(message.hdrs)?,
        payload: decoded(message.data)?.into(),
    }))
}

impl Stored {
    fn into_incoming(self, settings: &NatsSettings) -> IncomingMessage {
        let (stream, consumer, sequence) = (&settings.stream, &settings.consumer, self.sequence);
        // The address that the broker gave it. Of its numbers only the sequence in the stream decides.
        let token = format!(
            "$JS.ACK.{stream}.{consumer}.1.{sequence}.{sequence}.{}.0",
            self.published_at.as_nanosecond()
        );
        tracing::warn!(
            sequence,
            "a message has headers that cannot be read; they are taken as far as they can"
        );
        IncomingMessage {
            revision: Revision {
                published_at: self.published_at.as_microsecond(),
                sequence,
            },
            message: RawMessage {
                subject: self.subject,
                headers: as_far_as_readable(&self.headers),
                payload: self.payload,
            },
            redelivered: true,
            token: AckToken(token.into()),
        }
    }
}

/// Whether the driver reads these headers as they travel, or gives up its connection.
fn is_readable(headers: &[u8]) -> bool {
    if headers.is_empty() {
        return true;
    }
    let Ok(text) = std::str::from_utf8(headers) else {
        return false;
    };
    let mut lines = text.lines();
    let Some(version) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else {
        return false;
    };
    let status = version.trim().split(' ').next().unwrap_or_default();
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return false;
    }
    let mut continues = false;
    lines.filter(|line| !line.is_empty()).all(|line| {
        // A line that begins with a space goes on with the value before it.
        let readable = match line.split_once(':') {
            _ if continues && line.starts_with(char::is_whitespace) => true,
            Some((name, _)) => HeaderName::from_str(name).is_ok(),
            None => false,
        };
        continues = true;
        readable
    })
}

/// What can be made of such headers: text, without control characters, a line that has no name under an empty one.
fn as_far_as_readable(headers: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(headers).replace(|it: char| it.is_control() && it != '\n', "");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("NATS/1.0"));
    let header = |line: &str| match line.split_once(':') {
        Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
        None => (String::new(), line.trim().to_owned()),
    };
    lines.map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_writes_it_can_read() {
        let written = "NATS/1.0\r\nNats-Msg-Id: a\r\ntraceparent: 00-a-b-01\r\n\r\n";
        for readable in [
            written,
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0 503\r\n\r\n",
            "NATS/1.0\r\na: b\r\n c\r\n\r\n",
        ] {
            assert!(is_readable(readable.as_bytes()), "{readable:?}");
        }
    }

    #[test]
    fn what_it_gives_up_at_is_taken_as_far_as_it_goes() {
        for (headers, expected) in [
            (
                &b"NATS/1.0\r\na: \xff\r\nb: c\r\n\r\n"[..],
                &[("a", "\u{fffd}"), ("b", "c")][..],
            ),
            (b"NATS/1.0\r\na b: c\0\r\n\r\n", &[("a b", "c")]),
            (b"NATS/1.0\r\nnothing\r\n\r\n", &[("", "nothing")]),
            (b"NATS/1.0 x\r\n\r\n", &[]),
            (b"HTTP/1.1\r\n\r\n", &[("", "HTTP/1.1")]),
        ] {
            assert!(!is_readable(headers), "{headers:?}");
            let found = as_far_as_readable(headers);
            let found: Vec<_> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!(found, expected);
        }
    }
}
