//! How long to wait before trying again.

use std::time::Duration;

/// Waits that double from `first` to `most`, each cut by a random part of up to a half, so that replicas that failed together do not
/// come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins at `first` and never waits longer than `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Backoff {
            first,
            most,
            next: first,
        }
    }

    /// How long to wait this time.
    pub fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    /// What was tried has worked: begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_begin_anew() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, most);
        for expected in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            let wait = backoff.step();
            assert!(
                wait <= expected && wait >= expected / 2,
                "{wait:?} of {expected:?}"
            );
        }
        backoff.reset();
        assert!(backoff.step() <= first);
    }
}
