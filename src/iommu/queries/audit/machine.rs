//! What configuration space says of assigned devices now next to what was noted of them.
#![forbid(unsafe_code)]

use super::auditor::{Auditor, granted_from};
use crate::addr::SourceId;
use crate::audit::Difference;
use crate::cell::Reserved;
use crate::hal::Hal;
use crate::iommu::state::Assignment;
use crate::pci;
use crate::topology::{BridgeWindow, Isolation, Requesters};

impl<H: Hal> Auditor<'_, '_, H> {
    /// Goes through all devices of cells.
    #[inline(never)]
    pub(super) fn machine(&mut self) {
        for device in &self.config.devices {
            self.identity(device);
            self.isolation(device);
            self.source_ids(device);
            self.windows(device);
            self.reserved(device);
        }
    }

    /// Tells of a device in whose place another kind of device answers, as after it was pulled out.
    #[inline(never)]
    fn identity(&mut self, device: &Assignment) {
        if device.is_another(&self.iommu.hal) {
            self.findings.report(Difference::OtherDevice { source: device.device, cell: device.cell });
        }
    }

    /// Tells which devices of other cells nothing isolates from this one, and counts it if all of these cells allow that; or, if there are none, that it has a larger
    /// group than was noted. Nothing was noted of one that configuration space did not show: its cell takes its isolation from
    /// those that no cell has for granted.
    #[inline(never)]
    fn isolation(&mut self, device: &Assignment) {
        let iommu = self.iommu;
        let group = iommu.topology().group(&iommu.hal, device.device);
        let is_noted = device.group.isolation() != Isolation::Unknown;
        let mut is_larger = is_noted && !group.is_within(&device.group);
        let others = self.config.devices.iter().filter(|other| other.cell != device.cell);
        let mut shares = false;
        for other in others.filter(|other| group.contains(other.device)) {
            if self.config.may_share_group(device.cell, other.cell) {
                shares = true;
                continue;
            }
            is_larger = false;
            self.findings.report(Difference::NotIsolated {
                source: device.device,
                cell: device.cell,
                other: other.device,
                owner: other.cell,
            });
        }
        self.audit.shared_groups += u64::from(shares);
        if is_larger {
            self.findings.report(Difference::LostIsolation { source: device.device, cell: device.cell });
        }
    }

    /// Tells of source-ids that are others now than what was noted when the device arrived. Configuration space says nothing of
    /// a device that it does not show.
    #[inline(never)]
    fn source_ids(&mut self, device: &Assignment) {
        let (iommu, source) = (self.iommu, device.device);
        let mut now = Requesters::NONE;
        let has_room = iommu.topology().add_requesters(&iommu.hal, source, &mut now).is_ok();
        for &id in now.ids().iter().filter(|id| !device.requesters.contains(&(**id).into())) {
            self.other_source_id(device, id, false);
        }
        if has_room && pci::is_there(&iommu.hal, source) {
            let noted = device.requesters.iter().map(|requester| requester.in_segment(source.segment()));
            noted.filter(|id| !now.ids().contains(id)).for_each(|id| self.other_source_id(device, id, true));
        }
    }

    #[inline(never)]
    fn other_source_id(&mut self, device: &Assignment, id: SourceId, noted: bool) {
        let has = |other: &&Assignment| {
            let is_alike = other.device.segment() == id.segment() && other.requesters.contains(&id.into());
            is_alike && other.cell != device.cell
        };
        let owner = self.config.devices.iter().find(has).map(|other| other.cell);
        self.findings.report(Difference::OtherSourceId { source: device.device, id, noted, owner });
    }

    /// Tells of memory of the device's cell, or reserved for the device, that lies in a window of a bridge now.
    #[inline(never)]
    fn windows(&mut self, device: &Assignment) {
        let (iommu, source) = (self.iommu, device.device);
        let (cell, reserved) = (self.config.cell(device.cell).ok(), iommu.reserved(device.reserved));
        let mut found = None;
        // Where too many bridges say that they lead to it, nothing isolates it from the whole segment.
        let _ = BridgeWindow::each(&iommu.hal, source, &mut |window| {
            if found.is_none() {
                let region = granted_from(cell, reserved, window.range.start());
                let inputs = region.map(|region| region.input).filter(|input| input.overlaps(window.range));
                found = inputs.map(|input| (window.bridge, input));
            }
        });
        if let Some((bridge, input)) = found {
            self.findings.report(Difference::InWindow { source, bridge, input });
        }
    }

    /// Tells of reserved memory that is another now than what was noted when the device arrived, and mapped.
    #[inline(never)]
    fn reserved(&mut self, device: &Assignment) {
        let Ok(cell) = self.config.cell(device.cell) else { return };
        let iommu = self.iommu;
        let now = Reserved::mask_of(iommu.topology(), &iommu.hal, device.device, &cell.config);
        for (set, mapped) in [(device.reserved & !now, true), (now & !device.reserved, false)] {
            for region in iommu.reserved(set).iter() {
                self.findings.report(Difference::OtherReserved { source: device.device, region, mapped });
            }
        }
    }
}
