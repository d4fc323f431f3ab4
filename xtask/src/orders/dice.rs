//! Random choices that depend on nothing but the seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A row of random choices.
///
/// The choices are made here from ChaCha's own numbers, and not by the distributions of `rand`, whose results may change
/// from one of its versions to the next: a seed in a bug report must still mean the same orders then.
#[derive(Debug, Clone)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The row with this number out of all those that a seed gives; they have nothing to do with each other.
    pub fn new(seed: u64, row: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(row);
        Dice(rng)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product is as even as anyone needs here: it is off by at most `end / 2^64`.
        ((u128::from(self.number()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `first` to `last`, both included.
    pub fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below(first.abs_diff(last) + 1) as i64
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: f64) -> bool {
        // 2^53 steps are what a float tells apart between 0 and 1.
        let share = (self.number() >> 11) as f64 / (1_u64 << 53) as f64;
        share * 100.0 < percent
    }

    /// An index into `weights`, as often as its weight says.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        unreachable!("the number is below the sum of the weights")
    }

    /// So many characters out of `alphabet`, which is ASCII.
    pub fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length).map(|_| char::from(*self.pick(alphabet))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_can_be_repeated_and_differ() {
        let row = |seed, row| {
            let mut dice = Dice::new(seed, row);
            [dice.number(), dice.number()]
        };
        assert_eq!(row(1, 2), row(1, 2));
        assert_ne!(row(1, 2), row(1, 3));
        assert_ne!(row(1, 2), row(2, 2));
    }

    #[test]
    fn choices_stay_in_their_bounds_and_reach_them() {
        let mut dice = Dice::new(7, 0);
        let drawn: Vec<i64> = (0..1000).map(|_| dice.between(-3, 3)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&-3), Some(&3)));
        assert!((0..1000).all(|_| !dice.percent(0.0)));
        assert!((0..1000).all(|_| dice.percent(100.0)));
        let weighted: Vec<usize> = (0..1000).map(|_| dice.weighted(&[1, 0, 2])).collect();
        assert!(weighted.contains(&0) && weighted.contains(&2) && !weighted.contains(&1));
    }
}
