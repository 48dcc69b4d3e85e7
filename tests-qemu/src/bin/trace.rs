//! The driver's calls one by one, each with its name in QEMU's trace, for the host to judge what each of them submitted.
//!
//! No device does DMA here. With `device-tlb` on the command line, the machine has a device with a device-TLB.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use cofferdam::{CellConfig, CellId, Iommu};
use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Edu, Marks, Report, Words, discover, topology};

const PAGE: u64 = 4096;
/// Where the cell's devices see its memory: the first byte of a page of 1 GiB.
const INPUT: u64 = 0x20_0000_0000;
/// A piece of memory: two large pages and a bit, and it begins inside of one.
const FIRST: u64 = 1;
const PAGES: u64 = 1200;
/// Where the second piece begins, in pages: with a large page of its own.
const SECOND: u64 = FIRST + 0x800;
const BYTES: u64 = 16 << 20;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "trace");
    let result = calls(pc, &report);
    report.finish(result)
}

fn calls(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let topology = topology(pc)?;
    let window = topology.units().first().ok_or_else(|| Words::new(format_args!("no unit")))?.window;
    // SAFETY: this scenario runs in QEMU alone.
    let marks = unsafe { Marks::new(pc, window) };

    marks.begin("discover");
    let mut iommu = discover(pc, topology, report)?;
    marks.begin("enable");
    iommu.enable()?;
    marks.begin("create a cell");
    let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true })?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| Words::new(format_args!("too little memory")))?;
    let calls = Calls { iommu: &iommu, cell, marks, output: memory.base().as_u64() };
    let mut devices = Edu::all(pc).map(|device| device.source());
    let mut device = || devices.next().ok_or_else(|| Words::new(format_args!("the machine lacks two edu devices")));
    let (first, second) = (device()?, device()?);

    calls.map("map pages before a device comes", FIRST, PAGES)?;
    marks.begin("assign the first device");
    iommu.assign(first, cell)?;
    marks.begin("assign the second device");
    iommu.assign(second, cell)?;
    calls.map("map 1200 pages in one call", SECOND, PAGES)?;
    calls.unmap("unmap one page", SECOND + 5, 1)?;
    calls.map("map one page", SECOND + 5, 1)?;
    calls.unmap("unmap 64 pages", SECOND + 0x3f, 64)?;
    calls.map("map 64 pages again", SECOND + 0x3f, 64)?;
    calls.unmap("unmap three pages that are no block", FIRST + 0x17e, 3)?;
    calls.unmap("unmap a page of a large page", FIRST + 0x205, 1)?;
    marks.begin("take rights from 16 pages");
    iommu.protect(cell, calls.range(SECOND + 0xf, 16)?, Rights::READ)?;
    marks.begin("release the first device");
    iommu.release(first)?;
    marks.begin("destroy the cell");
    iommu.destroy_cell(cell)?;
    marks.begin("end");
    report.expect(true, "every call was made", format_args!(""));
    Ok(())
}

/// One cell, to map and unmap pages of it.
struct Calls<'a> {
    iommu: &'a Iommu<&'static Pc>,
    cell: CellId,
    marks: Marks,
    /// Where its memory is.
    output: u64,
}

impl Calls<'_> {
    fn map(&self, name: &str, page: u64, pages: u64) -> Result<(), Words> {
        let range = self.range(page, pages)?;
        let output = PhysAddr::new_truncate(self.output + page * PAGE);
        let region = Region::new(range.start(), output, range.bytes(), Rights::all());
        let region = region.ok_or_else(|| Words::new(format_args!("no region {name}")))?;
        self.marks.begin(name);
        Ok(self.iommu.map(self.cell, region)?)
    }

    fn unmap(&self, name: &str, page: u64, pages: u64) -> Result<(), Words> {
        let range = self.range(page, pages)?;
        self.marks.begin(name);
        Ok(self.iommu.unmap(self.cell, range)?)
    }

    fn range(&self, page: u64, pages: u64) -> Result<IovaRange, Words> {
        IovaRange::new(Iova::new(INPUT + page * PAGE), pages * PAGE)
            .ok_or_else(|| Words::new(format_args!("no range of {pages} pages")))
    }
}
