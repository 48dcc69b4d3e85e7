//! The live tables next to the configuration.
#![forbid(unsafe_code)]

mod auditor;
mod holdings;
mod interrupts;
mod machine;

use crate::audit::{Difference, Findings, LiveRegisters, LiveTables, Mode, Reach, Seen};
use crate::hal::Hal;
use crate::iommu::error::Error;
use crate::iommu::front::Iommu;
use crate::iommu::lock::Guard;
use crate::iommu::state::{Config, WithheldRange};
use crate::topology::ReservedMemory;
use crate::unit::Unit;
use auditor::{Auditor, frames, is_from};

use holdings::Holdings;

pub use auditor::Audit;
pub use holdings::SharedMemory;

impl<'s, H: Hal> Iommu<'s, H> {
    /// Compares what each source-id reaches by the live tables with what is granted, and calls `each` for every difference;
    /// for none if all is as it should be. Devices of different cells then reach no memory that only another cell owns, and
    /// those of the root cell reach what another cell has only where that cell shares it.
    ///
    /// It starts from the registers of each unit and walks root, context and page tables as the unit does, with bit
    /// definitions of its own, through [`Hal::word_at`]; nothing of the code that writes tables is used. It takes for granted
    /// what the driver knows without the tables: cells with their regions and devices, where firmware's reserved memory is,
    /// each domain's id, and where its table begins. Memory is read as the CPU sees it: what was not written back for a unit
    /// that does not snoop, and what a unit still has cached, is not found. Nor is a pointer to another page table that says
    /// the same, since no device reaches anything else by it.
    ///
    /// Configuration space is held against what was noted of each device when it arrived, or when [`isolate`](Self::isolate)
    /// looked again: what isolates it from others, the source-ids of its requests, windows of bridges where its cell has memory,
    /// and which memory firmware reserves for it. A device that it does not show is not looked at, since nothing is known of it.
    /// Functions that configuration space shows and that no unit serves are reported as well.
    ///
    /// Waits until no change is under way, then keeps all others out until it is through. It reads each page table once for
    /// every source-id that uses it, and no more of them than the driver made, however tables are linked. A unit that failed
    /// is compared like any other, so what it did not do is reported.
    ///
    /// # Errors
    ///
    /// [`Error::NotEnabled`]; or [`Error::InChange`] if a change did not end in time. Nothing was compared.
    pub fn audit(&self, mut each: impl FnMut(Difference)) -> Result<Audit, Error> {
        let config = self.at_rest()?;
        let strangers = page_tables(&config);
        let mut findings = Findings::new(&mut each);
        not_confirmed(&config, self.topology().reserved_memory(), &mut findings);
        let mut auditor = Auditor { iommu: self, config: &config, findings, audit: Audit::of(&config), strangers };
        auditor.units();
        auditor.machine();
        auditor.unserved();
        auditor.audit.differences = auditor.findings.count();
        Ok(auditor.audit)
    }

    /// Calls `each` with all that each source-id reaches by the live tables, unit by unit, ascending, ranges as long as can be.
    /// A unit without tables of legacy mode in use is left out: its devices reach nothing, or everything, and
    /// [`audit`](Self::audit) says which. So are tables that cannot be read.
    ///
    /// # Errors
    ///
    /// As for [`audit`](Self::audit).
    pub fn reach(&self, mut each: impl FnMut(Reach)) -> Result<(), Error> {
        let config = self.at_rest()?;
        let mut strangers = page_tables(&config);
        let ignore = &mut |_| {};
        let mut findings = Findings::new(ignore);
        for (unit, index) in self.each_unit() {
            let registers = LiveRegisters::read(&self.hal, unit.mapped());
            let Some(tables) = self.live_tables(&unit, registers) else { continue };
            let mut functions = tables.functions();
            while let Some(seen) = functions.next(&mut findings) {
                let Seen::Function(requester, target) = seen else { continue };
                let source = requester.in_segment(unit.segment());
                let device = config.devices.iter().find(|device| is_from(device, index, requester));
                let mut own = device.map(|device| frames(config.domain_of(device)));
                let left = own.as_mut().unwrap_or(&mut strangers);
                let mut walk = tables.walk(source, target, left, &mut findings);
                while let Some(reach) = walk.next(left, &mut findings) {
                    each(reach);
                }
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn at_rest(&self) -> Result<Guard<'_, 's>, Error> {
        let mut config = self.between_changes()?;
        config.release_withheld(&self.hal, &self.probed().units);
        if config.enabled { Ok(config) } else { Err(Error::NotEnabled) }
    }

    /// The tables of a unit that translates by tables of legacy mode.
    fn live_tables(&self, unit: &Unit, registers: LiveRegisters) -> Option<LiveTables<'_, H>> {
        match registers.mode() {
            Mode::Legacy(root) => {
                let host_bits = self.topology().host_address_width();
                Some(LiveTables::new(&self.hal, unit.window(), registers, root, host_bits))
            }
            _ => None,
        }
    }
}

/// Reports memory that is withheld from others and that another cell has all the same.
#[inline(never)]
fn not_confirmed(config: &Config<'_>, all_reserved: &[ReservedMemory], findings: &mut Findings<'_>) {
    for WithheldRange { cell, memory, shared } in config.withheld.iter().copied() {
        for (owner, _) in config.cells.iter().filter(|(id, _)| *id != cell) {
            for theirs in Holdings::of(config, all_reserved, owner).filter(|theirs| !(theirs.shared && shared)) {
                if let Some(memory) = theirs.memory.intersection(memory) {
                    findings.report(Difference::NotConfirmed { cell, owner, memory });
                }
            }
        }
    }
}

/// The same for all domains together.
fn page_tables(config: &Config<'_>) -> usize {
    let domains = config.cells.iter().flat_map(|(_, cell)| &cell.domains);
    domains.map(|domain| frames(Some(domain))).fold(0, usize::saturating_add)
}
