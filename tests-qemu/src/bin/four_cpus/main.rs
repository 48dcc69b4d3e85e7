//! Four CPUs change a cell each, all at the same time, while two devices of each cell write: what they write arrives in their own
//! cell's memory, where that is at the moment, and nothing gets to another's.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod worker;

use cofferdam::addr::{Iova, PhysAddr, Region, Rights, SourceId};
use cofferdam::fault::{Access, Fault};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Statistics};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Cpus, Pc, entry};
use cofferdam_tests_qemu::{Edu, Front, Nic, Report, UnitView, Words, bring_up, dmar};
use heapless::Vec;
use spin::Once;

use worker::{CELLS, Counts, START, WORK, Worker};

const PAGE: u64 = 4096;
const BYTES: u64 = 2 << 20;
/// Where the devices of each cell see its memory: all at the same addresses.
const INPUT: u64 = 0x20_0000_0000;
/// How long the CPUs change their cells between two audits, and how many of these times there are.
const PART_NS: u64 = 600_000_000;
const PARTS: u32 = 2;
/// Fewer changes of a CPU than that are no race.
const FEWEST: u32 = 20;

static FRONT: Once<Front<&'static Pc>> = Once::new();

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "four_cpus");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    pc: &'static Pc,
    report: &'r Report,
    iommu: &'static Front<&'static Pc>,
    cpus: Cpus,
    view: UnitView,
    workers: Vec<&'static Worker, CELLS>,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let front = bring_up(pc, dmar(pc)?, report)?;
    let iommu = FRONT.call_once(|| front);
    let cpus = pc.start_cpus(false)?;
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    let view = UnitView::new(pc, window).ok_or_else(|| words("no registers"))?;
    let mut memory = Vec::<Block, CELLS>::new();
    while !memory.is_full() {
        let block = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
        memory.push(block).map_err(|_| words("too many blocks"))?;
    }
    let mut workers = Vec::new();
    let cards = Nic::all(pc, memory, Iova::new(INPUT));
    for ((number, nic), device) in cards.enumerate().zip(Edu::all(pc)) {
        let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
        let worker = Worker::new(number, iommu, pc, cell, nic, device)?;
        workers.push(worker).map_err(|_| words("too many devices"))?;
    }
    if !workers.is_full() || cpus.ids().count() <= CELLS {
        return Err(words("the machine lacks devices or CPUs"));
    }
    let job = Job { pc, report, iommu, cpus, view, workers };
    job.work()?;
    job.end()
}

/// A region of a cell's memory, as its devices see it at `page`.
pub(crate) fn region(memory: &Block, page: u64, place: u64) -> Result<Region, Words> {
    let output = PhysAddr::new_truncate(memory.base().as_u64() + place * PAGE);
    Region::new(Iova::new(INPUT + page * PAGE), output, PAGE, Rights::all())
        .ok_or_else(|| Words::new(format_args!("no region of a page")))
}

/// Gives both devices to their cell, with its first pages.
pub(crate) fn assign(
    iommu: &Front<&'static Pc>,
    pc: &Pc,
    cell: CellId,
    devices: [SourceId; 2],
    pages: &[Region],
) -> Result<(), Words> {
    pages.iter().try_for_each(|page| iommu.map(cell, *page).map(drop))?;
    iommu.commit(&devices.map(|device| Edit::Assign(device, cell, DeviceConfig::default())))?;
    devices.iter().for_each(|device| pc.enable(*device));
    Ok(())
}

impl Job<'_> {
    /// All CPUs work at the same time; this one reads faults, which are of writes to pages that a cell does not have.
    fn work(&self) -> Result<(), Words> {
        let before = self.iommu.statistics();
        for ((id, work), worker) in self.cpus.ids().skip(1).zip(WORK).zip(&self.workers) {
            self.cpus.run(id, work);
            let is_ready = self.cpus.wait_for(|| worker.is_ready());
            self.report.expect(is_ready, "a CPU is ready", format_args!("{id}"));
        }
        START.begin();
        let (mut blocked, mut others) = (0_u32, 0_u32);
        let mut read = || {
            let each = |fault: Fault| if self.is_expected(fault) { blocked += 1 } else { others += 1 };
            self.iommu.faults(each)
        };
        for _ in 0..PARTS {
            let end = self.pc.now_ns() + PART_NS;
            while self.pc.now_ns() < end {
                read();
                self.pc.pause();
            }
            // On a host with fewer CPUs, the one that audits may be away whenever no cell is in a change.
            match self.audit("between changes, the live tables are as granted") {
                Ok(()) | Err(Error::InChange { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        START.end();
        let is_over = self.cpus.wait_for(|| self.workers.iter().all(|worker| worker.is_done()));
        read();
        self.report.expect(is_over, "all CPUs come to an end", format_args!("{is_over}"));
        let what = "what is blocked is what a device tried where another cell has a page, and nothing else";
        self.report.expect(blocked > 0 && others == 0, what, format_args!("{blocked} of that, {others} others"));
        self.judge(&before);
        Ok(())
    }

    fn is_expected(&self, fault: Fault) -> bool {
        let is_own = |worker: &&&'static Worker| worker.device.source() == fault.source;
        let tried = self.workers.iter().find(is_own).map(|worker| worker.tried());
        fault.access == Access::Write && tried.is_some_and(|at| fault.address == Some(at))
    }

    fn judge(&self, before: &Statistics) {
        let mut changes = 0;
        for worker in &self.workers {
            let counts = worker.counts();
            let Counts { commits, refused, sent, here, elsewhere, written, lost } = counts;
            changes += u64::from(commits);
            let what = Words::new(format_args!("{}: all changes are made", worker.cell));
            self.report.expect(commits >= FEWEST && refused == 0, what.as_str(), format_args!("{counts:?}"));
            let what = Words::new(format_args!("{}: what its card writes arrives where its page is then", worker.cell));
            self.report.expect(
                (here, elsewhere) == (sent, 0),
                what.as_str(),
                format_args!("{here} of {sent}, {elsewhere}"),
            );
            let what = Words::new(format_args!("{}: what its other device writes arrives in its memory", worker.cell));
            self.report.expect(written > 0 && lost == 0, what.as_str(), format_args!("{written}, {lost} of them lost"));
            let strange = worker.strange_words();
            let what = Words::new(format_args!("{}: all else in its memory is as it was", worker.cell));
            self.report.expect(strange == 0, what.as_str(), format_args!("{strange} words are not"));
        }
        let after = self.iommu.statistics();
        // One for what is taken, and where what is absent is cached, one for what is granted.
        let batches = changes * if self.view.has_caching_mode() { 2 } else { 1 };
        let counts =
            [after.descriptors - before.descriptors, after.waits - before.waits, after.doorbells - before.doorbells];
        let what = "the driver has counted an invalidation, a wait and a doorbell for each change";
        self.report.expect(counts == [batches * 2, batches, batches], what, format_args!("{counts:?} of {changes}"));
        let (slots, head, tail) = (self.view.slots(), self.view.head(), self.view.tail());
        let is_so = (head, tail) == (after.descriptors % slots, after.descriptors % slots) && !self.view.has_refused();
        let what = "the queue is where that many descriptors lead, and the unit is through with them";
        self.report.expect(is_so, what, format_args!("{head}, {tail} after {}", after.descriptors));
    }

    fn end(&self) -> Result<(), Words> {
        self.audit("after all of them, the live tables are as granted")?;
        self.workers.iter().try_for_each(|worker| self.iommu.destroy_cell(worker.cell).map(drop))?;
        let left = self.workers.iter().map(|worker| worker.strange_words()).sum::<u64>();
        self.report.expect(left == 0, "nothing arrives when the cells are gone", format_args!("{left}"));
        self.iommu.disable()?;
        Ok(())
    }

    fn audit(&self, what: &str) -> Result<(), Error> {
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions) == (0, 2 * CELLS as u64);
        self.report.expect(is_so, what, format_args!("{audit:?}"));
        Ok(())
    }
}
