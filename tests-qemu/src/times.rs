//! How long something takes, done many times.
#![forbid(unsafe_code)]

use cofferdam_report::Record;
use heapless::Vec;

/// So many are kept; what is over is not noted.
const MOST: usize = 1000;

/// Times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<u64, MOST>);

impl Times {
    /// As many as are kept.
    pub const MOST: usize = MOST;

    /// One more.
    pub fn note(&mut self, ns: u64) {
        let _ = self.0.push(ns);
    }

    /// The record of what took them, on the unit with this base. `None` if there is none.
    pub fn record<'a>(&mut self, unit: u64, what: &'a str) -> Option<Record<&'a str>> {
        self.0.sort_unstable();
        let (times, half) = (self.0.len() as u32, self.0.len() / 2);
        let (min_ns, median_ns, max_ns) = (*self.0.first()?, *self.0.get(half)?, *self.0.last()?);
        Some(Record::Measured { unit, what, times, min_ns, median_ns, max_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_what_is_over_is_not_noted() {
        let mut times = Times::default();
        assert_eq!(times.record(0, "nothing"), None);
        [7, 1, 1000].into_iter().for_each(|ns| times.note(ns));
        let record = |times, min_ns, median_ns, max_ns| {
            Some(Record::Measured { unit: 5, what: "work", times, min_ns, median_ns, max_ns })
        };
        assert_eq!(times.record(5, "work"), record(3, 1, 7, 1000));
        (0..MOST as u64).for_each(|ns| times.note(ns));
        assert_eq!(times.record(5, "work"), record(MOST as u32, 0, 498, 1000));
    }
}
