#![forbid(unsafe_code)]

use core::fmt;

use super::{Iova, IovaRange, PhysAddr, PhysRange};

bitflags::bitflags! {
    /// What a device may do with the memory of a region.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// The device may read.
        const READ = 1;
        /// The device may write.
        const WRITE = 2;
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.contains(Self::READ), self.contains(Self::WRITE)) {
            (true, true) => "read write",
            (true, false) => "read",
            (false, true) => "write",
            (false, false) => "none",
        })
    }
}

/// Memory that a cell's devices reach: an input range, the physical range behind it, and the rights.
///
/// A plain value: nothing is checked until it is mapped. What can be is made of whole 4 KiB pages on both sides, has a right
/// at least, and keeps clear of 0xFEE0_0000 to 0xFEEF_FFFF on both, where requests are interrupts
/// ([`MapError`](crate::iommu::MapError)). Larger pages are used wherever input and output begin alike, as both at a multiple
/// of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where devices see it.
    pub input: IovaRange,
    /// The physical address behind the first byte.
    pub output: PhysAddr,
    /// What devices may do.
    pub rights: Rights,
}

impl Region {
    /// The region of `bytes` bytes from `input` on, which leads to `output`; `None` if it is empty, or its input passes 2^64.
    pub const fn new(input: Iova, output: PhysAddr, bytes: u64, rights: Rights) -> Option<Self> {
        match IovaRange::new(input, bytes) {
            Some(input) => Some(Self { input, output, rights }),
            None => None,
        }
    }

    /// The physical addresses behind the input range; `None` if they pass 2^52, so that nothing can be mapped there.
    pub fn outputs(&self) -> Option<PhysRange> {
        PhysRange::new(self.output, self.input.bytes())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {:#x} ({})", self.input, self.output.as_u64(), self.rights)
    }
}
