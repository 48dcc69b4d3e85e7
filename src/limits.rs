//! How much the driver can hold. Its user picks each capacity by name, and hands over the memory.
//!
//! The driver allocates nothing but the hardware's own tables, so everything else has a fixed capacity. A full one is a
//! typed error, [`Full`].

mod list;
mod memory;

use core::fmt;

pub(crate) use list::List;
pub use memory::Memory;
pub(crate) use memory::{Carver, words_of};

/// The capacities of a front. They are picked once, when it [reads the firmware's table](crate::Iommu::probe_acpi).
///
/// ```
/// use cofferdam::limits::Limits;
///
/// const SMALL: Limits = Limits { units: 4, cells: 4, devices: 32, ..Limits::DEFAULT };
/// const { assert!(SMALL.words() < Limits::DEFAULT.words()) };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Remapping units.
    pub units: usize,
    /// Device scopes of all structures of the firmware's table together.
    pub scopes: usize,
    /// Reserved memory regions of the firmware's table: at most 64.
    pub reserved: usize,
    /// Cells that exist at a time: at most 64.
    pub cells: usize,
    /// Regions of one cell that is not the root cell.
    pub regions: usize,
    /// Regions of the root cell, of which each piece that another cell takes from the middle of one leaves two.
    pub root_regions: usize,
    /// Different page tables of one cell: one for each combination of attributes that its devices need.
    pub domains: usize,
    /// Devices assigned at a time, in all cells together.
    pub devices: usize,
    /// Devices with a device-TLB at a time, behind one remapping unit: at most 48. Those that a change releases are among
    /// them until it is committed.
    pub device_tlbs: usize,
    /// Windows of bridges that matter to all devices that are assigned at a time: at most 64
    /// ([`BridgeWindow`](crate::topology::BridgeWindow)).
    pub windows: usize,
    /// Interrupts that can be routed at a time, in all cells together: a power of two from 64 to 65,536, or 0 for a machine whose
    /// interrupts are not remapped. Each unit has a table of as many entries, of 16 bytes each.
    pub interrupts: usize,
    /// Pins of IOAPICs and timers of HPETs that can be routed at a time.
    pub lines: usize,
    /// Changes that wait for units at a time: there is use for one for each cell. Others wait for one of these to end, as for
    /// a cell that is in a change.
    pub changes: usize,
}

impl Limits {
    /// Enough for a server of four sockets.
    pub const DEFAULT: Self = Self {
        units: 64,
        scopes: 1024,
        reserved: 64,
        cells: 16,
        regions: 64,
        root_regions: 256,
        domains: 4,
        devices: 256,
        device_tlbs: 32,
        windows: 32,
        interrupts: 256,
        lines: 64,
        changes: 16,
    };

    /// True if there can be a table of as many interrupts, or is to be none.
    const fn has_table_of_interrupts(&self) -> bool {
        matches!(self.interrupts, 0 | 64..=0x1_0000) && self.interrupts.count_ones() <= 1
    }

    /// The first capacity that is larger than it can be, or too small to be of any use: whatever takes capacities refuses
    /// these. `None` if there is none.
    ///
    /// ```
    /// use cofferdam::limits::Limits;
    ///
    /// assert_eq!(Limits::DEFAULT.flaw(), None);
    /// let most = Limits { cells: 65, ..Limits::DEFAULT }.flaw().map(|flaw| flaw.capacity);
    /// assert_eq!(most, Some(64));
    /// ```
    #[must_use]
    pub const fn flaw(&self) -> Option<Full> {
        let bounds = [
            ("changes at a time (1 at least)", self.changes == 0, 1),
            ("reserved memory regions", self.reserved > 64, 64),
            ("cells", self.cells > 64, 64),
            ("devices with a device-TLB", self.device_tlbs > 48, 48),
            ("windows of bridges", self.windows > 64, 64),
            ("interrupts (a power of two from 64 on, or 0)", !self.has_table_of_interrupts(), 1 << 16),
        ];
        let mut index = 0;
        while index < bounds.len() {
            #[allow(clippy::indexing_slicing, reason = "the index is below the length, and `get` is not const")]
            let (what, is_flaw, capacity) = bounds[index];
            if is_flaw {
                return Some(Full { what, capacity });
            }
            index += 1;
        }
        None
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Devices whose faults are counted one by one, behind one remapping unit.
pub const FAULTING_DEVICES: usize = 16;

/// A fixed capacity is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// What there is no room for.
    pub what: &'static str,
    /// How many there can be.
    pub capacity: usize,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room for more {}: the capacity is {}", self.what, self.capacity)
    }
}

impl core::error::Error for Full {}
