//! Devices that no unit blocks.
#![forbid(unsafe_code)]

use crate::addr::SourceId;
use crate::contract::UnitState;
use crate::hal::Hal;
use crate::iommu::error::{Error, Unblocked};
use crate::iommu::front::Iommu;
use crate::pci;
use crate::topology::{Role, Target};
use crate::unit::Unit;

impl<H: Hal> Iommu<'_, H> {
    /// What no unit blocks now, by the units' registers and configuration space as they are. Calls `each` with every function
    /// that is not blocked: of a segment that a unit names, since others are not looked at.
    ///
    /// Where all units block, and one of each segment takes what the firmware's table does not list, no function is looked at.
    /// While a device is reset as it leaves its cell, the call waits: nobody may look at that device. The configuration is
    /// locked meanwhile, so `each` must not call the front.
    ///
    /// # Errors
    ///
    /// [`Error::NotProbed`]. Or a reset takes longer than [`Options::timeout_ns`](crate::iommu::Options): [`Error::InChange`].
    pub fn unblocked(&self, each: &mut dyn FnMut(SourceId)) -> Result<Unblocked, Error> {
        let _config = self.between_resets()?;
        if self.probed().units.is_empty() { Err(Error::NotProbed) } else { Ok(self.find_unblocked(each)) }
    }

    /// The same without a lock.
    #[inline(never)]
    pub(in crate::iommu) fn find_unblocked(&self, each: &mut dyn FnMut(SourceId)) -> Unblocked {
        let mut found = Unblocked { table_incomplete: !self.topology().is_complete(), ..Unblocked::default() };
        found.units = self.each_unit().filter(|(unit, _)| !self.blocks(unit)).count() as u16;
        for segment in self.segments() {
            let is_open = self.is_open(segment);
            if is_open {
                found.open_segment.get_or_insert(segment);
            }
            if is_open || found.units != 0 {
                for function in pci::functions_in(&self.hal, segment).filter(|function| !self.is_blocked(*function)) {
                    found.functions.add(function);
                    each(function);
                }
            }
        }
        found
    }

    /// The functions that configuration space shows in the units' segments and that no unit serves.
    pub(super) fn unserved(&self) -> impl Iterator<Item = SourceId> + '_ {
        let open = self.segments().filter(|segment| self.is_open(*segment));
        let functions = open.flat_map(|segment| pci::functions_in(&self.hal, segment));
        functions.filter(|function| self.topology().unit_of(&self.hal, *function).is_none())
    }

    /// The segments of all units, each once.
    pub(in crate::iommu) fn segments(&self) -> impl Iterator<Item = u16> + '_ {
        let all = || self.each_unit().map(|(unit, _)| unit.segment());
        all()
            .enumerate()
            .filter(move |(index, segment)| all().position(|it| it == *segment) == Some(*index))
            .map(|(_, it)| it)
    }

    /// True if no unit takes what is left of a segment.
    fn is_open(&self, segment: u16) -> bool {
        !self.topology().scopes().iter().any(|scope| {
            let takes_rest = matches!((scope.role, scope.target), (Role::Unit(_), Target::Segment));
            takes_rest && scope.source.segment() == segment
        })
    }

    fn blocks(&self, unit: &Unit) -> bool {
        matches!(unit.state(&self.hal), UnitState::On | UnitState::Failed { blocking: true, .. })
    }

    fn is_blocked(&self, function: SourceId) -> bool {
        let unit = self.topology().unit_of(&self.hal, function).and_then(|index| self.unit(index));
        unit.is_some_and(|unit| self.blocks(&unit))
    }
}
