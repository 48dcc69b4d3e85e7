//! Random choices: the same for the same seed, everywhere.
#![forbid(unsafe_code)]

use fastrand::Rng;

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Random(Rng);

impl Random {
    /// The source for a seed.
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end.max(1))
    }

    /// An index into so many.
    pub fn index(&mut self, length: usize) -> usize {
        self.0.usize(..length)
    }

    /// A number from `first` to `last`.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        self.0.u64(first..=last)
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.index(all.len())]
    }
}
