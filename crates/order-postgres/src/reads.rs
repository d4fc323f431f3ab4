//! Reads of single orders. Those that wait at the same time are taken together in one statement.
//!
//! A read that finds nothing under way goes alone and at once. While a statement is under way, those who come wait, and the next one finds
//! them all: the busier it is, the more share a round trip and the server's work of beginning a statement, and nobody waits for company.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use order_domain::{OrderDocument, OrderUid};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::failure::Failure;
use crate::pool::{Lent, Pool};
use crate::rows::{get, parts_of_orders, whole_order, whole_order_columns};

/// How many orders a statement finds at most. Rows are handed on as they come, so this bounds the time that a statement takes and
/// what its readers are given at once: 8 MiB, where each order has 512 KiB.
const TOGETHER: usize = 16;
/// How many may wait for each statement under way before one more begins beside it.
const WAITING_A_STATEMENT: usize = 4;
/// Where no statement has begun for so long, those under way are slow, because the server is far away or an order is large, and nobody waits
/// for them to end.
const SLOW: Duration = Duration::from_millis(5);

pub(crate) const FIND: &str = concat!(
    "SELECT ",
    whole_order_columns!(),
    " FROM orders",
    parts_of_orders!(),
    "WHERE orders.order_uid = $1"
);

/// Through a subquery, the planner expects as many uids whatever it is given. If it saw how many there are, it would find a plan for
/// these few cheaper than one for any number, and plan each time.
const FIND_TOGETHER: &str = concat!(
    "SELECT ",
    whole_order_columns!(),
    " FROM orders",
    parts_of_orders!(),
    "WHERE orders.order_uid = ANY((SELECT $1::text[])::text[])"
);

/// Reads single orders on the connections of a pool.
pub(crate) struct Reads {
    pool: Arc<Pool>,
    limits: Limits,
    queue: Mutex<Queue>,
}

/// What bounds reads.
pub(crate) struct Limits {
    /// How many statements are under way at most.
    pub(crate) statements: usize,
    /// How long a read may wait until a statement takes it.
    pub(crate) wait: Duration,
    /// How long a read may take, from its call.
    pub(crate) deadline: Duration,
}

struct Queue {
    /// Those that no statement has taken yet, the oldest first.
    waiting: VecDeque<Waiting>,
    /// How many statements are under way.
    statements: usize,
    /// When the last of them began.
    began: Instant,
}

struct Waiting {
    uid: OrderUid,
    asked: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Decoded by whoever asked, so that a row that cannot be is their failure alone.
type Answer = Result<Option<Row>, Failure>;

impl Reads {
    pub(crate) fn new(pool: Arc<Pool>, limits: Limits) -> Arc<Self> {
        Arc::new(Reads {
            pool,
            limits,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                statements: 0,
                began: Instant::now(),
            }),
        })
    }

    /// Finds an order, by a statement that begins after this call.
    pub(crate) async fn find(self: &Arc<Self>, uid: &OrderUid) -> Result<Option<OrderDocument>, Failure> {
        let (sender, mut answer) = oneshot::channel();
        let asked = Instant::now();
        let mut read = Some(Waiting {
            uid: uid.clone(),
            asked,
            answer: sender,
        });
        for moment in [SLOW, self.limits.wait, self.limits.deadline] {
            self.tend(read.take());
            if let Ok(answered) = timeout_at(asked + moment, &mut answer).await {
                // Without an answer if the task that ran the statement was cancelled.
                let row = answered.map_err(Failure::unavailable)??;
                return row.as_ref().map(whole_order).transpose();
            }
        }
        Err(Failure::unavailable(format!(
            "not done within {:?}",
            self.limits.deadline
        )))
    }

    /// How many reads no statement has taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Lets a read wait, if there is one, refuses those who have waited too long, and begins a statement if one is due.
    fn tend(self: &Arc<Self>, read: Option<Waiting>) {
        let mut queue = self.queue();
        queue.waiting.extend(read);
        let (now, wait) = (Instant::now(), self.limits.wait);
        let late = queue.waiting.partition_point(|read| now - read.asked >= wait);
        for read in queue.waiting.drain(..late) {
            self.pool.count_timeout();
            read.answer(Err(Failure::unavailable(format!("not begun within {wait:?}"))));
        }
        if !queue.is_due(now, self.limits.statements) {
            return;
        }
        queue.statements += 1;
        queue.began = now;
        drop(queue);
        let place = Place(Arc::clone(self));
        // On the runtime of the connections: a statement must not end with one of those who wait for it.
        self.pool.runtime().spawn(async move {
            let reads = &place.0;
            // Not before this task runs, so that those who come at the same moment are taken together from the first.
            let batch = reads.queue().take();
            reads.answer(batch).await;
            let reads = Arc::clone(reads);
            drop(place);
            reads.tend(None);
        });
    }

    /// Answers all of these reads.
    async fn answer(&self, batch: Vec<Waiting>) {
        let mut batches = vec![batch];
        while let Some(mut batch) = batches.pop() {
            match self.read(&mut batch).await {
                Ok(()) => batch.into_iter().for_each(|read| read.answer(Ok(None))),
                // Any of them may be the one that the server cannot read.
                Err(Failure::Rejected(_) | Failure::Other(_)) if batch.len() > 1 => {
                    batches.extend(batch.into_iter().map(|read| vec![read]));
                }
                Err(failure) => batch
                    .into_iter()
                    .for_each(|read| read.answer(Err(failure.copy()))),
            }
        }
    }

    /// Reads these orders, and takes out those that were found and answered. It may last until the deadline of the youngest, so that
    /// nobody is given up before their own.
    async fn read(&self, batch: &mut Vec<Waiting>) -> Result<(), Failure> {
        let Some(asked) = batch.iter().map(|read| read.asked).max() else {
            return Ok(());
        };
        let deadline = self.limits.deadline.saturating_sub(asked.elapsed());
        let work = async |lent: &Lent| read(lent, batch).await;
        self.pool.within(deadline, work).await
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether one more statement is to begin, of `most`.
    fn is_due(&self, now: Instant, most: usize) -> bool {
        !self.waiting.is_empty()
            && self.statements < most
            && (self.waiting.len() > self.statements * WAITING_A_STATEMENT || now - self.began >= SLOW)
    }

    /// Takes the oldest for one statement; whoever does not wait for the answer any more is left out.
    fn take(&mut self) -> Vec<Waiting> {
        let mut batch = Vec::new();
        while batch.len() < TOGETHER
            && let Some(read) = self.waiting.pop_front()
        {
            if !read.answer.is_closed() {
                batch.push(read);
            }
        }
        batch
    }
}

impl Waiting {
    fn answer(self, answer: Answer) {
        // Who has gone needs no answer.
        let _ = self.answer.send(answer);
    }
}

/// A statement's place among those under way, given back however the statement ends.
struct Place(Arc<Reads>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queue().statements -= 1;
    }
}

/// Asks for these orders, and answers each as its row comes.
async fn read(lent: &Lent, batch: &mut Vec<Waiting>) -> Result<(), Failure> {
    let rows = {
        let uids: Vec<&str> = batch.iter().map(|read| read.uid.as_str()).collect();
        let (sql, parameter): (_, &(dyn ToSql + Sync)) = match &uids[..] {
            [uid] => (FIND, uid),
            _ => (FIND_TOGETHER, &uids),
        };
        let statement = lent.prepare_cached(sql).await?;
        lent.query_raw(&statement, [parameter]).await?
    };
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await? {
        let uid: &str = get(&row, 0)?;
        for read in batch.extract_if(.., |read| read.uid.as_str() == uid) {
            read.answer(Ok(Some(row.clone())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 3;

    fn waiting(reads: usize) -> (Queue, Vec<oneshot::Receiver<Answer>>) {
        let began = Instant::now();
        let (waiting, answers) = (0..reads)
            .map(|number| {
                let (answer, receiver) = oneshot::channel();
                let read = Waiting {
                    uid: OrderUid::new(&number.to_string()).expect("a uid"),
                    asked: began,
                    answer,
                };
                (read, receiver)
            })
            .unzip();
        let queue = Queue {
            waiting,
            statements: 0,
            began,
        };
        (queue, answers)
    }

    #[tokio::test]
    async fn a_read_waits_for_a_statement_under_way_unless_many_do_or_it_is_slow() {
        let due = |reads, statements, after: Duration| {
            let (mut queue, _answers) = waiting(reads);
            queue.statements = statements;
            queue.is_due(queue.began + after, MOST)
        };
        let soon = Duration::from_millis(1);
        assert!(due(1, 0, soon), "at rest it goes at once");
        assert!(!due(0, 0, SLOW));
        assert!(!due(WAITING_A_STATEMENT, 1, soon));
        assert!(due(WAITING_A_STATEMENT + 1, 1, soon));
        assert!(!due(2 * WAITING_A_STATEMENT, 2, soon));
        assert!(due(1, MOST - 1, SLOW));
        assert!(!due(1_000, MOST, SLOW));
    }

    #[tokio::test]
    async fn a_statement_takes_the_oldest_up_to_its_limit_without_those_who_have_gone() {
        let (mut queue, mut answers) = waiting(TOGETHER + 2);
        drop(answers.remove(0));
        let uids = |batch: Vec<Waiting>| -> Vec<String> {
            batch.into_iter().map(|read| read.uid.to_string()).collect()
        };
        let expected: Vec<String> = (1..=TOGETHER).map(|number| number.to_string()).collect();
        assert_eq!(uids(queue.take()), expected);
        assert_eq!(uids(queue.take()), [(TOGETHER + 1).to_string()]);
    }
}
