//! When memory is withheld: from a change that a unit did not confirm until the unit has confirmed a flush of everything.
#![forbid(unsafe_code)]

use super::{Assignment, CellSet, Config, Line, WithheldRange, units_of};
use crate::cell::{CellId, Part, RegionDifferences, Reserved};
use crate::hal::Hal;
use crate::iommu::unit_lock::UnitLock;

/// The phase in which a change fails.
#[derive(Clone, Copy, Debug)]
pub(in crate::iommu) enum Phase {
    Revoke,
    Grant,
}

impl Config<'_> {
    /// Withholds what a change has taken from its cells, or has granted and taken back, rights among it, as far as a unit has not
    /// confirmed that their devices do not reach it.
    #[inline(never)]
    pub(in crate::iommu) fn withhold(&mut self, hal: &impl Hal, units: &[UnitLock], scope: CellSet, phase: Phase) {
        let Self { root, cells, devices, withheld, .. } = self;
        for (id, cell) in cells.iter().filter(|(id, _)| scope.has(*id)) {
            if is_confirmed(hal, units, devices, id) {
                continue;
            }
            for difference in RegionDifferences::new(&cell.regions, &cell.staged, Reserved::NONE) {
                let (moved, from) = match phase {
                    Phase::Revoke => (difference.lessened(), &cell.regions),
                    Phase::Grant => (difference.increased(), &cell.staged),
                };
                if let Some(region) = moved
                    && let Some(memory) = region.outputs()
                {
                    let own = |part: &Part| !part.shared && part.region.input.overlaps(region.input);
                    // The root cell has nothing for itself that another cell shares.
                    let shared = root.is(id) || !from.parts().iter().any(own);
                    withheld.add(WithheldRange { cell: id, memory, shared });
                }
            }
        }
    }

    /// Lets lines go that a change has cut and whose unit had not confirmed that, once it has: they are free for any cell.
    #[inline(never)]
    pub(in crate::iommu) fn release_lines(&mut self, hal: &impl Hal, units: &[UnitLock]) {
        let Self { cells, interrupts, .. } = self;
        let has_confirmed =
            |line: &Line| units.get(line.unit.get()).is_some_and(|unit| unit.read().has_confirmed_all(hal));
        // A change of its cell may have routed it again, and be taking that back.
        let is_busy = |line: &Line| cells.get(line.cell).is_ok_and(|cell| cell.busy);
        interrupts.remove_lines(&|line| line.is_cut() && !is_busy(line) && has_confirmed(line));
    }

    /// Withholds no longer what no device reaches any more: each unit behind which the cell has a device has confirmed all
    /// that it was to invalidate.
    #[inline(never)]
    pub(in crate::iommu) fn release_withheld(&mut self, hal: &impl Hal, units: &[UnitLock]) {
        let Self { devices, withheld, .. } = self;
        withheld.retain(|range| !is_confirmed(hal, units, devices, range.cell));
    }
}

/// True if each unit behind which a cell has a device has confirmed all that it was to invalidate.
fn is_confirmed(hal: &impl Hal, units: &[UnitLock], devices: &[Assignment], cell: CellId) -> bool {
    let mut units = units_of(units, devices, |device| device.cell == cell);
    units.all(|unit| unit.has_confirmed_all(hal))
}
