//! Orders in four tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use order_domain::{
    Batch, FoundOrders, OrderDocument, OrderPage, OrderQuery, OrderRepository, OrderStream, OrderUid,
    RepositoryError, StoreReport,
};

use crate::pool::{Lent, Pool};
use crate::reads::{self, Reads};
use crate::store::{self, Shared};
use crate::{bulk, lists};

/// [`OrderRepository`] on PostgreSQL. Storing, reading and reading in bulk use connections of their own each, so that none starves the
/// others.
pub struct PostgresOrderRepository {
    pub(crate) ingest: Arc<Pool>,
    pub(crate) read: Arc<Pool>,
    pub(crate) bulk: Arc<Pool>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) shared: Shared,
    pub(crate) batch_deadline: Duration,
    pub(crate) read_deadline: Duration,
    pub(crate) bulk_deadline: Duration,
}

impl PostgresOrderRepository {
    /// The statement that finds an order by its uid, `$1`: for whoever wants to explain or to measure it.
    pub const FIND: &str = reads::FIND;
}

#[async_trait]
impl OrderRepository for PostgresOrderRepository {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let work = async |lent: &Lent| store::store(lent, batch, &self.shared).await;
        Ok(self.ingest.within(self.batch_deadline, work).await?)
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        Ok(self.reads.find(uid).await?)
    }

    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError> {
        let work = async |lent: &Lent| lists::find_many(lent, uids, max_bytes).await;
        Ok(self.read.within(self.read_deadline, work).await?)
    }

    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError> {
        let work = async |lent: &Lent| lists::page(lent, query, self.read_deadline).await;
        Ok(self.read.within(self.read_deadline, work).await?)
    }

    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_> {
        bulk::newest(Arc::clone(&self.bulk), self.bulk_deadline, limit, max_bytes)
    }
}
