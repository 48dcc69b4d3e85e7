use crate::hal::Window;

/// A remapping unit, as the firmware's table describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnitInfo {
    /// Its registers.
    pub window: Window,
    /// The PCI segment of its devices.
    pub segment: u16,
    /// It serves what no other unit of its segment does.
    pub include_all: bool,
    /// The node that it belongs to, as the SRAT table numbers them.
    pub proximity: Option<u32>,
    /// Where in the table it is defined.
    pub offset: u32,
}

impl UnitInfo {
    /// True if the registers of the two have an address in common.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (start, other_start) = (self.window.base.as_u64(), other.window.base.as_u64());
        start < other_start + u64::from(other.window.bytes) && other_start < start + u64::from(self.window.bytes)
    }
}
