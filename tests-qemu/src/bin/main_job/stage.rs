//! Who plays, and what a device can reach, found by trying.
#![forbid(unsafe_code)]

use core::fmt;

use cofferdam::addr::{Iova, Rights, SourceId};
use cofferdam::fault::{Access, Fault};
use cofferdam::interrupt::{CpuSet, InterruptTargets, VectorSet};
use cofferdam::iommu::UnitDetails;
use cofferdam::topology::Requesters;
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Cpus, Pc};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Broken, Edu, Front, Report, Words};
use heapless::Vec;

use crate::memory::{CELL_BYTES, Memory, PAGE};

/// Where both cells' devices see their memory: far from where it is, and within 39 bits.
pub(crate) const INPUT: Iova = Iova::new(0x20_0000_0000);

/// Words that belong to no memory, to tell who wrote last.
const SEEN_BY_DEVICE: u64 = 0xd0d0_d0d0_0000_0001;
const WRITTEN_BY_CPU: u64 = 0xc0c0_c0c0_0000_0002;

/// An address within the cells' memory, as devices see it.
pub(crate) fn input(offset: u64) -> Iova {
    INPUT.checked_add(offset).unwrap_or(INPUT)
}

/// A cell, with its device, its memory and its CPU.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) name: &'static str,
    pub(crate) device: Edu,
    /// The source-ids of its requests, as the driver says.
    pub(crate) requesters: Requesters,
    /// The source-id of its requests, as the unit says of one that it blocked.
    pub(crate) sender: SourceId,
    pub(crate) memory: Memory,
    /// The APIC id of its CPU.
    pub(crate) cpu: u32,
    pub(crate) cell: CellId,
}

/// Who a device's requests come from, by the fault of one that is blocked.
fn sender(iommu: &Front<Broken<&'static Pc>>, device: &Edu) -> Result<SourceId, Words> {
    iommu.faults(|_| ());
    device.read(INPUT, 8);
    let mut sender = None;
    iommu.faults(|fault| sender = sender.or((fault.address == Some(INPUT)).then_some(fault.source)));
    sender.ok_or_else(|| Words::new(format_args!("the unit recorded no fault of {}", device.source())))
}

/// The machine, its driver and both cells.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) pc: &'static Pc,
    pub(crate) iommu: &'a Front<Broken<&'static Pc>>,
    pub(crate) report: &'a Report,
    /// A device that firmware does not let snoop.
    pub(crate) forbidden: Option<SourceId>,
    pub(crate) cpus: Cpus,
    /// Interrupts are remapped; otherwise cells have to accept any.
    pub(crate) remaps: bool,
    pub(crate) a: Player,
    pub(crate) b: Player,
}

impl<'a> Stage<'a> {
    /// Two cells without memory or devices.
    pub(crate) fn set(
        pc: &'static Pc,
        iommu: &'a Front<Broken<&'static Pc>>,
        report: &'a Report,
        forbidden: Option<SourceId>,
        remaps: bool,
    ) -> Result<Self, Words> {
        // The first and the last of the machine: where there are more, others are beside the last.
        let mut devices = Edu::all(pc).next().into_iter().chain(Edu::all(pc).skip(1).last());
        let cpus = pc.start_cpus(false)?;
        let mut ids = cpus.ids().skip(1);
        let mut player = |name, mark| {
            let device = devices.next().ok_or_else(|| Words::new(format_args!("the machine lacks two edu devices")))?;
            let (requesters, sender) = (iommu.device_info(device.source())?.requesters, sender(iommu, &device)?);
            let memory = Memory::new(pc, CELL_BYTES, mark)?;
            let cpu = ids.next().ok_or_else(|| Words::new(format_args!("the machine lacks a CPU for each cell")))?;
            let targets = CpuSet::NONE.with(cpu, cpu);
            let interrupts = InterruptTargets { cpus: targets, vectors: VectorSet::ALL, flat_ids: 0 };
            let config = CellConfig { allow_unsafe_interrupts: !remaps, interrupts, ..CellConfig::DEFAULT };
            Ok::<_, Words>(Player { name, device, requesters, sender, memory, cpu, cell: iommu.create_cell(config)? })
        };
        let (a, b) = (player("A", 0xaa)?, player("B", 0xbb)?);
        Ok(Self { pc, iommu, report, forbidden, cpus, remaps, a, b })
    }

    /// True if the unit takes commands from a queue.
    pub(crate) fn has_queue(&self) -> bool {
        let has_queue = |details| matches!(details, UnitDetails::Vtd(unit) if unit.queued_invalidation);
        self.iommu.units().all(|unit| has_queue(unit.details))
    }

    /// Forgets the faults that were recorded so far.
    pub(crate) fn clear_faults(&self) {
        self.iommu.faults(|_| ());
    }

    /// The cell that came with a device.
    pub(crate) fn player(&self, device: &Edu) -> &Player {
        if device.source() == self.a.device.source() { &self.a } else { &self.b }
    }

    /// The faults of a device since the last look.
    pub(crate) fn faults(&self, device: &Edu) -> Vec<Fault, 8> {
        let (mut faults, sender) = (Vec::new(), self.player(device).sender);
        self.iommu.faults(|fault| {
            if fault.source == sender {
                let _ = faults.push(fault);
            }
        });
        faults
    }

    /// Has the device read or write one word, which must be blocked and recorded as it was.
    pub(crate) fn expect_fault(&self, what: &str, device: &Edu, access: Access, at: Iova) {
        self.clear_faults();
        let done = if access == Access::Read { device.read(at, 8) } else { device.write(at, 8) };
        let faults = self.faults(device);
        let page = Iova::new(at.as_u64() & !(PAGE - 1));
        let right = |fault: &&Fault| fault.access == access && fault.address == Some(page);
        let matching = faults.iter().find(right);
        let seen = match (done, matching.or(faults.first())) {
            (false, _) => Words::new(format_args!("the device did not get done")),
            (true, Some(fault)) => Words::new(format_args!("{fault}")),
            (true, None) => Words::new(format_args!("no fault of {} was recorded", device.source())),
        };
        let ok = done && matching.is_some();
        self.report.expect(ok, what, format_args!("{}", seen.as_str()));
    }

    /// What the device can do with a word of `memory` through the input address `at`, found by trying. `scratch` is a
    /// page that it can write for certain, by which it can show what it has read.
    pub(crate) fn reach(
        &self,
        device: &Edu,
        at: Iova,
        memory: &Memory,
        offset: u64,
        scratch: Option<(&Memory, u64)>,
    ) -> Rights {
        let word = &memory.block;
        self.clear_faults();
        word.write(offset, SEEN_BY_DEVICE);
        device.read(at, 8);
        let read_faults = self.faults(device);
        word.write(offset, WRITTEN_BY_CPU);
        device.write(at, 8);
        let found = word.read(offset);
        let writes = found != WRITTEN_BY_CPU;
        let reads = match scratch {
            _ if writes => found == SEEN_BY_DEVICE,
            None => read_faults.is_empty(),
            Some((memory, page)) => {
                device.write(input(page), 8);
                let shown = memory.block.read(page) == SEEN_BY_DEVICE;
                memory.restore(page..page + 8);
                shown
            }
        };
        memory.restore(offset..offset + 8);
        self.clear_faults();
        let mut rights = Rights::empty();
        rights.set(Rights::READ, reads);
        rights.set(Rights::WRITE, writes);
        rights
    }

    /// Tells one field of the table "device by memory".
    pub(crate) fn tell_reach(&self, device: fmt::Arguments<'_>, memory: &str, rights: Rights) {
        let access =
            if rights.is_empty() { Words::new(format_args!("blocked")) } else { Words::new(format_args!("{rights}")) };
        self.tell_access(device, memory, access.as_str());
    }

    /// The same of a CPU.
    pub(crate) fn tell_access(&self, device: fmt::Arguments<'_>, memory: &str, access: &str) {
        self.report.tell(Record::Reach { device: Words::new(device).as_str(), memory, access });
    }
}
