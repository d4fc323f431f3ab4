//! The commit log: which orders changed, in the order in which the changes became visible.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use order_domain::{CommitLog, CommitLogError, LogChange, LogCursor, LogEntry, LogPage, OrderUid, Revision};
use tokio_postgres::Row;

use crate::failure::Failure;
use crate::listener::Listener;
use crate::pool::{Lent, Pool};
use crate::rows::{cursor, get};
use crate::timestamptz::Micros;

const HEAD: &str = "SELECT position, mark FROM commit_log ORDER BY position DESC LIMIT 1";

/// The row at the cursor, so that one can see whether it is still the same, and the few that come after it, which is mostly all there
/// is: fewer rows than the limit say so.
///
/// This is the look that every replica takes after each commit. One plan does for any cursor, where [`READ_FROM`] is planned each
/// time, at several times the price of carrying it out.
const READ_NEXT: &str = "
    SELECT position, mark, committed_at,
        CASE WHEN position > $1 THEN order_uids END,
        CASE WHEN position > $1 THEN published_at END,
        CASE WHEN position > $1 THEN sequences END
    FROM commit_log WHERE position >= $1 ORDER BY position LIMIT 8";

/// The limit of [`READ_NEXT`]. It stands there as a number, since a limit that is not known is planned for as if it were a large one.
const FEW: usize = 8;

/// The row at the cursor, and what comes after it up to a limit, for a follower that is behind.
///
/// Rows are taken while those before them have fewer changes than wanted; the arrays of a row that is not answered are not read.
/// The newest position comes from the same snapshot, and tells whether this was all.
const READ_FROM: &str = "
    SELECT log.position, log.mark, log.committed_at,
        CASE WHEN log.position > $1 THEN log.order_uids END,
        CASE WHEN log.position > $1 THEN log.published_at END,
        CASE WHEN log.position > $1 THEN log.sequences END,
        (SELECT max(position) FROM commit_log)
    FROM (
        SELECT position, sum(changes) OVER (ORDER BY position) - changes AS changes_before
        FROM (
            SELECT position, CASE WHEN position > $1 THEN changes ELSE 0 END AS changes
            FROM commit_log WHERE position >= $1 ORDER BY position LIMIT $2::bigint + 1
        ) AS near
    ) AS page
    JOIN commit_log AS log USING (position)
    WHERE page.changes_before < $2::bigint
    ORDER BY log.position";

/// Removes a part of what is older than `$1` microseconds, but never the newest. Oldest first, and by position: the clock that
/// stamped the rows may have been set back, and a gap in the middle would look like a restored database.
const PRUNE: &str = "
    DELETE FROM commit_log WHERE position IN (
        SELECT position FROM commit_log
        WHERE position < COALESCE(
            (SELECT min(position) FROM commit_log
             WHERE committed_at > clock_timestamp() - $1 * interval '1 microsecond'),
            (SELECT max(position) FROM commit_log))
        ORDER BY position LIMIT $2::bigint)";

/// How many entries are removed by one statement, so that none runs for long.
const PRUNED_AT_ONCE: i64 = 5_000;

/// [`CommitLog`] on PostgreSQL, with connections of its own and one more that listens for commits.
pub struct PostgresCommitLog {
    pub(crate) pool: Arc<Pool>,
    pub(crate) listener: Listener,
    pub(crate) log_deadline: Duration,
    pub(crate) bulk_deadline: Duration,
}

#[async_trait]
impl CommitLog for PostgresCommitLog {
    async fn head(&self) -> Result<LogCursor, CommitLogError> {
        let work = async |lent: &Lent| {
            let statement = lent.prepare_cached(HEAD).await?;
            let row = lent.query_opt(&statement, &[]).await?;
            // The migration wrote a first row, and pruning keeps the last.
            cursor(
                &row.ok_or_else(|| Failure::other("someone emptied the table commit_log"))?,
                0,
            )
        };
        Ok(self.pool.within(self.log_deadline, work).await?)
    }

    async fn read_after(&self, cursor: LogCursor, limit: usize) -> Result<LogPage, CommitLogError> {
        let work = async |lent: &Lent| match read_next(lent, cursor, limit).await? {
            Some(page) => Ok(page),
            None => read_from(lent, cursor, limit).await,
        };
        Ok(self.pool.within(self.log_deadline, work).await?)
    }

    async fn changed(&self, cursor: LogCursor) {
        self.listener.changed(cursor.position).await;
    }

    async fn prune(&self, age: Duration) -> Result<u64, CommitLogError> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX) as f64;
        let mut removed = 0;
        loop {
            let work = async |lent: &Lent| {
                let statement = lent.prepare_cached(PRUNE).await?;
                Ok(lent.execute(&statement, &[&age, &PRUNED_AT_ONCE]).await?)
            };
            let now = self.pool.within(self.bulk_deadline, work).await?;
            removed += now;
            if now < PRUNED_AT_ONCE.unsigned_abs() {
                return Ok(removed);
            }
        }
    }
}

/// What comes after the cursor, if it is a few entries and within the limit.
async fn read_next(lent: &Lent, after: LogCursor, limit: usize) -> Result<Option<LogPage>, Failure> {
    let statement = lent.prepare_cached(READ_NEXT).await?;
    let rows = lent.query(&statement, &[&after.position]).await?;
    let Some(entries) = entries(after, &rows)? else {
        return Ok(Some(LogPage::Gap));
    };
    let changes: usize = entries.iter().map(|entry| entry.changes.len()).sum();
    let is_all = rows.len() < FEW && (changes <= limit || entries.len() == 1);
    Ok(is_all.then_some(LogPage::Entries {
        entries,
        complete: true,
    }))
}

async fn read_from(lent: &Lent, after: LogCursor, limit: usize) -> Result<LogPage, Failure> {
    // One change at least, so that at least one entry is answered if there is one.
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX - 1);
    let statement = lent.prepare_cached(READ_FROM).await?;
    let rows = lent.query(&statement, &[&after.position, &limit]).await?;
    let Some(entries) = entries(after, &rows)? else {
        return Ok(LogPage::Gap);
    };
    let last = entries.last().map_or(after, |entry| entry.cursor);
    Ok(LogPage::Entries {
        complete: last.position >= get(&rows[0], 6)?,
        entries,
    })
}

/// The entries after `asked`, whose own row comes first; `None` if it is gone or another one.
fn entries(asked: LogCursor, rows: &[Row]) -> Result<Option<Vec<LogEntry>>, Failure> {
    match rows.split_first() {
        Some((first, after)) if cursor(first, 0)? == asked => {
            after.iter().map(entry).collect::<Result<_, _>>().map(Some)
        }
        _ => Ok(None),
    }
}

fn entry(row: &Row) -> Result<LogEntry, Failure> {
    let Micros(committed_at) = get(row, 2)?;
    let (uids, published_at) = (get::<Vec<&str>>(row, 3)?, get::<Vec<Micros>>(row, 4)?);
    let sequences = get::<Vec<i64>>(row, 5)?;
    let changes = uids
        .iter()
        .zip(published_at)
        .zip(sequences)
        .map(|((uid, published_at), sequence)| {
            let sequence = u64::try_from(sequence).map_err(Failure::undecodable)?;
            Ok(LogChange {
                uid: OrderUid::new(uid).map_err(Failure::undecodable)?,
                revision: Revision {
                    published_at: published_at.0,
                    sequence,
                },
            })
        });
    Ok(LogEntry {
        cursor: cursor(row, 0)?,
        committed_at: Timestamp::from_microsecond(committed_at).map_err(Failure::undecodable)?,
        changes: changes.collect::<Result<_, Failure>>()?,
    })
}
