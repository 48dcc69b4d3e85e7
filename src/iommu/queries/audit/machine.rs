//! What configuration space says of assigned devices now next to what was noted of them.
#![forbid(unsafe_code)]

use super::auditor::Auditor;
use crate::audit::Difference;
use crate::cell::Reserved;
use crate::hal::Hal;
use crate::iommu::state::Assignment;
use crate::topology::Isolation;

impl<H: Hal> Auditor<'_, '_, H> {
    /// Goes through all devices of cells.
    #[inline(never)]
    pub(super) fn machine(&mut self) {
        for device in &self.config.devices {
            self.isolation(device);
            self.reserved(device);
        }
    }

    /// Tells which devices of other cells nothing isolates from this one any more. One that configuration space did not show
    /// when it arrived is left out: its cell takes its isolation for granted.
    #[inline(never)]
    fn isolation(&mut self, device: &Assignment) {
        if device.group.isolation() == Isolation::Unknown {
            return;
        }
        let iommu = self.iommu;
        let group = iommu.topology.group(&iommu.hal, device.device);
        let others = self.config.devices.iter().filter(|other| other.cell != device.cell);
        for other in others.filter(|other| group.contains(other.device)) {
            self.findings.report(Difference::NotIsolated {
                source: device.device,
                cell: device.cell,
                other: other.device,
                owner: other.cell,
            });
        }
    }

    /// Tells of reserved memory that is another now than what was noted when the device arrived, and mapped.
    #[inline(never)]
    fn reserved(&mut self, device: &Assignment) {
        let Ok(cell) = self.config.cell(device.cell) else { return };
        let iommu = self.iommu;
        let now = Reserved::mask_of(&iommu.topology, &iommu.hal, device.device, &cell.config);
        for (set, mapped) in [(device.reserved & !now, true), (now & !device.reserved, false)] {
            for region in iommu.reserved(set).iter() {
                self.findings.report(Difference::OtherReserved { source: device.device, region, mapped });
            }
        }
    }
}
