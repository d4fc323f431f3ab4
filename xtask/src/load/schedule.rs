//! When each request is due.

use std::time::Duration;

/// The moments of a number of requests at a constant rate. Fixed in advance: nothing that a server does moves them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    rate: f64,
    count: u64,
}

impl Schedule {
    /// So many requests at so many a second.
    ///
    /// # Panics
    ///
    /// If the rate is not a positive number.
    pub fn new(rate: f64, count: u64) -> Schedule {
        assert!(rate.is_finite() && rate > 0.0, "a rate is more than 0");
        Schedule { rate, count }
    }

    /// How many requests there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// When a request is due, from the start on. It follows from its number alone, so that the rate does not drift.
    pub fn due(&self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many requests are due by then.
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        // The first is due at once.
        let passed = (elapsed.as_secs_f64() * self.rate) as u64;
        passed.saturating_add(1).min(self.count)
    }

    /// The part of one thread among several: one request out of every so many.
    pub(super) fn share(self, index: u64, of: u64) -> Share {
        Share {
            schedule: self,
            index,
            of,
        }
    }
}

/// The requests of a schedule that one thread sends. The thread counts them from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    schedule: Schedule,
    index: u64,
    of: u64,
}

impl Share {
    pub(super) fn count(&self) -> u64 {
        self.of_all(self.schedule.count)
    }

    pub(super) fn due(&self, number: u64) -> Duration {
        self.schedule.due(self.index + number * self.of)
    }

    pub(super) fn due_by(&self, elapsed: Duration) -> u64 {
        self.of_all(self.schedule.due_by(elapsed))
    }

    /// How many of the first `all` requests are this thread's.
    fn of_all(&self, all: u64) -> u64 {
        all.saturating_sub(self.index).div_ceil(self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_a_request_follows_from_its_number_alone() {
        let schedule = Schedule::new(1_000.0, 30_000);
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(1), Duration::from_millis(1));
        assert_eq!(schedule.due(29_999), Duration::from_millis(29_999));
    }

    #[test]
    fn what_is_due_grows_with_time_and_ends() {
        let schedule = Schedule::new(4.0, 6);
        let due_by = |millis| schedule.due_by(Duration::from_millis(millis));
        assert_eq!([due_by(0), due_by(249), due_by(250), due_by(1_000)], [1, 1, 2, 5]);
        assert_eq!(due_by(3_600_000), 6);
    }

    #[test]
    fn the_shares_of_all_threads_are_the_whole_schedule() {
        let schedule = Schedule::new(700.0, 1_001);
        let shares: Vec<Share> = (0..3).map(|index| schedule.share(index, 3)).collect();
        let mut moments: Vec<Duration> = shares
            .iter()
            .flat_map(|share| (0..share.count()).map(|number| share.due(number)))
            .collect();
        moments.sort();
        let whole: Vec<Duration> = (0..1_001).map(|number| schedule.due(number)).collect();
        assert_eq!(moments, whole);
        for millis in [0, 1, 2, 3, 10, 999, 5_000] {
            let elapsed = Duration::from_millis(millis);
            let due: u64 = shares.iter().map(|share| share.due_by(elapsed)).sum();
            assert_eq!(due, schedule.due_by(elapsed));
        }
    }
}
