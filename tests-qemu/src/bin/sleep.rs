//! The machine sleeps in S3, so that the unit and all devices are as after a reset, and wakes: all is as it was. And nothing changes
//! where nothing slept.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, Region, Rights};
use cofferdam::fault::Access;
use cofferdam::hal::RegisterWindow;
use cofferdam::interrupt::{CpuSet, FaultEvent, InterruptTargets, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit, Error};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Cpus, Pc, entry};
use cofferdam_tests_qemu::{Edu, Front, Registers, Report, Words, discover, dmar};

const BYTES: u64 = 2 << 20;
/// Where the device sees its cell's memory.
const INPUT: Iova = Iova::new(0x20_0000_0000);
const WRITTEN: u64 = 0xd0d0_d0d0_0000_0001;
const VECTOR: u8 = 0x41;
const EVENT: u8 = 0x71;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "sleep");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    pc: &'static Pc,
    report: &'r Report,
    iommu: Front<&'static Pc>,
    window: RegisterWindow,
    cpus: Cpus,
    cpu: u32,
    cell: CellId,
    /// One that the cell has, and one that no cell has.
    own: Edu,
    other: Edu,
    memory: Block,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = discover(pc, dmar(pc)?, report)?;
    iommu.remap_interrupts(&[0], false)?;
    iommu.enable()?;
    let cpus = pc.start_cpus(false)?;
    let cpu = cpus.ids().next().ok_or_else(|| words("no CPU"))?;
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    let mut devices = Edu::all(pc);
    let (Some(own), Some(other)) = (devices.next(), devices.next()) else { return Err(words("no two edu devices")) };
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
    let region = Region::new(INPUT, memory.base(), BYTES, Rights::all()).ok_or_else(|| words("no region"))?;
    let interrupts = InterruptTargets { cpus: CpuSet::NONE.with(cpu, cpu), vectors: VectorSet::ALL, flat_ids: 0 };
    let cell = iommu.create_cell(CellConfig { interrupts, ..CellConfig::DEFAULT })?;
    let one = DeviceConfig { messages: 1, ..DeviceConfig::default() };
    let first = Source::Message { device: own.source(), index: 0 };
    let assign = Edit::Assign(own.source(), cell, one);
    iommu.commit(&[Edit::Map(cell, region), assign, Edit::Route(cell, first, Route::to(cpu, VECTOR))])?;
    iommu.set_fault_event(Some(FaultEvent::to(cpu, EVENT)))?;
    let job = Job { pc, report, iommu, window, cpus, cpu, cell, own, other, memory };
    job.begin()?;
    job.all_works("before")?;
    job.nothing_changes_where_nothing_slept()?;
    job.sleep()?;
    job.all_works("after a sleep")?;
    job.iommu.destroy_cell(job.cell)?;
    job.iommu.disable()?;
    Ok(())
}

impl Job<'_> {
    /// Devices are set up, as their drivers do after a reset.
    fn begin(&self) -> Result<(), Words> {
        self.iommu.program_msi(self.own.source())?;
        [&self.own, &self.other].iter().for_each(|device| device.resume());
        Ok(())
    }

    fn registers(&self) -> Result<Registers, Words> {
        Registers::read(self.pc, self.window).ok_or_else(|| Words::new(format_args!("registers are out of reach")))
    }

    /// The cell's device reaches its memory and its CPU, the other is blocked and that is told, and tables are as granted.
    fn all_works(&self, when: &str) -> Result<(), Words> {
        self.iommu.faults(|_| ());
        self.memory.write(0, WRITTEN);
        self.own.read(INPUT, 8);
        self.memory.write(0, 0);
        self.own.write(INPUT, 8);
        let found = self.memory.read(0);
        let what = Words::new(format_args!("{when}: the cell's device reaches its memory"));
        self.report.expect(found == WRITTEN, what.as_str(), format_args!("{found:#x}"));

        let taken = |vector| self.cpus.taken(self.cpu, vector);
        let before = taken(VECTOR);
        self.own.interrupt();
        let is_settled = self.cpus.settle();
        self.own.acknowledge();
        let new = taken(VECTOR) - before;
        let what = Words::new(format_args!("{when}: its interrupt arrives"));
        self.report.expect(is_settled && new == 1, what.as_str(), format_args!("{new}"));

        let before = taken(EVENT);
        self.other.write(INPUT, 8);
        let has_event = self.cpus.wait_for(|| taken(EVENT) != before);
        let mut faults = 0_u32;
        let whose = (self.other.source(), Access::Write);
        self.iommu.faults(|fault| faults += u32::from((fault.source, fault.access) == whose));
        let what = Words::new(format_args!("{when}: a device without a cell is blocked, and an event says so"));
        self.report.expect(has_event && faults == 1, what.as_str(), format_args!("{has_event}, {faults} faults"));

        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions, audit.interrupts) == (0, 1, 1);
        let what = Words::new(format_args!("{when}: the live tables are as granted"));
        self.report.expect(is_so, what.as_str(), format_args!("{audit:?}"));
        Ok(())
    }

    /// Registers and counters stay as they are; and so does all else if there was a word before, which takes a wait.
    fn nothing_changes_where_nothing_slept(&self) -> Result<(), Words> {
        let (registers, before) = (self.registers()?, self.iommu.statistics());
        self.resume()?;
        let differences = self.registers()?.differences(&registers);
        let is_so = differences.as_str().is_empty() && self.iommu.statistics() == before;
        self.report.expect(is_so, "a resume without a sleep changes nothing", format_args!("{}", differences.as_str()));
        self.all_works("after a resume without a sleep")?;
        self.iommu.suspend()?;
        self.resume()?;
        self.all_works("after both without a sleep")
    }

    /// No device is another one since.
    fn resume(&self) -> Result<(), Words> {
        let mut others = 0;
        self.iommu.resume(|_| others += 1)?;
        self.report.expect(others == 0, "all devices are found again", format_args!("{others} are not"));
        Ok(())
    }

    fn sleep(&self) -> Result<(), Words> {
        self.iommu.suspend()?;
        let refused = self.iommu.release(self.own.source()).err();
        self.report.expect(refused == Some(Error::Asleep), "no change begins then", format_args!("{refused:?}"));
        self.pc.sleep().ok_or_else(|| Words::new(format_args!("this machine cannot sleep")))?;
        let is_off = self.registers()?.are_all_off();
        let is_master = self.own.is_bus_master();
        let what = "the machine wakes with a unit that does nothing, and devices that are no bus masters";
        self.report.expect(is_off && !is_master, what, format_args!("{is_off}, {is_master}"));
        self.resume()?;
        self.begin()
    }
}
