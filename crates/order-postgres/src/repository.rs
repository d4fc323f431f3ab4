//! Orders in four tables.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use order_domain::{
    Batch, OrderDocument, OrderRepository, OrderStream, OrderUid, RepositoryError, StoreReport,
};

use crate::bulk;
use crate::failure::Failure;
use crate::pool::{Lent, Pool};
use crate::rows::{
    DELIVERY_WIDTH, ORDER_WIDTH, PAYMENT_WIDTH, StoredOrder, delivery, delivery_columns, item_columns, items,
    order_columns, payment, payment_columns,
};
use crate::store::{self, Shared};

/// One statement, and so one version of the order whatever is committed meanwhile.
const FIND: &str = concat!(
    "SELECT ",
    order_columns!(),
    ", ",
    delivery_columns!(),
    ", ",
    payment_columns!(),
    ", items.*
     FROM orders
     LEFT JOIN delivery ON delivery.order_uid = orders.order_uid
     LEFT JOIN payment ON payment.order_uid = orders.order_uid
     CROSS JOIN LATERAL (
         SELECT ",
    item_columns!(),
    "    FROM (SELECT * FROM items WHERE items.order_uid = $1 ORDER BY position) AS sorted
     ) AS items
     WHERE orders.order_uid = $1"
);

/// [`OrderRepository`] on PostgreSQL. Storing and reading use connections of their own each, so that neither starves the other.
pub struct PostgresOrderRepository {
    pub(crate) ingest: Arc<Pool>,
    pub(crate) read: Arc<Pool>,
    pub(crate) shared: Shared,
    pub(crate) batch_deadline: Duration,
    pub(crate) read_deadline: Duration,
    pub(crate) bulk_deadline: Duration,
}

#[async_trait]
impl OrderRepository for PostgresOrderRepository {
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError> {
        let work = async |lent: &Lent| store::store(lent, batch, &self.shared).await;
        Ok(self.ingest.within(self.batch_deadline, work).await?)
    }

    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError> {
        let work = async |lent: &Lent| find(lent, uid).await;
        Ok(self.read.within(self.read_deadline, work).await?)
    }

    fn newest(&self, limit: usize) -> OrderStream<'_> {
        bulk::newest(Arc::clone(&self.read), self.bulk_deadline, limit)
    }
}

async fn find(lent: &Lent, uid: &OrderUid) -> Result<Option<OrderDocument>, Failure> {
    let statement = lent.prepare_cached(FIND).await?;
    let Some(row) = lent.query_opt(&statement, &[&uid.as_str()]).await? else {
        return Ok(None);
    };
    let (delivery_at, payment_at) = (ORDER_WIDTH, ORDER_WIDTH + DELIVERY_WIDTH);
    let order = StoredOrder::read(&row, 0)?;
    // A part that is missing reads as NULL, and that as an error which names its column: better than half an order.
    Ok(Some(order.document(
        delivery(&row, delivery_at)?,
        payment(&row, payment_at)?,
        items(&row, payment_at + PAYMENT_WIDTH)?,
    )))
}
