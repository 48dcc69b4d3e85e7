//! Descriptors of the driver's queue go wrong on their way, and so does its tail: the unit refuses them and stops. The call fails that
//! had submitted them and says why, what it was to take away is withheld, the queue goes on, and what was not done is done before any
//! of that memory is free.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, PhysRange, Region, Rights};
use cofferdam::error::UnitError;
use cofferdam::fault::Access;
use cofferdam::iommu::{Committed, Error, UnitState};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Pc, entry};
use cofferdam_tests_qemu::{Broken, Edu, Fault, Front, Report, Spoil, UnitView, Words, bring_up, dmar};
use heapless::Vec;
use spin::mutex::SpinMutex;

const PAGE: u64 = 4096;
const BYTES: u64 = 2 << 20;
const INPUT: Iova = Iova::new(0x20_0000_0000);
const WRITTEN: u64 = 0xe440_e440_0000_0001;

/// What goes wrong next.
static NEXT: SpinMutex<Option<Spoil>> = SpinMutex::new(None);

/// What goes wrong with the batch of an unmapping, which is an invalidation of the IOTLB (VT-d 5.10, section 6.5.2.3) and a wait
/// (section 6.5.2.9); and whether the first of them was done all the same.
const MISTAKES: [(&str, Spoil, bool); 4] = [
    ("an unknown type", Spoil::Descriptor { before_tail: 2, bits: [0xf, 0] }, false),
    ("a reserved bit", Spoil::Descriptor { before_tail: 2, bits: [1 << 40, 0] }, false),
    ("a wait for a word that is not aligned", Spoil::Descriptor { before_tail: 1, bits: [0, 0b10] }, true),
    ("a tail beyond the queue", Spoil::Tail, false),
];
/// So many times each: all mistakes together are more than what is remembered of failures.
const ROUNDS: u32 = 12;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "queue_error");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    report: &'r Report,
    iommu: Front<Broken<&'static Pc>>,
    view: UnitView,
    device: Edu,
    memory: Block,
    region: Region,
    cell: CellId,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = bring_up(Broken { hal: pc, fault: Some(Fault::Spoilt(&NEXT)) }, dmar(pc)?, report)?;
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    let view = UnitView::new(pc, window).ok_or_else(|| words("no registers"))?;
    let device = Edu::all(pc).next().ok_or_else(|| words("no edu device"))?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
    let region = Region::new(INPUT, memory.base(), PAGE, Rights::all()).ok_or_else(|| words("no region"))?;
    let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
    let job = Job { report, iommu, view, device, memory, region, cell };
    job.iommu.map(cell, region)?;
    job.iommu.assign(job.device.source(), cell)?;
    job.device.resume();
    for (name, mistake, is_done) in MISTAKES {
        for _ in 0..ROUNDS {
            job.unmapping(name, mistake, is_done)?;
        }
    }
    job.release()?;
    job.iommu.disable()?;
    Ok(())
}

impl Job<'_> {
    /// True if the device's write to its page arrives. If not, there is one fault of it.
    fn arrives(&self) -> (bool, u32) {
        self.memory.write(0, WRITTEN);
        self.device.read(INPUT, 8);
        self.iommu.faults(|_| ());
        self.memory.write(0, 0);
        self.device.write(INPUT, 8);
        let mut faults = 0;
        let own = (self.device.source(), Access::Write, Some(INPUT));
        self.iommu.faults(|fault| faults += u32::from((fault.source, fault.access, fault.address) == own));
        (self.memory.read(0) != 0, faults)
    }

    fn reached(&self, reached: bool, name: &str, when: &str) {
        let found = self.arrives();
        let what = Words::new(format_args!("{name}: {when}"));
        self.report.expect(found == (reached, u32::from(!reached)), what.as_str(), format_args!("{found:?}"));
    }

    /// The call failed since the unit refused what is in that slot; the unit goes on, and has to be flushed.
    fn has_failed(&self, result: Result<Committed, Error>, slot: u64, name: &str) {
        let is_it = matches!(
            result,
            Err(Error::Unit(UnitError::Queue { register: "FSTS_REG", bit: "IQE", slot: at, .. })) if u64::from(at) == slot
        );
        let what = Words::new(format_args!("{name}: the call fails, and says where the unit stopped"));
        self.report.expect(is_it, what.as_str(), format_args!("slot {slot}: {result:?}"));
        let runs = !self.view.has_refused() && self.view.head() == self.view.tail();
        let state = self.iommu.units().next().map(|unit| (unit.state == UnitState::On, unit.needs_flush));
        let what = Words::new(format_args!("{name}: the queue goes on, and the unit is on and has to be flushed"));
        self.report.expect(runs && state == Some((true, true)), what.as_str(), format_args!("{runs}, {state:?}"));
    }

    fn withheld(&self) -> Result<Vec<PhysRange, 4>, Words> {
        let mut all = Vec::new();
        self.iommu.withheld(|it| _ = all.push(it.memory))?;
        Ok(all)
    }

    fn unmapping(&self, name: &str, mistake: Spoil, is_done: bool) -> Result<(), Words> {
        self.reached(true, name, "the device reaches its page before");
        let (first, slots) = (self.view.tail(), self.view.slots());
        *NEXT.lock() = Some(mistake);
        let result = self.iommu.unmap(self.cell, self.region.input);
        // The second one, or the first.
        self.has_failed(result, (first + u64::from(is_done)) % slots, name);
        let withheld = self.withheld()?;
        let what = Words::new(format_args!("{name}: the page is withheld"));
        self.report.expect(
            withheld.as_slice() == self.region.outputs().as_slice(),
            what.as_str(),
            format_args!("{withheld:x?}"),
        );
        self.reached(!is_done, name, "which the device reaches as long as its translation was not forgotten");

        // Whatever is changed of the cell has that done first.
        self.iommu.commit(&[])?;
        let state = self.iommu.units().next().map(|unit| unit.needs_flush);
        let withheld = self.withheld()?;
        let what = Words::new(format_args!("{name}: an empty change does what was not done, and nothing is withheld"));
        self.report.expect(state == Some(false) && withheld.is_empty(), what.as_str(), format_args!("{withheld:x?}"));
        self.reached(false, name, "the device does not reach the page then");
        self.iommu.map(self.cell, self.region)?;
        self.audit(name, 1)
    }

    /// The live tables are as granted, to so many devices.
    fn audit(&self, name: &str, devices: u64) -> Result<(), Words> {
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions) == (0, devices);
        let what = Words::new(format_args!("{name}: the live tables are as granted"));
        self.report.expect(is_so, what.as_str(), format_args!("{audit:?}"));
        Ok(())
    }

    /// A device that was to leave its cell stays there, and leaves it when that is tried again; and so does the cell.
    fn release(&self) -> Result<(), Words> {
        let name = "a release that fails";
        self.reached(true, name, "the device reaches its page before");
        let (first, device) = (self.view.tail(), self.device.source());
        *NEXT.lock() = Some(Spoil::Tail);
        self.has_failed(self.iommu.release(device), first, name);
        let mut listed = Vec::<_, 4>::new();
        self.iommu.assigned(|it| _ = listed.push((it.device, it.cell, it.quarantined)))?;
        let is_so = listed.as_slice() == [(device, self.cell, true)];
        self.report.expect(is_so, "the device is listed in its cell, blocked", format_args!("{listed:?}"));
        self.iommu.release(device)?;
        self.device.resume();
        self.reached(false, name, "tried again, it succeeds, and the device is blocked");
        *NEXT.lock() = None;
        self.iommu.destroy_cell(self.cell)?;
        self.audit(name, 0)
    }
}
