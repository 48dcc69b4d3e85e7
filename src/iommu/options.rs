#![forbid(unsafe_code)]

use crate::contract::MainMemory;

/// How the front goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long to wait for a unit to confirm something, in nanoseconds. A unit that takes longer is out of service. A clock
    /// that [stands still](crate::hal::Hal::now_ns) ends a wait as well.
    ///
    /// Invalidations that wait for devices have [more time](Self::device_timeout_ns).
    pub timeout_ns: u64,
    /// How long to wait for an invalidation of device-TLBs, or for one behind it in the queue, in nanoseconds; no less than
    /// `timeout_ns` in any case.
    ///
    /// A unit gives a device time to answer, which only the unit knows (VT-d 5.10, section 4.3), and here it does so twice;
    /// then the device is named and quarantined. If this is over before, it is the unit that is out of service. Devices that
    /// die together may each take that long.
    pub device_timeout_ns: u64,
    /// Where main memory is, if that is known: protected by registers while a unit that firmware left on is taken over, where
    /// the unit has no better way.
    pub memory: Option<MainMemory>,
    /// How many descriptors the queue of each unit has room for; rounded up to a power of two from 256 to 2^15. At most half
    /// of them are in use. A queue takes a frame for every 128 of them.
    pub queue_slots: u16,
}

impl Options {
    /// One second: far more than any unit needs, far less than anybody waits. Three minutes for device-TLBs: PCI Express lets
    /// a device answer within a minute and a half. No memory is known. And the smallest queue, which has room for the calls of
    /// more than a dozen CPUs at a time.
    pub const DEFAULT: Self =
        Self { timeout_ns: 1_000_000_000, device_timeout_ns: 180_000_000_000, memory: None, queue_slots: 256 };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}
