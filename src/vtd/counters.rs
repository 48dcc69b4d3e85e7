//! What is counted of a unit beside its queue. Reading and counting take no lock.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};

use crate::limits;

/// A requester is above these bits, and how many faults it had is in them.
const FAULTS: u32 = 48;
const MOST: u64 = (1 << FAULTS) - 1;

/// Counts since the unit was switched on.
#[derive(Debug)]
pub(super) struct Counters {
    flushes_avoided: AtomicU64,
    longest_wait_ns: AtomicU64,
    /// One for each requester that had faults, first come first served; 0 if it is free.
    faults: [AtomicU64; limits::FAULTING_DEVICES],
    other_faults: AtomicU64,
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self {
            flushes_avoided: AtomicU64::new(0),
            longest_wait_ns: AtomicU64::new(0),
            faults: [const { AtomicU64::new(0) }; limits::FAULTING_DEVICES],
            other_faults: AtomicU64::new(0),
        }
    }

    pub(super) fn avoided(&self, flushes: u32) {
        if flushes != 0 {
            self.flushes_avoided.fetch_add(flushes.into(), Ordering::Relaxed);
        }
    }

    pub(super) fn flushes_avoided(&self) -> u64 {
        self.flushes_avoided.load(Ordering::Relaxed)
    }

    pub(super) fn waited(&self, ns: u64) {
        if ns > self.longest_wait_ns() {
            self.longest_wait_ns.fetch_max(ns, Ordering::Relaxed);
        }
    }

    pub(super) fn longest_wait_ns(&self) -> u64 {
        self.longest_wait_ns.load(Ordering::Relaxed)
    }

    /// Counts a fault. One caller at a time.
    pub(super) fn fault(&self, requester: u16) {
        for place in &self.faults {
            let value = place.load(Ordering::Relaxed);
            if value == 0 || value >> FAULTS == requester.into() {
                let faults = (value & MOST).saturating_add(1).min(MOST);
                return place.store(u64::from(requester) << FAULTS | faults, Ordering::Relaxed);
            }
        }
        self.other_faults.fetch_add(1, Ordering::Relaxed);
    }

    /// The requesters that had faults, and how many.
    pub(super) fn faults(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counted = self.faults.iter().map(|place| place.load(Ordering::Relaxed)).filter(|&value| value != 0);
        counted.map(|value| ((value >> FAULTS) as u16, value & MOST))
    }

    /// Faults of requesters for which there was no room.
    pub(super) fn other_faults(&self) -> u64 {
        self.other_faults.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requester_that_faults_for_ever_is_taken_for_no_other() {
        let counters = Counters::new();
        counters.fault(0);
        counters.fault(7);
        counters.faults[1].store(7 << FAULTS | MOST, Ordering::Relaxed);
        [0, 7].iter().for_each(|&requester| counters.fault(requester));
        assert!(counters.faults().eq([(0, 2), (7, MOST)]));
        assert_eq!(counters.other_faults(), 0);
    }
}
