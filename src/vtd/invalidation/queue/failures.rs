//! Which batches failed, and why.
#![forbid(unsafe_code)]

use heapless::Deque;

use crate::addr::Requester;
use crate::error::UnitError;
use crate::hal::RegisterWindow;

/// So many are kept. A batch that is older than what was dropped is taken to have failed, too: that costs its submitter a
/// repetition, the opposite could cost more.
const KEPT: usize = 16;

/// Why a batch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vtd) enum Failure {
    /// The unit refused the descriptor in this slot; IQEI says why (S 11.4.9.9).
    Refused { slot: u16, info: u8 },
    /// This requester did not answer an invalidation of its device-TLB.
    Unresponsive { requester: u16 },
    /// It was dropped from the list of failures, which had no room for more.
    Dropped,
}

#[derive(Debug, Default)]
pub(in crate::vtd) struct Failures {
    /// By the number at which the batch ends, oldest failure first.
    recent: Deque<(u64, Failure), KEPT>,
    /// The last end of those that were dropped.
    dropped: u64,
}

impl Failures {
    /// Notes that a batch failed. It fails once: the first failure stays.
    pub(in crate::vtd) fn note(&mut self, end: u64, failure: Failure) {
        if self.recent.iter().any(|(other, _)| *other == end) {
            return;
        }
        if self.recent.is_full()
            && let Some((oldest, _)) = self.recent.pop_front()
        {
            self.dropped = self.dropped.max(oldest);
        }
        let _ = self.recent.push_back((end, failure));
    }

    /// Why the batch failed, if it did.
    pub(in crate::vtd) fn of(&self, end: u64) -> Option<Failure> {
        let known = self.recent.iter().find(|(other, _)| *other == end).map(|(_, failure)| *failure);
        known.or((end <= self.dropped).then_some(Failure::Dropped))
    }
}

impl Failure {
    pub(in crate::vtd) fn error(self, unit: RegisterWindow) -> UnitError {
        let (slot, cause) = match self {
            Self::Unresponsive { requester } => {
                return UnitError::Device { unit, requester: Requester::new(requester) };
            }
            Self::Refused { slot, info } => (slot.into(), in_words(info)),
            Self::Dropped => (0, "one of too many failures at a time"),
        };
        UnitError::Queue { unit, register: "FSTS_REG", bit: "IQE", slot, cause }
    }
}

/// IQEI (S 11.4.9.9).
fn in_words(info: u8) -> &'static str {
    match info {
        1 => "invalid tail pointer",
        2 => "the descriptor could not be fetched",
        3 => "invalid descriptor type",
        4 => "reserved field of the descriptor is not zero",
        5 => "descriptor width does not fit the unit or its mode",
        6 => "tail pointer is not aligned to the descriptor width",
        7 => "invalid translation table mode",
        _ => "the unit does not say why",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_counts_as_failed() {
        let mut failures = Failures::default();
        let unresponsive = |end| Failure::Unresponsive { requester: end as u16 };
        for end in 1..=KEPT as u64 {
            failures.note(end * 10, unresponsive(end));
            failures.note(end * 10, Failure::Refused { slot: 0, info: 3 });
        }
        assert_eq!(failures.of(10), Some(unresponsive(1)), "and the first cause");
        assert_eq!(failures.of(5), None);
        failures.note(1000, unresponsive(1000));
        assert_eq!(
            [5, 10, 15, 20, 1000].map(|end| failures.of(end)),
            [Some(Failure::Dropped), Some(Failure::Dropped), None, Some(unresponsive(2)), Some(unresponsive(1000))]
        );
    }

    #[test]
    fn every_failure_is_said_in_words() {
        let unit = RegisterWindow { base: crate::addr::PhysAddr::new(0xfed9_0000), bytes: 0x1000 };
        let mut seen: std::vec::Vec<_> = (0..=255).map(in_words).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 8);
        let error = Failure::Refused { slot: 7, info: 3 }.error(unit).to_string();
        assert_eq!(error, "unit 0xfed90000: FSTS_REG.IQE at descriptor 7: invalid descriptor type");
        let error = Failure::Unresponsive { requester: 0x0319 }.error(unit).to_string();
        assert_eq!(error, "unit 0xfed90000: 03:03.1 did not answer an invalidation of its device-TLB (FSTS_REG.ITE)");
    }
}
