//! The database as one replica reaches it: every call takes its time on the way there and on the way back, and either way may
//! fail. Its effect is of one moment between the two.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::world::{Broken, Life, World};
use crate::{
    Batch, CommitLog, CommitLogError, DeadLetterError, DeadLetterQuery, DeadLetters, FoundOrders, LogCursor,
    LogPage, OrderDocument, OrderPage, OrderQuery, OrderRepository, OrderStream, OrderUid, RepositoryError,
    Revision, StoreReport, StoredDeadLetter,
};

/// One replica's connections to the database.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) world: Arc<World>,
    pub(super) replica: usize,
    pub(super) life: Life,
}

impl Connection {
    /// One more, beside that which a replica has.
    pub(super) fn new(world: &Arc<World>, replica: usize) -> Self {
        Connection {
            world: Arc::clone(world),
            replica,
            life: Life::default(),
        }
    }

    /// One way. A dead replica's calls neither arrive nor return.
    async fn travel(&self, slow: u32) -> Result<(), Broken> {
        self.life.go_on().await;
        let arrived = self.world.travel(self.replica, slow).await;
        self.life.go_on().await;
        arrived
    }
}

impl From<Broken> for RepositoryError {
    fn from(broken: Broken) -> Self {
        RepositoryError::Unavailable(broken.into())
    }
}

impl From<Broken> for DeadLetterError {
    fn from(broken: Broken) -> Self {
        DeadLetterError::Unavailable(broken.into())
    }
}

impl From<Broken> for CommitLogError {
    fn from(broken: Broken) -> Self {
        CommitLogError::Unavailable(broken.into())
    }
}

#[async_trait]
impl OrderRepository for Connection {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let slow = self.world.plan.slow_stores;
        self.travel(slow).await?;
        let report = self.world.store(self.world.now(), batch)?;
        self.world.note(|| format!("replica {} committed", self.replica));
        self.travel(slow).await?;
        Ok(report)
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        let slow = self.world.plan.slow_reads;
        self.travel(slow).await?;
        let found = self.world.stored(uid);
        self.travel(slow).await?;
        Ok(found)
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        let slow = self.world.plan.slow_reads;
        self.travel(slow).await?;
        let found = self.world.store.find_many(uids, max_bytes).await?;
        self.travel(slow).await?;
        Ok(found)
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        let slow = self.world.plan.slow_reads;
        self.travel(slow).await?;
        let page = self.world.store.page(query).await?;
        self.travel(slow).await?;
        Ok(page)
    }

    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_> {
        let slow = self.world.plan.slow_warm_ups;
        let snapshot = async move {
            self.travel(slow).await?;
            let mut orders = VecDeque::new();
            let mut chunks = self.world.store.newest(limit, max_bytes);
            while let Some(chunk) = chunks.next().await {
                orders.extend(chunk?);
            }
            drop(chunks);
            Ok(orders)
        };
        // The snapshot is of one moment; what it holds arrives little by little.
        let chunks = stream::once(snapshot).flat_map(move |snapshot| match snapshot {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(orders) => stream::unfold(orders, move |mut left: VecDeque<OrderDocument>| async move {
                let document = left.pop_front()?;
                let arrived = self.travel(slow).await;
                Some((
                    arrived.map(|()| vec![document]).map_err(RepositoryError::from),
                    left,
                ))
            })
            .boxed(),
        });
        chunks.boxed()
    }
}

#[async_trait]
impl CommitLog for Connection {
    async fn head(&self) -> Result<LogCursor, CommitLogError> {
        let slow = self.world.plan.slow_looks;
        self.travel(slow).await?;
        let head = self.world.store.head().await?;
        self.travel(slow).await?;
        Ok(head)
    }

    async fn read_after(&self, cursor: LogCursor, limit: usize) -> Result<LogPage, CommitLogError> {
        let slow = self.world.plan.slow_looks;
        self.travel(slow).await?;
        let page = self.world.store.read_after(cursor, limit).await?;
        self.travel(slow).await?;
        if page == LogPage::Gap {
            self.world.ledger().counts.gaps += 1;
            self.world
                .note(|| format!("replica {} found a gap after {}", self.replica, cursor.position));
        }
        Ok(page)
    }

    async fn changed(&self, cursor: LogCursor) {
        if self.world.chance(self.world.plan.missed_notices) {
            std::future::pending::<()>().await;
        }
        self.world.store.changed(cursor).await;
        self.world.linger(0).await;
    }

    async fn prune(&self, age: Duration) -> Result<u64, CommitLogError> {
        self.world.store.prune(age).await
    }
}

#[async_trait]
impl DeadLetters for Connection {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let slow = self.world.plan.slow_reads;
        self.travel(slow).await?;
        let found = DeadLetters::list(&self.world.store, query).await?;
        self.travel(slow).await?;
        Ok(found)
    }

    async fn find(&self, revision: Revision) -> Result<Option<StoredDeadLetter>, DeadLetterError> {
        let slow = self.world.plan.slow_reads;
        self.travel(slow).await?;
        let found = DeadLetters::find(&self.world.store, revision).await?;
        self.travel(slow).await?;
        Ok(found)
    }

    async fn discard(&self, revision: Revision) -> Result<bool, DeadLetterError> {
        DeadLetters::discard(&self.world.store, revision).await
    }
}
