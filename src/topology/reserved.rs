//! Memory that the firmware's table reserves for devices. It is mapped when a new domain is filled: `fill_domain` in
//! `iommu/transaction/provide.rs`.

use core::fmt;

use crate::addr::{IovaRange, Region};

/// Memory that firmware or hardware set up for a device before the driver came, and that the device goes on using:
/// mapped one to one as long as the device is active, in whichever cell it is.
// R66
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReservedMemory {
    /// The range, of whole pages, with input and output the same, and what the device may do there.
    pub region: Region,
    /// Where in the table it is defined.
    pub offset: u32,
}

impl fmt::Display for ReservedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "firmware reserves {} for it, at offset {:#x} of its table", self.region.input, self.offset)
    }
}

/// Those of `all` that overlap one of a set, itself among them: bit n for the n-th.
pub(crate) fn overlapping(all: &[ReservedMemory], set: u64) -> u64 {
    let inputs = || all.iter().map(|memory| memory.region.input).zip(0..u64::BITS);
    let meets = |range: IovaRange| inputs().any(|(own, bit)| set >> bit & 1 == 1 && own.overlaps(range));
    inputs().filter(|(range, _)| meets(*range)).fold(0, |found, (_, bit)| found | 1 << bit)
}
