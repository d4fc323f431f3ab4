//! Dead letters: messages that can never become orders.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use order_domain::{
    DeadLetter, DeadLetterError, DeadLetterQuery, DeadLetterState, DeadLetters, OrderUid, RawMessage,
    Revision, StoredDeadLetter,
};
use tokio_postgres::Row;

use crate::columns::sequence;
use crate::failure::Failure;
use crate::pool::{Lent, Pool};
use crate::rows::{get, revision};
use crate::timestamptz::Micros;

macro_rules! select {
    () => {
        "SELECT published_at, sequence, subject, headers::text, payload, reason, order_uid, state, recorded_at
         FROM dead_letters WHERE "
    };
}

const FIND: &str = concat!(select!(), "(published_at, sequence) = ($1, $2)");

const LIST: &str = concat!(
    select!(),
    "(published_at, sequence) < ($1, $2) ORDER BY published_at DESC, sequence DESC LIMIT $3"
);

/// A statement of its own, so that the index of those that wait can serve it.
const LIST_WAITING: &str = concat!(
    select!(),
    "(published_at, sequence) < ($1, $2) AND state = 'waiting' ORDER BY published_at DESC, sequence DESC LIMIT $3"
);

const LIST_STATE: &str = concat!(
    select!(),
    "(published_at, sequence) < ($1, $2) AND state = $4 ORDER BY published_at DESC, sequence DESC LIMIT $3"
);

const DISCARD: &str = "
    UPDATE dead_letters SET state = 'discarded' WHERE (published_at, sequence) = ($1, $2) AND state = 'waiting'";

/// [`DeadLetters`] on PostgreSQL. Shares the connections that read orders.
pub struct PostgresDeadLetters {
    pub(crate) pool: Arc<Pool>,
    pub(crate) deadline: Duration,
}

#[async_trait]
impl DeadLetters for PostgresDeadLetters {
    async fn list(&self, query: &DeadLetterQuery) -> Result<Vec<StoredDeadLetter>, DeadLetterError> {
        let before = query.before.map_or((Micros::INFINITY, 0), |before| {
            // A sequence beyond a bigint is beyond every row of its time.
            (
                Micros(before.published_at),
                i64::try_from(before.sequence).unwrap_or(i64::MAX),
            )
        });
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        let work = async |lent: &Lent| {
            let rows = match query.state {
                None => {
                    lent.query(&lent.prepare_cached(LIST).await?, &[&before.0, &before.1, &limit])
                        .await?
                }
                Some(DeadLetterState::Waiting) => {
                    lent.query(
                        &lent.prepare_cached(LIST_WAITING).await?,
                        &[&before.0, &before.1, &limit],
                    )
                    .await?
                }
                Some(state) => {
                    let statement = lent.prepare_cached(LIST_STATE).await?;
                    lent.query(&statement, &[&before.0, &before.1, &limit, &state.as_str()])
                        .await?
                }
            };
            rows.iter().map(stored).collect()
        };
        Ok(self.pool.within(self.deadline, work).await?)
    }

    async fn find(&self, revision: Revision) -> Result<Option<StoredDeadLetter>, DeadLetterError> {
        let work = async |lent: &Lent| {
            let (published_at, sequence) = (Micros(revision.published_at), sequence(revision)?);
            let statement = lent.prepare_cached(FIND).await?;
            let row = lent.query_opt(&statement, &[&published_at, &sequence]).await?;
            row.as_ref().map(stored).transpose()
        };
        Ok(self.pool.within(self.deadline, work).await?)
    }

    async fn discard(&self, revision: Revision) -> Result<bool, DeadLetterError> {
        let work = async |lent: &Lent| {
            let (published_at, sequence) = (Micros(revision.published_at), sequence(revision)?);
            let statement = lent.prepare_cached(DISCARD).await?;
            Ok(lent.execute(&statement, &[&published_at, &sequence]).await? > 0)
        };
        Ok(self.pool.within(self.deadline, work).await?)
    }
}

fn stored(row: &Row) -> Result<StoredDeadLetter, Failure> {
    let headers = serde_json::from_str(get(row, 3)?).map_err(Failure::undecodable)?;
    let order_uid: Option<&str> = get(row, 6)?;
    let state: &str = get(row, 7)?;
    let Micros(recorded_at) = get(row, 8)?;
    Ok(StoredDeadLetter {
        letter: DeadLetter {
            revision: revision(row, 0, 1)?,
            message: RawMessage {
                subject: get(row, 2)?,
                headers,
                payload: Bytes::copy_from_slice(get(row, 4)?),
            },
            reason: get(row, 5)?,
            order_uid: order_uid
                .map(OrderUid::new)
                .transpose()
                .map_err(Failure::undecodable)?,
        },
        state: DeadLetterState::from_name(state)
            .ok_or_else(|| Failure::undecodable(format!("there is no state named {state}")))?,
        recorded_at: Timestamp::from_microsecond(recorded_at).map_err(Failure::undecodable)?,
    })
}
