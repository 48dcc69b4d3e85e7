//! The audit of live tables, against somebody who flips their bits: each bit of each word in use, one at a time.
//!
//! No device does DMA meanwhile.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::ptr::{self, NonNull};

use cofferdam::addr::{Iova, PhysAddr, Region, Rights};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam::iommu::Difference;
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Edu, Entry, Front, Report, Words, bring_up, dmar, live_words};
use heapless::Vec;

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
const INPUT: u64 = 0x20_0000_0000;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "audit_bits");
    let result = all(pc, &report);
    report.finish(result)
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let iommu = bring_up(pc, dmar(pc)?, report)?;
    let window = iommu.units().next().ok_or_else(|| Words::new(format_args!("no unit")))?.window;
    // A large page for each cell, and a page for each of a large page that both share.
    let memory =
        pc.allocate_block(4 * LARGE, 4 * LARGE).ok_or_else(|| Words::new(format_args!("too little memory")))?;
    let base = memory.base().as_u64();
    let mut devices = Edu::all(pc);
    let mut cell = |number: u64| {
        let device = devices.next().ok_or_else(|| Words::new(format_args!("the machine lacks two edu devices")))?;
        let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
        iommu.map(cell, region(INPUT, base + number * LARGE, LARGE)?)?;
        iommu.map(cell, region(INPUT + LARGE + PAGE, base + 2 * LARGE + number * PAGE, PAGE)?)?;
        iommu.assign(device.source(), cell)?;
        Ok::<CellId, Words>(cell)
    };
    let (a, b) = (cell(0)?, cell(1)?);
    let audit = iommu.audit(|_| ())?;
    let seen = format_args!("{} functions, {} ranges, {} tables", audit.functions, audit.ranges, audit.tables);
    report.expect((audit.differences, audit.functions, audit.ranges) == (0, 2, 4), "all is as granted", seen);

    let live = Live { pc, window };
    let words = live.words();
    // Two words of the root entry and four of context entries, and a page of either size for each device.
    let count = |kind| words.iter().filter(|(other, _)| *other == kind).count();
    let counts = (count(Entry::Root), count(Entry::Context), count(Entry::Page(1)), count(Entry::Page(2)));
    report.expect(counts == (2, 4, 2, 2), "the words in use are known", format_args!("{counts:?}"));

    for kind in [Entry::Root, Entry::Context, Entry::Table(2), Entry::Page(1), Entry::Page(2)] {
        let (mut flips, mut missed, mut told) = (0, 0, Words::default());
        for &(_, at) in words.iter().filter(|(other, _)| *other == kind) {
            // FPD in the lower half of a context entry concerns the recording of faults alone (S 9.3).
            let is_fpd = |bit: &u32| kind == Entry::Context && at.is_multiple_of(16) && *bit == 1;
            for bit in (0..64).filter(|bit| !is_fpd(bit)) {
                let (found, first) = live.flipped(&iommu, at, 1 << bit)?;
                flips += 1;
                missed += u32::from(found == 0);
                told = if flips == 1 { first } else { told };
            }
        }
        let what = Words::new(format_args!("an audit finds each flipped bit of {}", name(kind)));
        let seen = format_args!("{} of {flips} found; the first: {}", flips - missed, told.as_str());
        report.expect(flips > 0 && missed == 0, what.as_str(), seen);
    }

    // The pages of both cells differ in this bit.
    let leaf = words.iter().find(|(kind, _)| *kind == Entry::Page(1)).map_or(0, |(_, at)| *at);
    let mut crossing = Words::default();
    live.with_flipped(leaf, PAGE, || {
        iommu.audit(|difference| {
            if let Difference::CrossesCells { cell, owner, .. } = difference
                && (cell, owner) == (Some(a), b)
            {
                crossing = Words::new(format_args!("{difference}"));
            }
        })
    })?;
    let what = "a page that leads to another cell's memory is reported with both cells";
    report.expect(!crossing.as_str().is_empty(), what, format_args!("{}", crossing.as_str()));
    let audit = iommu.audit(|_| ())?;
    report.expect(audit.differences == 0, "with all bits as before, all is as granted", format_args!(""));
    Ok(())
}

fn region(input: u64, output: u64, bytes: u64) -> Result<Region, Words> {
    Region::new(Iova::new(input), PhysAddr::new_truncate(output), bytes, Rights::all())
        .ok_or_else(|| Words::new(format_args!("no region of {bytes} bytes at {input:#x}")))
}

fn name(kind: Entry) -> &'static str {
    match kind {
        Entry::Root => "the root entry",
        Entry::Context => "context entries, FPD aside",
        Entry::Table(_) => "entries that lead to a table",
        Entry::Page(1) => "entries of 4 KiB pages",
        Entry::Page(_) => "entries of large pages",
    }
}

/// The tables that the unit uses.
struct Live {
    pc: &'static Pc,
    window: RegisterWindow,
}

impl Live {
    fn words(&self) -> Vec<(Entry, u64), 64> {
        let mut words = Vec::new();
        let mut each = |kind, at, _| {
            // All levels above the lowest are alike.
            let kind = if let Entry::Table(_) = kind { Entry::Table(2) } else { kind };
            let _ = words.push((kind, at));
        };
        // SAFETY: the unit's tables are the driver's, and nothing changes them now; memory is mapped one to one.
        unsafe { live_words(&self.pc, self.window, |_| true, &mut each) };
        words
    }

    /// How many differences there are with these bits flipped, and the first.
    fn flipped(&self, iommu: &Front<&'static Pc>, at: u64, bits: u64) -> Result<(u64, Words), Words> {
        let mut first = None;
        let audit = self.with_flipped(at, bits, || iommu.audit(|difference| first = first.or(Some(difference))))?;
        let first = first.map_or_else(Words::default, |difference| Words::new(format_args!("{difference}")));
        Ok((audit.differences, first))
    }

    /// Does something while these bits of a live word are flipped.
    fn with_flipped<T>(&self, at: u64, bits: u64, work: impl FnOnce() -> T) -> T {
        let flip = || {
            let Some(word) = NonNull::new(ptr::with_exposed_provenance_mut::<u64>(at as usize)) else { return };
            // SAFETY: a word of the driver's tables, which nothing changes now.
            let value = unsafe { self.pc.load(word) };
            // SAFETY: as above; no device does DMA, so none is led astray.
            unsafe { self.pc.store(word, value ^ bits) };
        };
        flip();
        let result = work();
        flip();
        result
    }
}
