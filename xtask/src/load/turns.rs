//! Whose turn it is: hands out the requests of one thread to its workers.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::alarm::Alarm;
use super::schedule::Share;

/// The requests of one thread. Whichever worker is free takes the next one; while none is, the due ones wait.
#[derive(Debug)]
pub(super) struct Turns {
    order: Order,
    start: Instant,
    next: Cell<u64>,
    /// A permit for each request that is due and not yet taken.
    due: Semaphore,
}

/// Which requests there are, and when.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Open loop: each at its moment.
    Scheduled {
        share: Share,
        /// For how long after the last moment requests that are late may still be sent.
        patience: Duration,
    },
    /// Closed loop: each as soon as a worker is free.
    AtOnce { count: u64, lasts: Duration },
}

impl Turns {
    pub(super) fn new(order: Order, start: Instant) -> Turns {
        Turns {
            order,
            start,
            next: Cell::new(0),
            due: Semaphore::new(0),
        }
    }

    /// The next request, counted from 0, and the moment it was meant for. `None` when there is no more.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        match self.order {
            Order::Scheduled { share, .. } => {
                self.due.acquire().await.ok()?.forget();
                let number = self.take(share.count())?;
                Some((number, self.start + share.due(number)))
            }
            Order::AtOnce { count, lasts } => {
                let now = Instant::now();
                let number = (now < self.start + lasts).then(|| self.take(count))??;
                Some((number, now))
            }
        }
    }

    fn take(&self, count: u64) -> Option<u64> {
        let number = self.next.get();
        (number < count).then(|| self.next.set(number + 1))?;
        Some(number)
    }

    /// Makes requests due at their moments, all that have become due on each look, until there are no more and `workers` know it.
    pub(super) async fn keep_time(&self, workers: usize) -> io::Result<()> {
        let Order::Scheduled { share, patience } = self.order else {
            return Ok(());
        };
        let alarm = Alarm::new()?;
        let count = share.count();
        let mut made_due = 0;
        while made_due < count {
            alarm.wait_until(self.start + share.due(made_due)).await?;
            let due = share.due_by(self.start.elapsed());
            let new = due
                .saturating_sub(made_due)
                .min(Semaphore::MAX_PERMITS as u64 / 2);
            self.due.add_permits(new as usize);
            made_due += new;
            if new > 0 {
                // Those that became due are sent before the next look.
                tokio::task::yield_now().await;
            }
        }
        // One more turn for each worker, in which it sees that there is nothing left to take.
        self.due.add_permits(workers);
        tokio::time::sleep(patience).await;
        self.due.close();
        Ok(())
    }

    /// The moments of the requests that were never sent, for want of a free worker.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Instant> + '_ {
        let share = match self.order {
            Order::Scheduled { share, .. } => Some(share),
            Order::AtOnce { .. } => None,
        };
        share.into_iter().flat_map(move |share| {
            (self.next.get()..share.count()).map(move |number| self.start + share.due(number))
        })
    }
}
