//! Which bus numbers have functions: most that is looked for is on none, and that is known without the machine's lock.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam::addr::SourceId;

/// A bit for each number, whatever the segment. None is ever forgotten.
#[derive(Debug, Default)]
pub(crate) struct Buses([AtomicU64; 4]);

impl Buses {
    pub(crate) fn note(&self, source: SourceId) {
        let (word, bit) = self.place(source);
        word.fetch_or(bit, Ordering::Relaxed);
    }

    /// False if no function was ever on a bus of that number.
    pub(crate) fn may_have(&self, source: SourceId) -> bool {
        let (word, bit) = self.place(source);
        word.load(Ordering::Relaxed) & bit != 0
    }

    fn place(&self, source: SourceId) -> (&AtomicU64, u64) {
        let [first, second, third, last] = &self.0;
        let word = match source.bus() / 64 {
            0 => first,
            1 => second,
            2 => third,
            _ => last,
        };
        (word, 1 << (source.bus() % 64))
    }
}
