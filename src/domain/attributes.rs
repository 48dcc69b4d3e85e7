#![forbid(unsafe_code)]

use core::fmt;

use crate::contract::{Features, TableFormat};
use crate::paging::Geometry;

/// Whether DMA can leave the CPU's caches behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherency {
    /// Every request snoops, whatever the device asks for: the CPU need not honour WBINVD or guest memory types.
    Enforced,
    /// A device may have its requests not snoop.
    NotEnforced,
}

impl fmt::Display for Coherency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enforced => "snoop enforced",
            Self::NotEnforced => "snoop not enforced",
        })
    }
}

/// What a page table has to be like for a device. Never changed in place (C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub format: TableFormat,
    pub geometry: Geometry,
    pub coherency: Coherency,
    /// The unit snoops the CPU's caches when it walks the table.
    pub coherent_walks: bool,
    /// The reserved memory that it maps beside the cell's own: bit n for the n-th of the topology. A device that has none
    /// never shares a table with one that has ([R66](crate::guide::rules#r66)).
    pub reserved: u64,
}

impl Attributes {
    /// What a device behind this unit needs. `None` if the unit translates nothing.
    pub(crate) fn of(unit: &Features, coherency: Coherency, reserved: u64) -> Option<Self> {
        let Features { geometry, format, coherent_walks, .. } = *unit;
        Some(Self { format, geometry: geometry?, coherency, coherent_walks, reserved })
    }

    /// True if a table made for `self` serves a device that needs `other`. One that is written back for units that do not
    /// snoop serves those that do.
    pub(crate) fn serves(&self, other: &Self) -> bool {
        self.format == other.format
            && self.geometry == other.geometry
            && self.coherency == other.coherency
            && self.reserved == other.reserved
            && (!self.coherent_walks || other.coherent_walks)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::paging::Hole;

    /// A table that snoops, for a unit that walks it without snooping.
    pub(crate) const SNOOPED: Attributes = Attributes {
        format: TableFormat::SecondStage,
        geometry: geometry(4, 3, 48),
        coherency: Coherency::Enforced,
        coherent_walks: false,
        reserved: 0,
    };

    pub(crate) const fn geometry(levels: u8, max_leaf_level: u8, input_bits: u8) -> Geometry {
        Geometry::new(levels, max_leaf_level, input_bits, 46, &[Hole::INTERRUPTS]).unwrap()
    }

    #[test]
    fn a_table_serves_only_devices_that_need_just_that() {
        let plain = Attributes { coherency: Coherency::NotEnforced, ..SNOOPED };
        let narrow = Attributes { geometry: geometry(3, 3, 39), ..SNOOPED };
        let small = Attributes { geometry: geometry(4, 1, 48), ..SNOOPED };
        let reserving = Attributes { reserved: 1, ..SNOOPED };
        assert!(SNOOPED.serves(&SNOOPED));
        for other in [plain, narrow, small, reserving] {
            assert!(!SNOOPED.serves(&other) && !other.serves(&SNOOPED));
        }
    }

    #[test]
    fn only_tables_that_are_written_back_serve_units_of_both_kinds() {
        let not_written_back = Attributes { coherent_walks: true, ..SNOOPED };
        assert!(SNOOPED.serves(&not_written_back) && !not_written_back.serves(&SNOOPED));
    }
}
