//! What calls of the driver cost.
#![forbid(unsafe_code)]

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

use cofferdam::hal::Hal;

use crate::front::Front;
use crate::watched::Call;

/// What units are asked by some calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Descriptors, waits among them.
    pub descriptors: u64,
    /// Wait descriptors.
    pub waits: u64,
    /// Writes of a queue's tail register.
    pub doorbells: u64,
}

impl Cost {
    /// No unit is asked.
    pub const NOTHING: Self = Self { descriptors: 0, waits: 0, doorbells: 0 };

    /// One unit is asked once, with so many descriptors, the wait among them.
    pub const fn batch(descriptors: u64) -> Self {
        Self { descriptors, waits: 1, doorbells: 1 }
    }

    /// What units have been asked up to now.
    pub fn so_far<H: Hal>(iommu: &Front<H>) -> Self {
        let counts = iommu.statistics();
        Self { descriptors: counts.descriptors, waits: counts.waits, doorbells: counts.doorbells }
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            descriptors: self.descriptors - before.descriptors,
            waits: self.waits - before.waits,
            doorbells: self.doorbells - before.doorbells,
        }
    }
}

/// What `call` costs.
pub fn cost<H: Hal, T>(iommu: &Front<H>, call: impl FnOnce() -> T) -> Cost {
    let before = Cost::so_far(iommu);
    call();
    Cost::so_far(iommu) - before
}

/// How often the driver accesses a [watched](crate::watched::Watched) machine in one way.
#[derive(Debug)]
pub struct Calls {
    of: Call,
    count: AtomicU64,
}

impl Calls {
    /// None of this kind up to now.
    pub const fn new(of: Call) -> Self {
        Self { of, count: AtomicU64::new(0) }
    }

    /// Counts an access, if it is of the kind.
    pub fn look(&self, call: Call) {
        self.count.fetch_add(u64::from(call == self.of), Ordering::Relaxed);
    }

    /// How many there were since the last look at their number.
    pub fn take(&self) -> u64 {
        self.count.swap(0, Ordering::Relaxed)
    }
}
