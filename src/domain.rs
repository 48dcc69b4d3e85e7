//! A domain: one page table, with the attributes that were fixed when it was made and its id on every unit.

mod table;

use core::fmt;

use crate::addr::{IovaRange, Region};
use crate::contract::{DomainId, Features, TableFormat, Translation};
use crate::hal::{FrameList, Hal};
use crate::paging::{Geometry, MapError, Prealloc};
pub(crate) use table::Table;

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
    /// never shares a table with one that has (R66).
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

/// A page table in use by at least one device.
#[derive(Debug)]
#[must_use = "a domain that is dropped keeps its frames"]
pub(crate) struct Domain {
    /// Its domain-id: the same on each unit (R38).
    pub id: DomainId,
    pub attributes: Attributes,
    pub table: Table,
    /// A unit may have been told of it.
    pub known: bool,
    /// Frames for the edits of the change that is under way.
    pub prealloc: Prealloc,
}

impl Domain {
    /// A domain that maps these regions.
    ///
    /// On failure nothing is left of it.
    pub(crate) fn new(
        hal: &impl Hal,
        id: DomainId,
        attributes: Attributes,
        regions: impl Iterator<Item = Region>,
    ) -> Result<Self, MapError> {
        let mut table = Table::new(hal, &attributes)?;
        for region in regions {
            match table.prepare_map(hal, region) {
                Ok(prealloc) => {
                    let _ = table.map(hal, region, prealloc);
                    // SAFETY: no unit was told of the table yet, so none has cached any of it.
                    unsafe { table.free_unlinked(hal) };
                }
                Err(error) => {
                    // SAFETY: no unit was ever told of the table.
                    unsafe { table.into_frames(hal).free(hal) };
                    return Err(error);
                }
            }
        }
        Ok(Self { id, attributes, table, known: false, prealloc: Prealloc::none() })
    }

    /// What edits of the change that is under way were promised.
    pub(crate) fn take_prealloc(&mut self) -> Prealloc {
        core::mem::replace(&mut self.prealloc, Prealloc::none())
    }

    /// The part of it for an edit of `range`.
    pub(crate) fn prealloc_for_edit(&mut self, hal: &impl Hal, range: IovaRange) -> Prealloc {
        self.prealloc.split_off(hal, self.attributes.geometry.tables_to_edit(range))
    }

    /// The part of it for mapping `region`.
    pub(crate) fn prealloc_for_map(&mut self, hal: &impl Hal, region: Region) -> Prealloc {
        self.prealloc.split_off(hal, self.attributes.geometry.tables_to_map(region).unwrap_or_default())
    }

    /// All its frames, for the platform once no unit reaches them.
    pub(crate) fn into_frames(mut self, hal: &impl Hal) -> FrameList {
        self.take_prealloc().free(hal);
        self.table.into_frames(hal)
    }

    /// What a context entry says to lead here.
    pub(crate) fn translation(&self, device_tlb: bool) -> Translation {
        Translation { stage: self.table.stage(), domain: self.id, device_tlb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paging::Hole;

    const GEOMETRY: Geometry = geometry(4, 3, 48);
    const SNOOPED: Attributes = Attributes {
        format: TableFormat::SecondStage,
        geometry: GEOMETRY,
        coherency: Coherency::Enforced,
        coherent_walks: true,
        reserved: 0,
    };

    const fn geometry(levels: u8, max_leaf_level: u8, input_bits: u8) -> Geometry {
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
    fn a_table_that_is_written_back_serves_units_that_snoop_but_not_the_other_way_round() {
        let written_back = Attributes { coherent_walks: false, ..SNOOPED };
        assert!(written_back.serves(&SNOOPED) && !SNOOPED.serves(&written_back));
    }
}
