//! Edits as calls of the driver.

use cofferdam::CellId;
use cofferdam::addr::{IovaRange, Region, Rights, SourceId};
use cofferdam::iommu::{self, Committed, DeviceConfig, Error};
use cofferdam_support::front::Changes as _;
use cofferdam_support::machine;

use crate::oracle::{Edit, Oracle};
use crate::pages::Extent;
use crate::{Change, Front};

fn region(first: u64, extent: Extent) -> Region {
    machine::region(first << 12, extent.output << 12, (extent.end - first) << 12, extent.rights)
}

fn range(first: u64, end: u64) -> IovaRange {
    machine::range(first << 12, (end - first) << 12)
}

impl Oracle {
    /// Asks the driver for one edit by its own call.
    pub(crate) fn request_alone(&self, iommu: &Front<'_>, edit: Edit) -> Result<Committed, Error> {
        let id = |cell| self.cell(cell).id;
        match edit {
            Edit::Map(cell, first, extent) if extent.shared => iommu.map_shared(id(cell), region(first, extent)),
            Edit::Map(cell, first, extent) => iommu.map(id(cell), region(first, extent)),
            Edit::Unmap(cell, first, end) => iommu.unmap(id(cell), range(first, end)),
            Edit::Protect(cell, first, end, rights) => iommu.protect(id(cell), range(first, end), rights),
            Edit::Assign(device, cell, device_tlb, messages) => {
                iommu.assign_with(self.devices[device].id, id(cell), DeviceConfig { device_tlb, messages })
            }
            Edit::Route(cell, sender, place) => iommu.route(id(cell), self.source_of(sender), place.route()),
            Edit::Unroute(cell, sender) => iommu.unroute(id(cell), self.source_of(sender)),
            Edit::Release(device) => iommu.release(self.devices[device].id),
            Edit::Destroy(cell) => iommu.destroy_cell(id(cell)),
            Edit::Wrong(..) => {
                let mut change = iommu.change();
                self.add(&mut change, edit);
                change.commit()
            }
        }
    }

    /// Adds an edit to a change.
    pub(crate) fn add(&self, change: &mut Change<'_, '_>, edit: Edit) {
        let id = |cell| self.cell(cell).id;
        match edit {
            Edit::Map(cell, first, extent) if extent.shared => change.map_shared(id(cell), region(first, extent)),
            Edit::Map(cell, first, extent) => change.map(id(cell), region(first, extent)),
            Edit::Unmap(cell, first, end) => change.unmap(id(cell), range(first, end)),
            Edit::Protect(cell, first, end, rights) => change.protect(id(cell), range(first, end), rights),
            Edit::Assign(device, cell, device_tlb, messages) => {
                change.assign_with(self.devices[device].id, id(cell), DeviceConfig { device_tlb, messages })
            }
            Edit::Route(cell, sender, place) => {
                change.with(iommu::Edit::Route(id(cell), self.source_of(sender), place.route()))
            }
            Edit::Unroute(cell, sender) => change.with(iommu::Edit::Unroute(id(cell), self.source_of(sender))),
            Edit::Release(device) => change.release(self.devices[device].id),
            Edit::Destroy(cell) => change.destroy(id(cell)),
            Edit::Wrong(cell, 0) => change.protect(id(cell), range(0, 1), Rights::empty()),
            Edit::Wrong(_, 1) if !self.gone.is_empty() => change.destroy(*self.gone.last().unwrap()),
            Edit::Wrong(cell, _) => change.unmap(id(cell), machine::range(0x5000, 0x123)),
        };
    }
}

/// True if the driver lists a device in a cell.
pub(crate) fn is_listed(iommu: &Front<'_>, device: SourceId, cell: CellId) -> bool {
    let mut found = false;
    iommu.assigned(|it| found |= (it.device, it.cell) == (device, cell)).unwrap();
    found
}

/// True if the driver lists a device as quarantined.
pub(crate) fn is_quarantined(iommu: &Front<'_>, device: SourceId) -> bool {
    let mut found = false;
    iommu.assigned(|it| found |= it.device == device && it.quarantined).unwrap();
    found
}
