//! Publishing messages, many at a time, each under an id of its own until it is acknowledged.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures::stream::{FuturesUnordered, StreamExt};
use order_domain::{Backoff, BusError, OrderBus, OutgoingMessage, PublishAck};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use xtask::orders::Message;

/// The most messages that wait for their acknowledgement at once.
const MOST_MESSAGES: usize = 1_024;
/// No further message while the waiting ones have so many bytes.
const MOST_BYTES: usize = 32 << 20;
/// How long messages that were sent may still be acknowledged after the run was asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// How a run publishes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// What every message id of this run begins with. It differs from run to run, or the broker would take a second run with the
    /// same seed for repeated attempts of the first.
    pub(crate) run: String,
    /// How many messages a second, or as many as the broker takes.
    pub(crate) rate: Option<f64>,
}

/// Whether a run goes on, as the person who started it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// To the end.
    GoOn,
    /// Nothing more is sent; what was sent may still be acknowledged for a few seconds.
    End,
    /// At once.
    EndNow,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The broker has stored it.
    Acknowledged(PublishAck),
    /// The broker refuses it for good, and has not stored it.
    Refused(String),
    /// The run ended first: it may be stored or not.
    Unknown,
}

/// How far a run is, for others to look at meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Messages sent, each counted once however often it was tried.
    pub(crate) published: AtomicU64,
    /// Messages that the broker has stored.
    pub(crate) acknowledged: AtomicU64,
    /// Why publishing stalls, while it does.
    trouble: Mutex<Option<String>>,
}

impl Standing {
    /// Why publishing stalls; `None` while it does not.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .expect("nothing panics under this lock")
            .clone()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().expect("nothing panics under this lock") = trouble;
    }
}

/// How long a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// From the first message sent to the last one acknowledged.
    pub(crate) elapsed: Duration,
    /// How late the latest message was sent, where a rate was asked for.
    pub(crate) late: Duration,
}

/// Publishes all `messages`; tells `settle` the id and the fate of each.
///
/// The moment of each message follows from its number alone, so that a stall is made up for and the rate does not drift. While the
/// broker is away the same ids are tried again until it is back: what it had stored already, it does not store twice.
///
/// # Errors
///
/// Where the broker cannot serve at all, or `settle` fails.
pub(crate) async fn publish(
    bus: &dyn OrderBus,
    mut messages: mpsc::Receiver<Message>,
    plan: &Plan,
    mut wish: watch::Receiver<Wish>,
    standing: &Standing,
    mut settle: impl FnMut(&str, Message, Fate) -> Result<()>,
) -> Result<Times> {
    let start = Instant::now();
    let mut times = Times {
        elapsed: Duration::ZERO,
        late: Duration::ZERO,
    };
    let mut attempts = FuturesUnordered::new();
    let mut waiting = HashMap::<u64, Message>::new();
    let mut waiting_bytes = 0;
    let mut number = 0;
    let mut more = true;
    let mut give_up: Option<Instant> = None;
    let mut failure = None;
    while failure.is_none() && (more || !waiting.is_empty()) {
        let due = plan
            .rate
            .map(|rate| start + Duration::from_secs_f64(number as f64 / rate));
        let room = waiting.len() < MOST_MESSAGES && waiting_bytes < MOST_BYTES;
        tokio::select! {
            // A sender that has gone wishes nothing any more.
            Ok(()) = wish.changed() => match *wish.borrow_and_update() {
                Wish::GoOn => {}
                Wish::End => (more, give_up) = (false, Some(Instant::now() + GRACE)),
                Wish::EndNow => (more, give_up) = (false, Some(Instant::now())),
            },
            Some((number, answer)) = attempts.next() => {
                let message: Message = waiting.remove(&number).expect("each attempt has its message");
                waiting_bytes -= message.payload.len();
                times.elapsed = start.elapsed();
                let fate = match answer {
                    Ok(ack) => Fate::Acknowledged(ack),
                    Err(BusError::Refused(source)) => Fate::Refused(source.to_string()),
                    // No other message will fare better.
                    Err(error) => {
                        failure = Some(anyhow!("{error}"));
                        Fate::Unknown
                    }
                };
                if matches!(fate, Fate::Acknowledged(_)) {
                    standing.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                settle(&plan.id(number), message, fate)?;
            }
            message = next(&mut messages, due), if more && room => match message {
                Some(message) => {
                    times.late = times.late.max(due.map_or(Duration::ZERO, |due| due.elapsed()));
                    standing.published.fetch_add(1, Ordering::Relaxed);
                    let outgoing = OutgoingMessage {
                        id: plan.id(number),
                        headers: Vec::new(),
                        payload: message.payload.clone(),
                    };
                    waiting_bytes += message.payload.len();
                    waiting.insert(number, message);
                    attempts.push(async move { (number, attempt(bus, outgoing, standing).await) });
                    number += 1;
                }
                None => more = false,
            },
            () = sleep_until(give_up.unwrap_or(start)), if give_up.is_some() => break,
        }
    }
    for (number, message) in waiting {
        settle(&plan.id(number), message, Fate::Unknown)?;
    }
    failure.map_or(Ok(times), Err)
}

impl Plan {
    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }
}

/// The next message, not before it is due. Can be dropped at any point and asked again.
async fn next(messages: &mut mpsc::Receiver<Message>, due: Option<Instant>) -> Option<Message> {
    if let Some(due) = due.filter(|due| *due > Instant::now()) {
        sleep_until(due).await;
    }
    messages.recv().await
}

/// Publishes one message until there is an answer.
async fn attempt(
    bus: &dyn OrderBus,
    message: OutgoingMessage,
    standing: &Standing,
) -> Result<PublishAck, BusError> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut failed = false;
    loop {
        match bus.publish(message.clone()).await {
            Err(BusError::Unavailable(source)) => {
                standing.set_trouble(Some(source.to_string()));
                failed = true;
                sleep(backoff.step()).await;
            }
            answer => {
                if failed {
                    standing.set_trouble(None);
                }
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests;
