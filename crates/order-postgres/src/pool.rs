//! Connections kept open, each lent for one piece of work at a time.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{
    self, Manager, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};
use deadpool_postgres::ClientWrapper;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::connector::{Connector, Session};
use crate::failure::Failure;
use crate::instruments::PoolInstruments;

/// A connection that was used within this time is lent again without being asked whether it lives.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Connections kept open for one purpose.
pub(crate) struct Pool {
    connections: managed::Pool<Connections>,
    instruments: Arc<PoolInstruments>,
    runtime: Handle,
}

/// How many connections, and how long to wait for one of them.
pub(crate) struct PoolSize {
    pub(crate) connections: usize,
    pub(crate) wait: Duration,
}

impl Pool {
    /// A pool without a connection yet. Does not touch the network.
    ///
    /// Its own semaphore is the short queue that stands before a purpose: whoever waits longer than `wait` is turned away.
    pub(crate) fn new(connector: &Arc<Connector>, session: Session, size: PoolSize) -> Self {
        let settings = connector.settings();
        let instruments = Arc::new(PoolInstruments::new(session.purpose));
        instruments.max.set(size.connections as f64);
        let connections = managed::Pool::builder(Connections {
            connector: Arc::clone(connector),
            session,
            instruments: Arc::clone(&instruments),
        })
        .max_size(size.connections)
        .timeouts(Timeouts {
            wait: Some(size.wait),
            create: Some(settings.create_timeout),
            recycle: Some(settings.recycle_timeout),
        })
        // What was used last is used next: few connections under little load, and those with warm caches.
        .queue_mode(QueueMode::Lifo)
        .runtime(Runtime::Tokio1)
        .build()
        .expect("a runtime is named, which is all that time-outs need");
        Pool {
            connections,
            instruments,
            runtime: connector.runtime().clone(),
        }
    }

    /// Lends a connection.
    pub(crate) async fn lend(&self) -> Result<Lent, Failure> {
        let asked = Instant::now();
        let got = if self.must_open() {
            // One that is open too late for whoever asked is there for the next. Were it dropped, there would never be any where
            // opening one takes longer than anybody waits: the server is far away, or the machine is busy.
            let connections = self.connections.clone();
            let opening = self.runtime.spawn(async move { connections.get().await });
            opening.await.map_err(Failure::unavailable)?
        } else {
            self.connections.get().await
        };
        let object = got.map_err(|error| match error {
            PoolError::Backend(failure) => failure,
            PoolError::Timeout(kind) => {
                self.instruments.timeouts.increment(1);
                Failure::unavailable(format!("no connection in time ({kind:?})"))
            }
            other => Failure::unavailable(format!("no connection ({other:?})")),
        })?;
        let lent = Instant::now();
        self.instruments.wait_time.record(lent - asked);
        Ok(Lent {
            object: Some(object),
            since: lent,
            instruments: Arc::clone(&self.instruments),
        })
    }

    /// The runtime on which the connections live.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Counts someone who waited for a connection in vain before the pool was asked for one.
    pub(crate) fn count_timeout(&self) {
        self.instruments.timeouts.increment(1);
    }

    fn must_open(&self) -> bool {
        let status = self.connections.status();
        status.available == 0 && status.size < status.max_size
    }

    /// Tells how many connections there are now, and how many wait for one: those who asked the pool, and `others`.
    pub(crate) fn sample(&self, others: usize) {
        let status = self.connections.status();
        let idle = status.available.min(status.size);
        self.instruments.idle.set(idle as f64);
        self.instruments.used.set((status.size - idle) as f64);
        self.instruments.pending.set((status.waiting + others) as f64);
    }

    /// Does a piece of work on a connection within `deadline`, waiting for the connection included.
    ///
    /// After a time-out amid the work the connection is dropped instead of going back: it may still be busy with the old statement,
    /// and the next borrower would wait for that. Nothing is cancelled on the server. So it is where the future is dropped.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        work: impl AsyncFnOnce(&Lent) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let attempt = async {
            let asked = Instant::now();
            let lent = self.lend().await?;
            // To open one takes more than twice the round trips of a statement, so this one would not be done in time. Begun all the
            // same, it would cost the connection, and the next would fare no better.
            if asked.elapsed() > deadline * 2 / 3 {
                lent.give_back();
                return Err(Failure::unavailable(format!(
                    "a connection came too late for {deadline:?}"
                )));
            }
            let result = work(&lent).await;
            // A rejected value leaves a connection as good as before. Anything else might not: a former primary, a
            // statement prepared before a migration.
            if matches!(result, Ok(_) | Err(Failure::Rejected(_))) {
                lent.give_back();
            }
            result
        };
        match timeout(deadline, attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::unavailable(format!("not done within {deadline:?}"))),
        }
    }
}

/// A connection on loan. Dropped, it is closed; only [`give_back`](Lent::give_back) returns it to the pool.
pub(crate) struct Lent {
    object: Option<Object<Connections>>,
    since: Instant,
    instruments: Arc<PoolInstruments>,
}

impl Lent {
    /// Returns the connection, on which no statement is under way, to the pool.
    pub(crate) fn give_back(mut self) {
        drop(self.object.take());
    }
}

impl Deref for Lent {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        self.object
            .as_deref()
            .expect("a connection is only taken out when its loan ends")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.instruments.use_time.record(self.since.elapsed());
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// Opens connections for the pool, and looks at them before they are lent again.
struct Connections {
    connector: Arc<Connector>,
    session: Session,
    instruments: Arc<PoolInstruments>,
}

impl Manager for Connections {
    type Type = ClientWrapper;
    type Error = Failure;

    async fn create(&self) -> Result<ClientWrapper, Failure> {
        let began = Instant::now();
        let (client, task) = self.connector.open(self.session, |_| {}).await?;
        self.instruments.create_time.record(began.elapsed());
        Ok(ClientWrapper::new(client, task))
    }

    async fn recycle(&self, client: &mut ClientWrapper, metrics: &Metrics) -> RecycleResult<Failure> {
        if client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        // Under load this costs nothing; after a rest, a connection whose other side vanished without a word is found here
        // instead of by someone's order.
        if metrics.last_used() > TRUSTED_FOR {
            client.simple_query("").await.map_err(Failure::from)?;
        }
        Ok(())
    }
}
