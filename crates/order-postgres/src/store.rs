//! Storing a batch: one transaction.
//!
//! A small batch is sent in one round trip, and the database finds out which of its orders are newer than what it has. A large one
//! asks first which orders are stored at all: those that are not are copied straight into the tables, for less than half the price,
//! and only the others go through those statements. Where nothing but new orders came for a while, it is copied without asking.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use deadpool_postgres::ClientWrapper;
use futures::{SinkExt, join, pin_mut, try_join};
#[cfg(feature = "failpoints")]
use order_domain::failpoints::{self, Moment};
use order_domain::{Batch, Logged, OrderUid, RevisedOrder, Revision, StoreOutcome, StoreReport};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row, Statement};

use crate::columns::{Columns, LetterKeys, Letters, Parameters, Versions};
use crate::copy::TABLES;
use crate::failure::Failure;
use crate::rows::{cursor, get, revision};

/// What every batch is stored with.
pub(crate) struct Shared {
    /// What the lock on the commit log is derived from.
    pub(crate) lock_key: String,
    /// The channel on which a commit is announced.
    pub(crate) channel: String,
    /// From how many orders on the new ones of a batch are copied.
    pub(crate) copy_from: usize,
    /// How many batches of those were asked for one after another, and had nothing but new orders.
    pub(crate) new_in_a_row: AtomicU32,
}

impl Shared {
    /// Whether a batch may be taken to have nothing but new orders, without asking.
    fn expects_new(&self) -> bool {
        self.new_in_a_row.load(Relaxed) >= EXPECTED_AFTER
    }

    fn learn(&self, all_were_new: bool) {
        if all_were_new {
            self.new_in_a_row.fetch_add(1, Relaxed);
        } else {
            self.new_in_a_row.store(0, Relaxed);
        }
    }
}

/// After so many batches of new orders the next is expected to be one. Where it is not, it is copied in vain up to the first row that is
/// there, and the count begins anew: few are, however new and stored orders alternate.
const EXPECTED_AFTER: u32 = 8;

/// Stores the newer of two versions, with the parts of exactly those orders, and answers which orders that changed.
///
/// The rows come sorted by key, so that batches stored side by side lock them in one order and cannot deadlock.
///
/// It is one statement, since in a small batch what a statement costs in itself is most of its price. Columns are unnested side by side
/// in a list of results, not `FROM unnest(…)`, which writes each of them to a store of its own first. And `IS TRUE` keeps the question which
/// orders changed out of the hands of the planner: it is answered from a hash table. A join of the two lists may compare each item
/// with each order, since nobody knows beforehand how long they are.
const STORE_ORDERS: &str = "
    WITH changed AS (
        INSERT INTO orders AS stored (
            order_uid, published_at, sequence, track_number, entry, locale, internal_signature, customer_id, delivery_service,
            shardkey, sm_id, date_created, oof_shard, document_bytes)
        SELECT unnest($1::text[]), unnest($2::timestamptz[]), unnest($3::bigint[]), unnest($4::text[]), unnest($5::text[]),
            unnest($6::text[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), unnest($10::text[]),
            unnest($11::integer[]), unnest($12::timestamptz[]), unnest($13::text[]), unnest($14::integer[])
        ON CONFLICT (order_uid) DO UPDATE SET
            (published_at, sequence, track_number, entry, locale, internal_signature, customer_id, delivery_service,
             shardkey, sm_id, date_created, oof_shard, document_bytes, stored_at)
          = (excluded.published_at, excluded.sequence, excluded.track_number, excluded.entry, excluded.locale,
             excluded.internal_signature, excluded.customer_id, excluded.delivery_service, excluded.shardkey, excluded.sm_id,
             excluded.date_created, excluded.oof_shard, excluded.document_bytes, now())
        WHERE (stored.published_at, stored.sequence) < (excluded.published_at, excluded.sequence)
        RETURNING order_uid
    ), delivered AS (
        INSERT INTO delivery (order_uid, name, phone, zip, city, address, region, email)
        SELECT * FROM (
            SELECT unnest($1::text[]) AS order_uid, unnest($15::text[]), unnest($16::text[]), unnest($17::text[]),
                unnest($18::text[]), unnest($19::text[]), unnest($20::text[]), unnest($21::text[])) AS batch
        WHERE (order_uid IN (SELECT order_uid FROM changed)) IS TRUE
        ON CONFLICT (order_uid) DO UPDATE SET (name, phone, zip, city, address, region, email)
          = (excluded.name, excluded.phone, excluded.zip, excluded.city, excluded.address, excluded.region, excluded.email)
    ), paid AS (
        INSERT INTO payment (
            order_uid, transaction, request_id, currency, provider, amount, payment_dt, bank, delivery_cost, goods_total,
            custom_fee)
        SELECT * FROM (
            SELECT unnest($1::text[]) AS order_uid, unnest($22::text[]), unnest($23::text[]), unnest($24::text[]),
                unnest($25::text[]), unnest($26::numeric[]), unnest($27::bigint[]), unnest($28::text[]), unnest($29::numeric[]),
                unnest($30::numeric[]), unnest($31::numeric[])) AS batch
        WHERE (order_uid IN (SELECT order_uid FROM changed)) IS TRUE
        ON CONFLICT (order_uid) DO UPDATE SET
            (transaction, request_id, currency, provider, amount, payment_dt, bank, delivery_cost, goods_total, custom_fee)
          = (excluded.transaction, excluded.request_id, excluded.currency, excluded.provider, excluded.amount,
             excluded.payment_dt, excluded.bank, excluded.delivery_cost, excluded.goods_total, excluded.custom_fee)
    ), filled AS (
        INSERT INTO items (
            order_uid, position, chrt_id, track_number, price, rid, name, sale, size, total_price, nm_id, brand, status)
        SELECT * FROM (
            SELECT unnest($32::text[]) AS order_uid, unnest($33::integer[]), unnest($34::bigint[]), unnest($35::text[]),
                unnest($36::numeric[]), unnest($37::text[]), unnest($38::text[]), unnest($39::integer[]), unnest($40::text[]),
                unnest($41::numeric[]), unnest($42::bigint[]), unnest($43::text[]), unnest($44::integer[])) AS batch
        WHERE (order_uid IN (SELECT order_uid FROM changed)) IS TRUE
        ON CONFLICT (order_uid, position) DO UPDATE SET
            (chrt_id, track_number, price, rid, name, sale, size, total_price, nm_id, brand, status)
          = (excluded.chrt_id, excluded.track_number, excluded.price, excluded.rid, excluded.name, excluded.sale,
             excluded.size, excluded.total_price, excluded.nm_id, excluded.brand, excluded.status)
    )
    SELECT order_uid FROM changed";

/// The versions that stand in the first three parameters, as `batch`, joined with the rows of `orders` that this transaction wrote for
/// them; `$more` stands among the columns of the batch.
///
/// `xmin` names the transaction that wrote a row. It leaves out the versions that were stored before, so that a batch delivered
/// again writes nothing. The revision is compared as well, because transaction numbers come round again after 2³² of them.
macro_rules! batch_that_changed {
    ($more:literal) => {
        concat!(
            "(
             SELECT unnest($1::text[]) AS order_uid, unnest($2::timestamptz[]) AS published_at, unnest($3::bigint[]) AS sequence",
            $more,
            ") AS batch
         JOIN orders ON orders.order_uid = batch.order_uid
             AND (orders.published_at, orders.sequence) = (batch.published_at, batch.sequence)
             AND orders.xmin = pg_current_xact_id()::xid "
        )
    };
}

/// Removes the items that the version before had and this one does not.
///
/// A statement of its own: one sees what was committed when it began, and [`STORE_ORDERS`] may have waited for a batch that added
/// items which have to be removed now.
const REMOVE_ITEMS: &str = concat!(
    "DELETE FROM items USING ",
    batch_that_changed!(", unnest($4::integer[]) AS items"),
    "WHERE items.order_uid = orders.order_uid AND items.position >= batch.items"
);

/// What is known of a dead letter already, that it was discarded say, stays.
const INSERT_DEAD_LETTERS: &str = "
    INSERT INTO dead_letters (published_at, sequence, subject, headers, payload, reason, order_uid)
    SELECT published_at, sequence, subject, headers::json, payload, reason, order_uid
    FROM unnest($1::timestamptz[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[])
         AS letter (published_at, sequence, subject, headers, payload, reason, order_uid)
    ON CONFLICT DO NOTHING";

const MARK_REPLAYED: &str = "
    UPDATE dead_letters SET state = 'replayed'
    WHERE (published_at, sequence) IN (SELECT * FROM unnest($1::timestamptz[], $2::bigint[]))";

/// Lets nobody else write to the log until the commit is visible: a transaction ends before its locks are released.
const LOCK_LOG: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// Takes the next place in the log, and answers which one is before it. A statement after the one that locks, since it sees what was
/// committed when it began: now nothing can come between the two.
///
/// What was copied changed without asking: a copy that meets a stored order fails.
const APPEND_TO_LOG: &str = concat!(
    "WITH entry AS (
         INSERT INTO commit_log (changes, order_uids, published_at, sequences)
         SELECT count(*), array_agg(order_uid), array_agg(published_at), array_agg(sequence)
         FROM (
             SELECT batch.* FROM ",
    batch_that_changed!(""),
    "        UNION ALL
             SELECT unnest($4::text[]), unnest($5::timestamptz[]), unnest($6::bigint[])
         ) AS changed
         HAVING count(*) > 0
         RETURNING position, mark)
     SELECT previous.position, previous.mark, entry.position, entry.mark, pg_notify($7, entry.position::text)
     FROM entry, (SELECT position, mark FROM commit_log ORDER BY position DESC LIMIT 1) AS previous"
);

const STORED_REVISIONS: &str =
    "SELECT order_uid, published_at, sequence FROM orders WHERE order_uid = ANY($1)";

/// The statements of a batch, prepared on one connection.
struct Prepared {
    orders: Statement,
    remove_items: Statement,
    dead_letters: Statement,
    replayed: Statement,
    lock: Statement,
    log: Statement,
}

impl Prepared {
    async fn on(client: &ClientWrapper) -> Result<Self, Error> {
        let on = |statement| client.prepare_cached(statement);
        let (orders, remove_items, dead_letters, replayed, lock, log) = try_join!(
            on(STORE_ORDERS),
            on(REMOVE_ITEMS),
            on(INSERT_DEAD_LETTERS),
            on(MARK_REPLAYED),
            on(LOCK_LOG),
            on(APPEND_TO_LOG),
        )?;
        Ok(Prepared {
            orders,
            remove_items,
            dead_letters,
            replayed,
            lock,
            log,
        })
    }
}

/// Stores a batch on this connection, and returns when its transaction has ended either way.
pub(crate) async fn store(
    client: &ClientWrapper,
    batch: &Batch,
    shared: &Shared,
) -> Result<StoreReport, Failure> {
    let orders: Vec<&RevisedOrder> = batch.orders().iter().collect();
    if orders.len() >= shared.copy_from {
        if shared.expects_new()
            && let Transaction::Committed(report) = transact(client, batch, shared, &orders, &[]).await?
        {
            return Ok(report);
        }
        let uids: Vec<&OrderUid> = orders.iter().map(|version| &version.order.order_uid).collect();
        let stored = stored_revisions(client, &uids).await?;
        let is_new = |version: &&RevisedOrder| !stored.contains_key(version.order.order_uid.as_str());
        let (new, others): (Vec<_>, Vec<_>) = orders.iter().copied().partition(is_new);
        shared.learn(others.is_empty());
        if !new.is_empty()
            && let Transaction::Committed(report) = transact(client, batch, shared, &new, &others).await?
        {
            return Ok(report);
        }
    }
    match transact(client, batch, shared, &[], &orders).await? {
        Transaction::Committed(report) => Ok(report),
        Transaction::Overtaken => Err(Failure::other(
            "a key that nothing was copied under is there already",
        )),
    }
}

/// How a transaction ended that did not fail.
enum Transaction {
    Committed(StoreReport),
    /// An order that was taken for new is stored, or left a part behind when it was deleted by hand. Nothing was written.
    Overtaken,
}

/// Stores a batch of `new` orders, which are copied, and `others`, for which the database finds out whether they are newer.
async fn transact(
    client: &ClientWrapper,
    batch: &Batch,
    shared: &Shared,
    new: &[&RevisedOrder],
    others: &[&RevisedOrder],
) -> Result<Transaction, Failure> {
    let versions = Versions::of(others)?;
    let columns = Columns::of(others);
    let (letters, replayed) = (
        Letters::of(batch.dead_letters())?,
        LetterKeys::of(batch.replayed())?,
    );
    let copied = Versions::of(new)?;
    let mut entry = versions.parameters();
    entry.extend(copied.parameters());
    entry.push(&shared.channel);
    let any_orders = !batch.orders().is_empty();
    let any_others = !others.is_empty();
    let any_letters = !batch.dead_letters().is_empty();
    let any_replayed = !batch.replayed().is_empty();
    let of = Prepared::on(client).await?;
    if !new.is_empty() {
        let copied = begin_with(client, new).await;
        if !matches!(copied, Ok(true)) {
            client.batch_execute("ROLLBACK").await?;
            return copied.map(|_| Transaction::Overtaken);
        }
    }

    // A statement is sent when its future is first polled, and these are polled in this order without waiting for one another's
    // answers. So the rest of the transaction, its end included, is on its way before anything can interrupt: dropped half way,
    // it is decided all the same. After an error the server refuses the rest, and takes COMMIT as ROLLBACK.
    let (begin, changed, removed, dead, marked, locked, logged, commit) = join!(
        async {
            if new.is_empty() {
                client.batch_execute("BEGIN").await?;
            }
            Ok::<_, Error>(())
        },
        query_if(any_others, client, &of.orders, columns.parameters(&versions)),
        query_if(
            any_others,
            client,
            &of.remove_items,
            columns.item_counts(&versions)
        ),
        query_if(any_letters, client, &of.dead_letters, letters.parameters()),
        query_if(any_replayed, client, &of.replayed, replayed.parameters()),
        query_if(any_orders, client, &of.lock, vec![&shared.lock_key]),
        query_if(any_orders, client, &of.log, entry),
        async {
            #[cfg(feature = "failpoints")]
            failpoints::reached(Moment::BeforeCommit).await;
            client.batch_execute("COMMIT").await
        },
    );
    // The first error is the real one; those after it only say that the transaction was given up.
    begin?;
    let changed = changed?;
    for answer in [removed, dead, marked, locked] {
        answer?;
    }
    let logged = logged?;
    commit?;
    #[cfg(feature = "failpoints")]
    failpoints::reached(Moment::AfterCommit).await;

    report(client, batch, new, &changed, &logged)
        .await
        .map(Transaction::Committed)
}

/// Begins the transaction, and copies orders into the tables. `false` if a key of theirs is there already.
///
/// One table after another: a COPY on its way when the one before it fails is answered twice, which the driver takes for a broken
/// connection.
async fn begin_with(client: &ClientWrapper, orders: &[&RevisedOrder]) -> Result<bool, Failure> {
    client.batch_execute("BEGIN").await?;
    for table in &TABLES {
        let statement = client.prepare_cached(table.copy).await?;
        let sink = client.copy_in(&statement).await?;
        pin_mut!(sink);
        for rows in table.rows(orders) {
            sink.send(rows?).await?;
        }
        match sink.finish().await {
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => return Ok(false),
            ended => ended?,
        };
    }
    Ok(true)
}

async fn query_if(
    wanted: bool,
    client: &ClientWrapper,
    statement: &Statement,
    parameters: Parameters<'_>,
) -> Result<Vec<Row>, Error> {
    if wanted {
        client.query(statement, &parameters).await
    } else {
        Ok(Vec::new())
    }
}

/// Says what became of each order. Those that did not change are looked up after the commit, since they are rare: whatever
/// is stored by then is at least as new.
async fn report(
    client: &ClientWrapper,
    batch: &Batch,
    new: &[&RevisedOrder],
    changed: &[Row],
    logged: &[Row],
) -> Result<StoreReport, Failure> {
    let new = new.iter().map(|version| Ok(version.order.order_uid.as_str()));
    let changed = new
        .chain(changed.iter().map(|row| get(row, 0)))
        .collect::<Result<HashSet<&str>, Failure>>()?;
    let others: Vec<&OrderUid> = batch
        .orders()
        .iter()
        .map(|version| &version.order.order_uid)
        .filter(|uid| !changed.contains(uid.as_str()))
        .collect();
    let stored = if others.is_empty() {
        HashMap::new()
    } else {
        stored_revisions(client, &others).await?
    };

    let outcomes = batch
        .orders()
        .iter()
        .map(|version| {
            let uid = version.order.order_uid.as_str();
            if changed.contains(uid) {
                return Ok(StoreOutcome::Stored);
            }
            // Only a row deleted by hand in this moment can be missing.
            let by = stored
                .get(uid)
                .ok_or_else(|| Failure::unavailable("an order vanished after it was stored"))?;
            Ok(StoreOutcome::Superseded { by: *by })
        })
        .collect::<Result<_, Failure>>()?;
    let logged = match logged.first() {
        Some(row) => Some(Logged {
            previous: cursor(row, 0)?,
            cursor: cursor(row, 2)?,
        }),
        None => None,
    };
    Ok(StoreReport { outcomes, logged })
}

async fn stored_revisions(
    client: &ClientWrapper,
    uids: &[&OrderUid],
) -> Result<HashMap<String, Revision>, Failure> {
    let uids: Vec<&str> = uids.iter().map(|uid| uid.as_str()).collect();
    let statement = client.prepare_cached(STORED_REVISIONS).await?;
    let rows = client.query(&statement, &[&uids]).await?;
    rows.iter()
        .map(|row| Ok((get(row, 0)?, revision(row, 1, 2)?)))
        .collect()
}
