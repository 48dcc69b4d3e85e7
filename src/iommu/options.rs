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
    /// The largest page that page tables may have, as the level of its entry: 1 for 4 KiB, 2 for 2 MiB, 3 for 1 GiB. Units
    /// that can do less are given less, and so are those whose large pages are known not to work on this machine.
    pub max_leaf_level: u8,
    /// [`Iommu::probe_acpi`](crate::Iommu::probe_acpi) fails if any unit does not answer or cannot be used. Otherwise that unit
    /// has failed, its devices are refused, and all others can be used.
    pub require_all_units: bool,
    /// Units that somebody else has on are taken over by [`Iommu::enable`](crate::Iommu::enable): they translate, remap interrupts or
    /// have a queue. Otherwise `enable` fails before it touches anything, with [`UnitError::FoundOn`](crate::error::UnitError) for the
    /// first of them; what each was found doing, [`Iommu::units`](crate::Iommu::units) says before.
    pub take_over: bool,
    /// [`Iommu::enable`](crate::Iommu::enable) succeeds although devices are left that nothing blocks, and says which. The caller
    /// answers for them: they may reach all memory.
    pub accept_unblocked: bool,
}

impl Options {
    /// One second: far more than any unit needs, far less than anybody waits. Three minutes for device-TLBs: PCI Express lets
    /// a device answer within a minute and a half. No memory is known. The smallest queue, which has room for the calls of
    /// more than a dozen CPUs at a time. Pages as large as units can do. One unit that cannot be used costs itself alone,
    /// none is taken over from somebody else, and nothing is left unblocked without an error.
    pub const DEFAULT: Self = Self {
        timeout_ns: 1_000_000_000,
        device_timeout_ns: 180_000_000_000,
        memory: None,
        queue_slots: 256,
        max_leaf_level: 3,
        require_all_units: false,
        take_over: false,
        accept_unblocked: false,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}
