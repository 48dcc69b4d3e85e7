//! What a change has left that failed.
#![forbid(unsafe_code)]

use super::{AssignedDevice, WithheldMemory};
use crate::cell::CellId;
use crate::domain::Coherency;
use crate::iommu::state::{CellSet, Config};

/// One thing that a change has left that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remains {
    /// Devices of a cell may still reach memory that the cell does not have, or not by all rights: it must not be used for
    /// anything else.
    Withheld(WithheldMemory),
    /// A device could not be released. It is blocked, and stays in its cell.
    Quarantined(AssignedDevice),
    /// The coherency of a cell is another than what the hypervisor learned last, and this is what it is now.
    Coherency(CellId, Coherency),
}

impl Config<'_> {
    /// Calls `each` with what is left of changes that failed, as far as it is about one of some cells, which were among the first
    /// that were made. The hypervisor has learned of their coherency then; that of a cell which is in a change by now is left to
    /// that.
    #[inline(never)]
    pub(in crate::iommu) fn report(&mut self, cells: CellSet, first_made: u32, each: &mut dyn FnMut(Remains)) {
        let is_concerned = |id: CellId| cells.has(id) && id.is_among(first_made);
        let withheld = self.withheld.iter().map(WithheldMemory::from).filter(|it| is_concerned(it.cell));
        withheld.map(Remains::Withheld).for_each(&mut *each);
        let devices = self.devices.iter().map(AssignedDevice::from);
        devices.filter(|it| it.quarantined && is_concerned(it.cell)).map(Remains::Quarantined).for_each(&mut *each);
        self.report_coherency(is_concerned, |id, now| each(Remains::Coherency(id, now)));
    }

    /// Calls `each` with the concerned cells whose coherency is another than what the hypervisor learned last, and which are in no
    /// change.
    pub(super) fn report_coherency(
        &mut self,
        is_concerned: impl Fn(CellId) -> bool,
        mut each: impl FnMut(CellId, Coherency),
    ) {
        for (id, cell) in self.cells.iter_mut().filter(|(id, cell)| is_concerned(*id) && !cell.busy) {
            if let Some(now) = cell.learn_coherency() {
                each(id, now);
            }
        }
    }
}
