//! A bus that is a list of messages.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{
    AckToken, Backlog, BusError, BusState, IncomingMessage, OrderBus, OutgoingMessage, PublishAck,
    RawMessage, Revision, Subscription, TakeLimits,
};

/// An [`OrderBus`] in memory, with handles for what a real one does at its worst: it stamps what it is told, is cut off,
/// forgets acknowledgements, and is recreated empty.
///
/// Clones are the same bus. Its time is tokio's, so that a test may pause it.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits in `take`, when there may be something new to see.
    changed: Notify,
}

/// What a [`MemoryBus`] held when it was backed up.
#[derive(Debug, Clone)]
pub struct MemoryBusBackup(State);

#[derive(Debug, Clone)]
struct State {
    reachable: bool,
    ack_wait: Duration,
    max_payload: usize,
    clock: i64,
    last_sequence: u64,
    messages: HashMap<u64, Stored>,
    /// The ids ever used, with the sequence of what was stored under each.
    ids: HashMap<String, u64>,
    /// What waits to be delivered, by sequence.
    ready: VecDeque<u64>,
    /// What was delivered and not answered: when it is due again.
    in_flight: BTreeMap<u64, Instant>,
    /// Counts up when every open subscription ends.
    generation: u64,
    acknowledged: Vec<Revision>,
}

#[derive(Debug, Clone)]
struct Stored {
    message: RawMessage,
    revision: Revision,
    deliveries: u32,
}

impl MemoryBus {
    /// The subject that every message carries.
    pub const SUBJECT: &'static str = "orders";

    /// An empty bus in reach, whose messages come again after `ack_wait`.
    pub fn new(ack_wait: Duration) -> Self {
        let state = State {
            reachable: true,
            ack_wait,
            max_payload: 1 << 20,
            clock: 1_700_000_000_000_000,
            last_sequence: 0,
            messages: HashMap::new(),
            ids: HashMap::new(),
            ready: VecDeque::new(),
            in_flight: BTreeMap::new(),
            generation: 0,
            acknowledged: Vec::new(),
        };
        MemoryBus {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    /// From the next delivery on, messages come again after `ack_wait`.
    pub fn set_ack_wait(&self, ack_wait: Duration) {
        self.lock().ack_wait = ack_wait;
    }

    /// Payloads of more bytes are refused from now on; 1 MiB at first.
    pub fn set_max_payload(&self, bytes: usize) {
        self.lock().max_payload = bytes;
    }

    /// Sets the clock that stamps revisions: the next message is stored at `published_at`, each further one a microsecond
    /// later. It may step back.
    pub fn set_clock(&self, published_at: i64) {
        self.lock().clock = published_at;
    }

    /// Cuts the bus off, which ends every open subscription, or brings it back.
    pub fn set_reachable(&self, reachable: bool) {
        self.change(|state| {
            state.reachable = reachable;
            state.generation += u64::from(!reachable);
        });
    }

    /// Ends every open subscription, as when the consumer is deleted; what they held comes again after `ack_wait`.
    pub fn end_subscriptions(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Delivers everything anew, acknowledged or not, as a broker does whose state was lost in a crash.
    pub fn forget_acknowledgements(&self) {
        self.change(|state| {
            state.in_flight.clear();
            let mut all: Vec<u64> = state.messages.keys().copied().collect();
            all.sort_unstable();
            state.ready = all.into();
        });
    }

    /// Loses all messages and ids and hands out sequences from 1 again, as a stream that was deleted and recreated does.
    pub fn recreate(&self) {
        self.change(|state| {
            state.messages.clear();
            state.ids.clear();
            state.ready.clear();
            state.in_flight.clear();
            state.last_sequence = 0;
            state.generation += 1;
        });
    }

    /// What is held now.
    pub fn backup(&self) -> MemoryBusBackup {
        MemoryBusBackup(self.lock().clone())
    }

    /// Sets everything back, as a broker is whose store was restored: every message is delivered anew, and later sequences are handed out
    /// again. Its clock goes on.
    pub fn restore(&self, backup: MemoryBusBackup) {
        self.change(|state| {
            let MemoryBusBackup(before) = backup;
            *state = State {
                clock: state.clock,
                generation: state.generation + 1,
                reachable: state.reachable,
                ..before
            };
        });
        self.forget_acknowledgements();
    }

    /// Which messages were acknowledged, in the order in which they were; one acknowledged twice stands twice.
    pub fn acknowledged(&self) -> Vec<Revision> {
        self.lock().acknowledged.clone()
    }

    /// How many messages wait to be delivered, those whose `ack_wait` has passed included.
    pub fn waiting(&self) -> usize {
        let mut state = self.lock();
        state.return_what_is_due();
        state.ready.len()
    }

    /// How many messages were delivered and are neither acknowledged nor due again.
    pub fn in_flight(&self) -> usize {
        let mut state = self.lock();
        state.return_what_is_due();
        state.in_flight.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.changed.notify_waiters();
    }
}

/// A bus whose messages come again after 15 seconds.
impl Default for MemoryBus {
    fn default() -> Self {
        Self::new(Duration::from_secs(15))
    }
}

impl State {
    fn store(&mut self, message: OutgoingMessage) -> PublishAck {
        if let Some(&sequence) = self.ids.get(&message.id) {
            return PublishAck {
                sequence,
                duplicate: true,
            };
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        let revision = Revision {
            published_at: self.clock,
            sequence,
        };
        self.clock += 1;
        let subject = MemoryBus::SUBJECT.to_owned();
        let message_as_stored = RawMessage {
            subject,
            headers: message.headers,
            payload: message.payload,
        };
        self.messages.insert(
            sequence,
            Stored {
                message: message_as_stored,
                revision,
                deliveries: 0,
            },
        );
        self.ids.insert(message.id, sequence);
        self.ready.push_back(sequence);
        PublishAck {
            sequence,
            duplicate: false,
        }
    }

    /// Makes what nobody answered in time ready again.
    fn return_what_is_due(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(it, _)| *it)
            .collect();
        for sequence in due {
            self.in_flight.remove(&sequence);
            self.ready.push_back(sequence);
        }
    }

    fn backlog(&self) -> Backlog {
        let open = || self.ready.iter().chain(self.in_flight.keys());
        let messages = || open().filter_map(|sequence| self.messages.get(sequence));
        let undelivered = messages().filter(|it| it.deliveries == 0).count() as u64;
        Backlog {
            undelivered,
            unacknowledged: messages().count() as u64 - undelivered,
            oldest: messages()
                .map(|it| it.revision.published_at)
                .min()
                .and_then(|micros| Timestamp::from_microsecond(micros).ok()),
            kept_for: None,
        }
    }

    fn deliver(&mut self, limits: TakeLimits) -> Vec<IncomingMessage> {
        let due = Instant::now() + self.ack_wait;
        let mut taken = Vec::new();
        let mut bytes = 0;
        // One message is always taken, so that no limit can stop the subscription for good.
        while taken.is_empty() || (taken.len() < limits.messages && bytes < limits.bytes) {
            let Some(sequence) = self.ready.pop_front() else {
                break;
            };
            let Some(stored) = self.messages.get_mut(&sequence) else {
                continue;
            };
            stored.deliveries += 1;
            bytes += stored.message.payload.len();
            self.in_flight.insert(sequence, due);
            taken.push(IncomingMessage {
                message: stored.message.clone(),
                revision: stored.revision,
                redelivered: stored.deliveries > 1,
                token: AckToken(Bytes::copy_from_slice(&stored.revision.sequence.to_be_bytes())),
            });
        }
        taken
    }
}

/// The sequence that a token names; `None` for a token of another bus.
fn sequence_of(token: &AckToken) -> Option<u64> {
    token.0.as_ref().try_into().ok().map(u64::from_be_bytes)
}

fn out_of_reach() -> BusError {
    BusError::Unavailable("cut off".into())
}

#[async_trait]
impl OrderBus for MemoryBus {
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        let ack = {
            let mut state = self.lock();
            if !state.reachable {
                return Err(out_of_reach());
            }
            if message.payload.len() > state.max_payload {
                return Err(BusError::Refused(
                    format!("more than {} bytes", state.max_payload).into(),
                ));
            }
            state.store(message)
        };
        self.shared.changed.notify_waiters();
        Ok(ack)
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        let state = self.lock();
        if !state.reachable {
            return Err(out_of_reach());
        }
        Ok(Box::new(MemorySubscription {
            bus: self.clone(),
            generation: state.generation,
        }))
    }

    fn state(&self) -> BusState {
        if self.lock().reachable {
            BusState::Connected
        } else {
            BusState::Disconnected
        }
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        let state = self.lock();
        if state.reachable {
            Ok(state.backlog())
        } else {
            Err(out_of_reach())
        }
    }
}

/// A subscription that fetches nothing ahead: what it did not take is still the bus's.
struct MemorySubscription {
    bus: MemoryBus,
    generation: u64,
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn take(&mut self, limits: TakeLimits) -> Result<Vec<IncomingMessage>, BusError> {
        loop {
            // Made before the look, so that what changes between the look and the wait wakes it.
            let changed = self.bus.shared.changed.notified();
            let next_due = {
                let mut state = self.bus.lock();
                if state.generation != self.generation {
                    return Err(BusError::Unavailable("the subscription ended".into()));
                }
                state.return_what_is_due();
                let taken = state.deliver(limits);
                if !taken.is_empty() {
                    return Ok(taken);
                }
                state.in_flight.values().min().copied()
            };
            match next_due {
                Some(due) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    async fn acknowledge(&self, messages: &[AckToken], _within: Duration) {
        let mut state = self.bus.lock();
        if !state.reachable {
            return;
        }
        for sequence in messages.iter().filter_map(sequence_of) {
            if state.in_flight.remove(&sequence).is_none() {
                // It was due again before its answer came, which counts all the same.
                state.ready.retain(|ready| *ready != sequence);
            }
            if let Some(revision) = state.messages.get(&sequence).map(|stored| stored.revision) {
                state.acknowledged.push(revision);
            }
        }
    }

    async fn progress(&self, messages: &[AckToken]) {
        let mut state = self.bus.lock();
        let due = Instant::now() + state.ack_wait;
        if state.reachable {
            for sequence in messages.iter().filter_map(sequence_of) {
                if let Some(in_flight) = state.in_flight.get_mut(&sequence) {
                    *in_flight = due;
                }
            }
        }
    }

    async fn release(self: Box<Self>, messages: &[AckToken], _within: Duration) {
        self.bus.change(|state| {
            if state.reachable {
                for sequence in messages.iter().filter_map(sequence_of) {
                    if state.in_flight.remove(&sequence).is_some() {
                        state.ready.push_back(sequence);
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract::bus::BusFixture;

    #[async_trait]
    impl BusFixture for MemoryBus {
        async fn open(ack_wait: Duration) -> Self {
            MemoryBus::new(ack_wait)
        }

        fn bus(&self) -> &dyn OrderBus {
            self
        }

        async fn close(self) {}
    }

    crate::order_bus_contract!(MemoryBus);

    const UNLIMITED: TakeLimits = TakeLimits {
        messages: usize::MAX,
        bytes: usize::MAX,
    };

    async fn publish(bus: &MemoryBus, id: &str) -> PublishAck {
        let message = OutgoingMessage {
            id: id.to_owned(),
            headers: Vec::new(),
            payload: Bytes::from(id.to_owned()),
        };
        bus.publish(message).await.expect("stored")
    }

    #[tokio::test]
    async fn the_clock_can_step_back() {
        let bus = MemoryBus::default();
        bus.set_clock(1_000);
        publish(&bus, "a").await;
        bus.set_clock(500);
        publish(&bus, "b").await;
        let taken = bus.subscribe().await.unwrap().take(UNLIMITED).await.unwrap();
        assert!(taken[1].revision.is_behind_the_clock_of(&taken[0].revision));
    }

    #[tokio::test]
    async fn what_is_cut_off_says_so_and_ends_its_subscriptions() {
        let bus = MemoryBus::default();
        let mut subscription = bus.subscribe().await.unwrap();
        let cut_off = async { bus.set_reachable(false) };
        let (taken, ()) = tokio::join!(subscription.take(UNLIMITED), cut_off);
        assert!(matches!(taken, Err(BusError::Unavailable(_))));
        assert!(matches!(
            bus.subscribe().await.err(),
            Some(BusError::Unavailable(_))
        ));
        assert_eq!(bus.state(), BusState::Disconnected);
        bus.set_reachable(true);
        publish(&bus, "a").await;
        assert_eq!(
            bus.subscribe()
                .await
                .unwrap()
                .take(UNLIMITED)
                .await
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn forgotten_acknowledgements_and_a_recreated_stream_show() {
        let bus = MemoryBus::default();
        publish(&bus, "a").await;
        let mut subscription = bus.subscribe().await.unwrap();
        let taken = subscription.take(UNLIMITED).await.unwrap();
        subscription
            .acknowledge(&[taken[0].token.clone()], Duration::ZERO)
            .await;
        assert_eq!(bus.acknowledged(), [taken[0].revision]);
        assert_eq!((bus.waiting(), bus.in_flight()), (0, 0));

        bus.forget_acknowledgements();
        let again = subscription.take(UNLIMITED).await.unwrap();
        assert_eq!(
            (again[0].revision, again[0].redelivered),
            (taken[0].revision, true)
        );
        assert_eq!(bus.in_flight(), 1);

        bus.recreate();
        assert!(subscription.take(UNLIMITED).await.is_err());
        assert_eq!(
            publish(&bus, "a").await,
            PublishAck {
                sequence: 1,
                duplicate: false
            }
        );
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_is_tokios() {
        let bus = MemoryBus::new(Duration::from_secs(3_600));
        publish(&bus, "a").await;
        let mut subscription = bus.subscribe().await.unwrap();
        subscription.take(UNLIMITED).await.unwrap();
        assert!(subscription.take(UNLIMITED).await.unwrap()[0].redelivered);
    }
}
