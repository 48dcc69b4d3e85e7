use core::fmt;

use crate::addr::PhysAddr;

/// Where an interrupt is recorded instead of delivered: a bit of a descriptor in memory, for a virtual CPU that takes it from there.
/// Whom the unit notifies of that, if anybody, the descriptor itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Posting {
    descriptor: PhysAddr,
    vector: u8,
    urgent: bool,
}

impl Posting {
    /// Recorded as `vector`, 16 to 255, of the descriptor at this physical address; it is not urgent.
    ///
    /// # Safety
    ///
    /// Units write to a descriptor by themselves. So from when an interrupt is [posted](crate::iommu::Edit::Post) there, the address is
    /// that of a descriptor of the unit's kind, in write-back memory that nobody uses for anything else (VT-d 5.10, section
    /// 5.2.2). It stays so until a change of the cell has succeeded after which the interrupt is posted there no more, or its unit
    /// [is forgotten](crate::Iommu::forget_unit) or was switched off by [`disable`](crate::Iommu::disable). A change that fails ends nothing.
    /// Whoever hands the value over again answers for it again.
    pub const unsafe fn new(descriptor: PhysAddr, vector: u8) -> Self {
        Self { descriptor, vector, urgent: false }
    }

    /// For tests that hand it to no unit.
    #[cfg(test)]
    pub(crate) const fn of_nobody(descriptor: PhysAddr, vector: u8) -> Self {
        Self { descriptor, vector, urgent: false }
    }

    /// The same, and urgent: it is notified of at once, also where the descriptor has notices of others suppressed.
    #[must_use]
    pub const fn urgent(self) -> Self {
        Self { urgent: true, ..self }
    }

    /// Where the descriptor is.
    pub const fn descriptor(self) -> PhysAddr {
        self.descriptor
    }

    /// The vector that it is recorded as.
    pub const fn vector(self) -> u8 {
        self.vector
    }

    /// True if it is urgent.
    pub const fn is_urgent(self) -> bool {
        self.urgent
    }
}

impl fmt::Display for Posting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vector {} of the descriptor at {:#x}", self.vector, self.descriptor.as_u64())?;
        if self.urgent { f.write_str(", urgent") } else { Ok(()) }
    }
}
