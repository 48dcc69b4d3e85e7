//! Pins of the IOAPIC: those that PCI devices have, as a level and as an edge.

use cofferdam::interrupt::{Route, Source, Trigger};
use cofferdam_pc::IoApic;
use cofferdam_tests_qemu::{Edu, Words};

use crate::job::Job;

const VECTORS: (u8, u8) = (0x50, 0x5f);

impl Job<'_> {
    pub(crate) fn pins(&self, device: &Edu, io_apic: &IoApic) -> Result<(), Words> {
        let cell = self.cell((self.last, self.last), VECTORS)?;
        device.stop_messages();
        for (trigger, base) in [(Trigger::Level, 0x50), (Trigger::Edge, 0x58)] {
            for pin in 16..24 {
                let source = Source::Pin { io_apic: 0, pin };
                self.iommu.route(cell, source, Route { trigger, ..Route::to(self.last, base + pin - 16) })?;
                io_apic.redirect(pin, self.iommu.redirection(0, pin)?);
            }
            let taken = || (0..8).map(|pin| self.cpus.taken(self.last, base + pin)).sum::<u32>();
            let before = self.cpus.taken_by_all();
            device.interrupt();
            // A level comes again until the device is done.
            let is_there = self.cpus.wait_for(|| taken() > 0);
            device.acknowledge();
            let is_settled = self.cpus.settle();
            let (new, all) = (taken(), self.cpus.taken_by_all() - before);
            let is_right = is_there && is_settled && new == all && (trigger == Trigger::Level || new == 1);
            let what = Words::new(format_args!("a pin's interrupt arrives where it is routed, {trigger:?}"));
            self.report.expect(is_right, what.as_str(), format_args!("{new} there, {all} in all"));
        }
        self.audit(8)?;
        for pin in 16..24 {
            self.iommu.unroute(cell, Source::Pin { io_apic: 0, pin })?;
        }
        self.interrupt(device, None, "none of a pin that is routed no more");
        self.iommu.destroy_cell(cell)?;
        Ok(())
    }
}
