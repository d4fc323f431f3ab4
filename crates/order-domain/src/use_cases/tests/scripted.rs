//! A repository that does what a test tells it to.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::testing::memory::MemoryStore;
use crate::{
    Batch, FoundOrders, OrderDocument, OrderPage, OrderQuery, OrderRepository, OrderStream, OrderUid,
    RepositoryError, StoreReport,
};

/// A [`MemoryStore`] that fails, rejects and waits as it is told.
pub(super) struct Scripted {
    pub(super) inner: MemoryStore,
    plan: Mutex<Plan>,
    /// How many more calls are let through; `None` for all.
    allowed: watch::Sender<Option<usize>>,
}

#[derive(Default)]
struct Plan {
    failures: VecDeque<RepositoryError>,
    poison: HashSet<String>,
    always: Option<fn() -> RepositoryError>,
    at_most: Option<usize>,
    batches: Vec<usize>,
    under_way: Vec<Vec<OrderUid>>,
    finds: usize,
}

impl Scripted {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Scripted {
            inner: MemoryStore::default(),
            plan: Mutex::default(),
            allowed: watch::Sender::new(None),
        })
    }

    /// Every call waits until this is called with `false`.
    pub(super) fn hold(&self, held: bool) {
        self.allowed.send_replace(held.then_some(0));
    }

    /// Lets one call through that waits.
    pub(super) fn let_one_through(&self) {
        self.allowed.send_replace(Some(1));
    }

    /// The next stores fail like this.
    pub(super) fn fail_with(&self, failures: impl IntoIterator<Item = RepositoryError>) {
        self.plan().failures.extend(failures);
    }

    /// Every call fails like this, until told otherwise.
    pub(super) fn always_fail(&self, failure: Option<fn() -> RepositoryError>) {
        self.plan().always = failure;
    }

    /// Batches of more orders than this take too long.
    pub(super) fn store_at_most(&self, orders: usize) {
        self.plan().at_most = Some(orders);
    }

    /// Batches that hold this order are rejected.
    pub(super) fn reject(&self, uid: &str) {
        self.plan().poison.insert(uid.to_owned());
    }

    /// No batch is rejected any more.
    pub(super) fn reject_none(&self) {
        self.plan().poison.clear();
    }

    /// How many orders each batch had that was stored.
    pub(super) fn batches(&self) -> Vec<usize> {
        self.plan().batches.clone()
    }

    /// The orders of each batch whose store has begun and not ended.
    pub(super) fn under_way(&self) -> Vec<Vec<OrderUid>> {
        self.plan().under_way.clone()
    }

    /// How often the repository was asked for orders: for one, for many, or for a page.
    pub(super) fn finds(&self) -> usize {
        self.plan().finds
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("no test panics while it holds the plan")
    }

    async fn store_as_planned(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        self.pass().await?;
        if let Some(failure) = self.plan().failures.pop_front() {
            return Err(failure);
        }
        if self
            .plan()
            .at_most
            .is_some_and(|most| batch.orders().len() > most)
        {
            return Err(unavailable());
        }
        if batch
            .orders()
            .iter()
            .any(|it| self.plan().poison.contains(it.order.order_uid.as_str()))
        {
            return Err(RepositoryError::Rejected("scripted poison".into()));
        }
        self.plan().batches.push(batch.orders().len());
        self.inner.store(batch).await
    }

    async fn pass(&self) -> Result<(), RepositoryError> {
        let mut allowed = self.allowed.subscribe();
        loop {
            let mut passes = false;
            self.allowed.send_if_modified(|left| {
                passes = *left != Some(0);
                *left = left.map(|left| left.saturating_sub(1));
                false
            });
            if passes {
                break;
            }
            allowed.changed().await.expect("the sender lives in self");
        }
        self.plan().always.map_or(Ok(()), |failure| Err(failure()))
    }
}

pub(super) fn unavailable() -> RepositoryError {
    RepositoryError::Unavailable("scripted".into())
}

pub(super) fn our_fault() -> RepositoryError {
    RepositoryError::Other("scripted".into())
}

#[async_trait]
impl OrderRepository for Scripted {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let uids = batch.orders().iter().map(|it| it.order.order_uid.clone());
        let uids: Vec<OrderUid> = uids.collect();
        self.plan().under_way.push(uids.clone());
        let report = self.store_as_planned(batch).await;
        let mut plan = self.plan();
        let place = plan.under_way.iter().position(|other| *other == uids);
        plan.under_way.swap_remove(place.expect("it was put there"));
        report
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        self.plan().finds += 1;
        self.pass().await?;
        self.inner.find(uid).await
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        self.plan().finds += 1;
        self.pass().await?;
        self.inner.find_many(uids, max_bytes).await
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        self.plan().finds += 1;
        self.pass().await?;
        self.inner.page(query).await
    }

    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_> {
        self.inner.newest(limit, max_bytes)
    }
}
