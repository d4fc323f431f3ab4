//! The bus as one replica reaches it: deliveries come late, twice and out of order, and acknowledgements are lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::world::{Life, World};
use crate::{
    AckToken, Backlog, BusError, BusState, IncomingMessage, OrderBus, OutgoingMessage, PublishAck, Revision,
    Subscription, TakeLimits,
};

/// One replica's connection to the bus.
#[derive(Clone)]
pub(super) struct BusConnection {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    pub(super) life: Life,
}

#[async_trait]
impl OrderBus for BusConnection {
    async fn publish(&self, message: OutgoingMessage) -> Result<PublishAck, BusError> {
        self.world.bus.publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, BusError> {
        self.life.go_on().await;
        self.world.linger(self.world.plan.slow_bus).await;
        self.life.go_on().await;
        let inner = self.world.bus.subscribe().await?;
        Ok(Box::new(HostileSubscription {
            connection: self.clone(),
            inner: inner.into(),
            fetched: VecDeque::new(),
            arrived: true,
            delivered: HashMap::new(),
            last: None,
        }))
    }

    fn state(&self) -> BusState {
        self.world.bus.state()
    }

    async fn backlog(&self) -> Result<Backlog, BusError> {
        self.world.bus.backlog().await
    }
}

struct HostileSubscription {
    connection: BusConnection,
    /// Behind a lock because a subscription can be sent to another thread, but not shared with it.
    inner: tokio::sync::Mutex<Box<dyn Subscription>>,
    /// What was fetched and not taken. It stays here while a `take` is dropped.
    fetched: VecDeque<IncomingMessage>,
    /// Whether it has waited as long as it has to.
    arrived: bool,
    /// What this subscription's tokens mean.
    delivered: HashMap<Vec<u8>, Revision>,
    /// Something delivered earlier, to be delivered twice.
    last: Option<IncomingMessage>,
}

impl HostileSubscription {
    fn world(&self) -> &World {
        &self.connection.world
    }

    fn disarrange(&mut self) {
        let world = Arc::clone(&self.connection.world);
        let plan = &world.plan;
        if world.chance(plan.duplicates) {
            let twice = self.last.clone().or_else(|| self.fetched.front().cloned());
            self.fetched.extend(twice.map(|message| IncomingMessage {
                redelivered: true,
                ..message
            }));
        }
        for place in 1..self.fetched.len() {
            if world.chance(plan.reordered) {
                self.fetched.swap(place, world.dice.within(0..place));
            }
        }
        self.last = self.fetched.back().cloned();
    }
}

#[async_trait]
impl Subscription for HostileSubscription {
    async fn take(&mut self, limits: TakeLimits) -> Result<Vec<IncomingMessage>, BusError> {
        self.connection.life.go_on().await;
        if self.fetched.is_empty() {
            self.fetched.extend(self.inner.get_mut().take(limits).await?);
            self.connection.life.go_on().await;
            for message in &self.fetched {
                self.delivered.insert(message.token.0.to_vec(), message.revision);
            }
            self.disarrange();
            self.arrived = false;
        }
        if !self.arrived {
            self.world().linger(self.world().plan.slow_bus).await;
            self.connection.life.go_on().await;
            self.arrived = true;
        }
        let some = limits.messages.clamp(1, self.fetched.len());
        let taken: Vec<IncomingMessage> = self.fetched.drain(..some).collect();
        let redelivered = taken.iter().filter(|message| message.redelivered).count();
        self.world().ledger().counts.redelivered += redelivered as u64;
        let replica = self.connection.replica;
        self.world().note(|| {
            let revisions: Vec<String> = taken.iter().map(|it| it.revision.to_string()).collect();
            format!("replica {replica} took {}", revisions.join(", "))
        });
        Ok(taken)
    }

    async fn acknowledge(&self, messages: &[AckToken], within: Duration) {
        self.connection.life.go_on().await;
        let BusConnection { world, replica, .. } = &self.connection;
        for AckToken(token) in messages {
            let now = world.now();
            match self.delivered.get(token.as_ref()) {
                Some(revision) => world.ledger().consumed(now, *replica, *revision),
                None => world.ledger().violated(
                    now,
                    format!("replica {replica} acknowledged what another subscription delivered"),
                ),
            }
        }
        let telling = async {
            world.linger(world.plan.slow_bus).await;
            self.connection.life.go_on().await;
            let arriving: Vec<AckToken> = messages
                .iter()
                .filter(|_| !world.chance(world.plan.lost_acks))
                .cloned()
                .collect();
            self.inner.lock().await.acknowledge(&arriving, within).await;
            world.linger(world.plan.slow_bus).await;
        };
        let _ = timeout(within, telling).await;
        self.connection.life.go_on().await;
    }

    async fn progress(&self, messages: &[AckToken]) {
        self.connection.life.go_on().await;
        if !self.world().chance(self.world().plan.lost_acks) {
            self.inner.lock().await.progress(messages).await;
        }
    }

    async fn release(self: Box<Self>, messages: &[AckToken], within: Duration) {
        self.connection.life.go_on().await;
        if !self.world().chance(self.world().plan.lost_acks) {
            let mut back = messages.to_vec();
            back.extend(self.fetched.into_iter().map(|message| message.token));
            self.inner.into_inner().release(&back, within).await;
        }
    }
}
