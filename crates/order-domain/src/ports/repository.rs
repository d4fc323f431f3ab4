//! Where orders are kept for good.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{Batch, Logged, OrderDocument, OrderPlace, OrderQuery, OrderUid, Revision};

/// Where orders are kept for good.
#[async_trait]
pub trait OrderRepository: Send + Sync {
    /// Stores a batch in one transaction, and returns only when it is durable.
    ///
    /// - An order MUST replace what is stored under its uid exactly if its revision is newer, and then as a whole: items that
    ///   the new version does not have are gone.
    /// - A dead letter MUST be recorded once, however often it is given; what is known of it already (that it was discarded,
    ///   say) MUST stay.
    /// - If any order changed, exactly one [`LogEntry`](crate::LogEntry) naming all that changed MUST become visible with
    ///   them, at a position higher than that of every entry visible before, and the report MUST tell which entry stands before it: none
    ///   may ever become visible between the two. If none changed, none may be appended.
    /// - Storing the same batch again MUST change nothing, so that a batch whose fate is unknown can be stored again.
    /// - Batches stored at the same time MUST NOT fail because of each other.
    ///
    /// # Errors
    ///
    /// [`Rejected`](RepositoryError::Rejected) if the data is at fault; nothing of the batch is then stored.
    /// [`Unavailable`](RepositoryError::Unavailable) if it may or may not have been stored.
    async fn store(&self, batch: &Batch) -> Result<StoreReport, RepositoryError>;

    /// The newest committed version of one order, `Ok(None)` if there is none.
    ///
    /// It MUST be whole (never the items of one version with the payment of another) and its bytes MUST be those that were
    /// stored.
    async fn find(&self, uid: &OrderUid) -> Result<Option<OrderDocument>, RepositoryError>;

    /// The newest committed versions of many orders, in the order of `uids`, all of one snapshot taken after the call.
    ///
    /// Each MUST be as [`find`](Self::find) answers it. Together they MUST have at most `max_bytes` of JSON, but the first that is
    /// found is answered whatever it has; which uids this leaves unanswered is told. `uids` has no uid twice.
    async fn find_many(&self, uids: &[OrderUid], max_bytes: usize) -> Result<FoundOrders, RepositoryError>;

    /// One page of the orders that fit a filter, those created last first, all of one snapshot taken after the call.
    ///
    /// - Each MUST be whole, as [`find`](Self::find) answers it, and MUST fit the filter byte by byte.
    /// - They MUST come in the order of their [`OrderPlace`], greatest first, without leaving one out that lies between the
    ///   query's place and the last one answered.
    /// - A page MUST end at the query's limits, but MUST have one order at least if there is one and the limit is not 0. `next` MUST be
    ///   there exactly if more would have come.
    ///
    /// So an order whose date does not change stands once in the pages that begin with it stored, however much is stored meanwhile.
    async fn page(&self, query: &OrderQuery) -> Result<OrderPage, RepositoryError>;

    /// At most `limit` orders, those created last, in chunks, all of one snapshot taken after the call.
    ///
    /// Where they weigh more than `max_bytes` together ([`OrderDocument::weight`]), they MUST come in order, those created last
    /// first, so that whoever stops there has the newest. Else their order is free.
    ///
    /// Memory in use MUST NOT grow with `limit`.
    fn newest(&self, limit: usize, max_bytes: u64) -> OrderStream<'_>;
}

/// Orders in chunks, as [`OrderRepository::newest`] reads them. It ends after the first error.
pub type OrderStream<'a> = BoxStream<'a, Result<Vec<OrderDocument>, RepositoryError>>;

/// What [`OrderRepository::find_many`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOrders {
    /// The orders, as they were asked for.
    pub orders: Vec<OrderDocument>,
    /// How many of the uids are answered, from the first on: those of them that are not among `orders` do not exist. Nothing is
    /// said of the rest, for which there was no room.
    pub answered: usize,
}

/// What [`OrderRepository::page`] read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderPage {
    /// The orders, those created last first.
    pub orders: Vec<OrderDocument>,
    /// Where the next page begins, after this place; `None` if this is the last one.
    pub next: Option<OrderPlace>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreReport {
    /// What became of each order, in the order of [`Batch::orders`].
    pub outcomes: Vec<StoreOutcome>,
    /// The entry in the commit log that names the orders that changed; `None` if none did.
    pub logged: Option<Logged>,
}

/// What became of one order of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It is the newest version now.
    Stored,
    /// A version at least as new was there already.
    Superseded {
        /// The version that is stored.
        by: Revision,
    },
}

/// Why a repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Out of reach, overloaded or too slow. A write may or may not have happened: do it again.
    #[error("the repository is out of reach: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The data is at fault: the same write will never succeed, and did not happen.
    #[error("the repository rejects the data: {0}")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else: a fault of ours, not of an order's. The write did not happen.
    #[error("the repository failed: {0}")]
    Other(#[source] Box<dyn std::error::Error + Send + Sync>),
}
