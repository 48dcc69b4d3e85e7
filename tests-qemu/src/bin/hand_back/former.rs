//! Somebody who has the machine before: the driver itself, with a front of its own. It translates, has a queue in use, remaps
//! interrupts and is sent an event for faults.
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, Region, Rights, SourceId};
use cofferdam::fault::Access;
use cofferdam::interrupt::{CpuSet, FaultEvent, InterruptTargets, Message, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Cpus, Pc};
use cofferdam_tests_qemu::{Edu, Front, Report, Words, discover, dmar, translate};

const EVENT: u8 = 0x71;

pub(crate) struct Former {
    iommu: Front<&'static Pc>,
    cpus: Cpus,
    root: CellId,
    /// The CPU that gets its events.
    boot: u32,
}

/// Cells whose interrupts may go to this CPU.
pub(crate) const fn on(cpu: u32) -> CellConfig {
    let interrupts = InterruptTargets { cpus: CpuSet::NONE.with(cpu, cpu), vectors: VectorSet::ALL, flat_ids: 0 };
    CellConfig { interrupts, ..CellConfig::DEFAULT }
}

/// Memory that devices see at its own addresses.
pub(crate) fn one_to_one(block: &Block) -> Result<Region, Words> {
    Region::new(Iova::new(block.base().as_u64()), block.base(), block.bytes(), Rights::all())
        .ok_or_else(|| Words::new(format_args!("no region of a block")))
}

impl Former {
    /// Takes the machine: these devices reach that memory, and the interrupt of the second one goes to that CPU. What that is to send
    /// comes back, too.
    pub(crate) fn new(
        pc: &'static Pc,
        report: &Report,
        cpus: Cpus,
        devices: [SourceId; 2],
        memory: [Region; 2],
        at: (u32, u8),
    ) -> Result<(Self, Message), Words> {
        let iommu = discover(pc, dmar(pc)?, report)?;
        iommu.remap_interrupts(&[0], false)?;
        iommu.enable()?;
        let root = iommu.create_root_cell(on(at.0))?;
        let [writes, interrupts] = devices;
        let source = Source::Message { device: interrupts, index: 0 };
        let [own, part] = memory.map(|region| Edit::Map(root, region));
        let plain = DeviceConfig::default();
        iommu.commit(&[
            own,
            part,
            Edit::Assign(writes, root, plain),
            Edit::Assign(interrupts, root, DeviceConfig { messages: 1, ..plain }),
            Edit::Route(root, source, Route::to(at.0, at.1)),
        ])?;
        devices.iter().for_each(|device| pc.enable(*device));
        let boot = cpus.ids().next().unwrap_or_default();
        iommu.set_fault_event(Some(FaultEvent::to(boot, EVENT)))?;
        let message = iommu.message(source)?;
        Ok((Self { iommu, cpus, root, boot }, message))
    }

    /// It translates or lets everything through, and remaps interrupts with its queue in use all the same.
    pub(crate) fn translates(&self, pc: &'static Pc, on: bool) -> Result<(), Words> {
        let unit = self.iommu.units().next().filter(|unit| translate(pc, unit.window, on));
        unit.map(drop).ok_or_else(|| Words::new(format_args!("registers are out of reach")))
    }

    /// It has the machine again, and goes on as if nothing had been: its tables, its queue, its event.
    pub(crate) fn goes_on(&self, report: &Report, device: &Edu, memory: Region) -> Result<(), Words> {
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions, audit.interrupts) == (0, 2, 1);
        report.expect(is_so, "the former owner's tables are in use as it left them", format_args!("{audit:?}"));

        let events = || self.cpus.taken(self.boot, EVENT);
        let before = events();
        device.resume();
        device.write(memory.input.start(), 8);
        let has_event = self.cpus.wait_for(|| events() != before);
        let mut faults = 0_u32;
        self.iommu
            .faults(|fault| faults += u32::from((fault.source, fault.access) == (device.source(), Access::Write)));
        let what = "it is sent an event for a fault, and can read that";
        report.expect(has_event && faults == 1, what, format_args!("{} events, {faults} faults", events() - before));

        // The root cell loses the memory to another, and has it again.
        let before = self.iommu.statistics();
        let cell = self.iommu.create_cell(on(self.boot))?;
        self.iommu.commit(&[Edit::Map(cell, memory), Edit::Assign(device.source(), cell, DeviceConfig::default())])?;
        self.iommu.destroy_cell(cell)?;
        let done = self.iommu.statistics().waits - before.waits;
        report.expect(done > 0, "its queue goes on", format_args!("{done} waits since"));
        Ok(())
    }

    /// Its devices are blocked, and then the unit is off.
    pub(crate) fn end(self) -> Result<(), Words> {
        self.iommu.destroy_cell(self.root)?;
        Ok(self.iommu.disable()?)
    }
}
