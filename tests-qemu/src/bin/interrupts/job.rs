//! What the scenario works with.

use cofferdam::fault::{Access, Fault};
use cofferdam::interrupt::{CpuSet, InterruptTargets, Message, VectorSet};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Cpus, Pc};
use cofferdam_tests_qemu::{Edu, Front, Report, Words};
use heapless::Vec;

pub(crate) struct Job<'r> {
    pub(crate) iommu: Front<&'static Pc>,
    pub(crate) cpus: Cpus,
    pub(crate) report: &'r Report,
    /// All APIC ids; the one of the CPU that runs this, and those of the CPUs of both cells.
    pub(crate) ids: Vec<u32, 8>,
    pub(crate) boot: u32,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The unit reports interrupts that it blocks.
    pub(crate) has_faults: bool,
}

impl Job<'_> {
    /// A cell with these CPUs and vectors.
    pub(crate) fn cell(&self, cpus: (u32, u32), vectors: (u8, u8)) -> Result<CellId, Words> {
        let cpus = CpuSet::NONE.with(cpus.0, cpus.1);
        let interrupts = InterruptTargets { cpus, vectors: VectorSet::NONE.with(vectors.0, vectors.1), flat_ids: 0 };
        Ok(self.iommu.create_cell(CellConfig { interrupts, ..CellConfig::DEFAULT })?)
    }

    /// Has a device send this message, which arrives at that CPU with that vector.
    pub(crate) fn arrives(&self, device: &Edu, message: Message, at: (u32, u8), what: &str) {
        device.program(message);
        self.interrupt(device, Some(at), what);
    }

    /// Has a device send this message, and nothing arrives. The unit reports why, for which entry and whose it is.
    pub(crate) fn is_blocked(&self, device: &Edu, message: Message, why: (u16, u16), what: &str) {
        self.iommu.faults(|_| ());
        device.program(message);
        self.interrupt(device, None, what);
        let mut faults = Vec::<Fault, 4>::new();
        self.iommu.faults(|fault| _ = faults.push(fault));
        let (code, index) = why;
        let is_it = |fault: &Fault| {
            let whose = (fault.source, fault.access) == (device.source(), Access::Interrupt);
            whose && (fault.code, fault.interrupt_index) == (code, Some(index))
        };
        let is_right = match faults.as_slice() {
            [fault] => self.has_faults && is_it(fault),
            others => !self.has_faults && others.is_empty(),
        };
        let what = match self.has_faults {
            true => Words::new(format_args!("and the fault says so: {code:#x}, entry {index}, {}", device.source())),
            false => Words::new(format_args!("and there is no fault of it")),
        };
        let seen = faults.first().map(|fault| Words::new(format_args!("{fault}"))).unwrap_or_default();
        self.report.expect(is_right, what.as_str(), format_args!("{} faults; {}", faults.len(), seen.as_str()));
    }

    /// Has a device send its interrupt: it arrives there and nowhere else, or nothing does.
    pub(crate) fn interrupt(&self, device: &Edu, at: Option<(u32, u8)>, what: &str) {
        let here = || at.map_or(0, |(id, vector)| self.cpus.taken(id, vector));
        let (all_before, before) = (self.cpus.taken_by_all(), here());
        device.interrupt();
        let is_settled = self.cpus.settle();
        let (all, new) = (self.cpus.taken_by_all() - all_before, here() - before);
        device.acknowledge();
        let expected = u32::from(at.is_some());
        let seen = format_args!("{new} at {at:x?}, {all} in all");
        self.report.expect(is_settled && (new, all) == (expected, expected), what, seen);
    }

    /// The live tables are as they were granted, with so many routes.
    pub(crate) fn audit(&self, routes: u64) -> Result<(), Words> {
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_right = (audit.differences, audit.interrupts) == (0, routes);
        let what = Words::new(format_args!("the audit finds nothing, and {routes} routes"));
        self.report.expect(is_right, what.as_str(), format_args!("{audit:?}"));
        Ok(())
    }
}
