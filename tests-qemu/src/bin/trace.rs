//! The driver's calls one by one, each with its name in QEMU's trace, for the host to judge what each of them submitted.
//!
//! No device does DMA here. With `device-tlb` on the command line, the machine has devices with a device-TLB.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use cofferdam::firmware::dmar::{Dmar, Structure};
use cofferdam::hal::RegisterWindow;
use cofferdam::iommu::{DeviceConfig, Edit, Statistics};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Pc, entry};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Ats, Edu, Front, Marks, Report, Words, discover, dmar};
use heapless::Vec;

const PAGE: u64 = 4096;
/// Where the cell's devices see its memory: the first byte of a page of 1 GiB.
const INPUT: u64 = 0x20_0000_0000;
/// Two pieces of its memory, by their first page and how many: small pages, one large page or two, small pages.
const FIRST: u64 = 1;
const FIRST_PAGES: u64 = 1200;
const SECOND: u64 = 0x801;
const SECOND_PAGES: u64 = 2020;
const BYTES: u64 = 16 << 20;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "trace");
    let result = all(pc, &report);
    report.finish(result)
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let table = dmar(pc)?;
    let unit =
        Dmar::new(table, |_| ())?.sound().find_map(|it| if let Structure::Drhd(it) = it { Some(it) } else { None });
    let base = unit.ok_or_else(|| Words::new(format_args!("no unit")))?.base();
    let window = RegisterWindow { base: PhysAddr::new_truncate(base), bytes: PAGE as u32 };
    // SAFETY: this scenario runs in QEMU alone.
    let marks = unsafe { Marks::new(pc, window) }.ok_or_else(|| Words::new(format_args!("no registers")))?;
    let [cap, ecap] = marks.capabilities();
    report.tell(Record::Registers { unit: base, cap, ecap });
    marks.begin("discover");
    let iommu = discover(pc, table, report)?;
    marks.begin("enable");
    iommu.enable()?;
    marks.begin("create a cell");
    let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| Words::new(format_args!("too little memory")))?;
    let calls = Calls { iommu: &iommu, cell, marks, output: memory.base().as_u64() };
    match pc.command_line() {
        "device-tlb" => with_device_tlbs(pc, &calls, report)?,
        _ => without(pc, &calls)?,
    }
    let Statistics { descriptors, waits, doorbells, table_frames, .. } = iommu.statistics();
    report.tell(Record::Counts { descriptors, waits, doorbells, table_frames });
    marks.begin("switch off");
    iommu.disable()?;
    marks.begin("end");
    report.expect(true, "every call was made", format_args!(""));
    Ok(())
}

/// Every kind of call, with devices that have no device-TLB.
fn without(pc: &'static Pc, calls: &Calls<'_>) -> Result<(), Words> {
    let mut devices = Edu::all(pc);
    let mut device = || devices.next().ok_or_else(|| Words::new(format_args!("the machine lacks two edu devices")));
    let (first, second) = (device()?.source(), device()?.source());

    calls.map("map pages before a device comes", FIRST, FIRST_PAGES)?;
    calls.assign("assign the first device", first)?;
    calls.assign("assign the second device", second)?;
    calls.map("map 2020 pages in one call", SECOND, SECOND_PAGES)?;
    calls.unmap("unmap one page", 0x806, 1)?;
    calls.map("map one page", 0x806, 1)?;
    calls.unmap("unmap 64 pages", 0x840, 64)?;
    calls.map("map 64 pages again", 0x840, 64)?;
    calls.unmap("unmap three pages that are no block", 0x17f, 3)?;
    calls.unmap("unmap 100 pages that are almost a block", 0x401, 100)?;
    calls.unmap("unmap a page of a large page", 0x206, 1)?;
    calls.protect("take rights from 16 pages", 0x810, 16)?;
    calls.change("take two pages and grant one at once", [0x306, 0x820], 0x180)?;
    calls.release("release the first device", first)?;
    calls.destroy("destroy the cell")
}

/// Two devices with a device-TLB and one without, all in one cell; then the same, and both are to use it.
fn with_device_tlbs(pc: &'static Pc, calls: &Calls<'_>, report: &Report) -> Result<(), Words> {
    let devices: Vec<Ats, 3> = Ats::all(pc).take(3).collect();
    let [first, second] = devices.as_slice() else {
        return Err(Words::new(format_args!("{} devices have a device-TLB, not two", devices.len())));
    };
    for device in [first, second] {
        let seen = format_args!("{}", device.source());
        report.expect(device.can_be_controlled(), "a device-TLB can be controlled", seen);
    }
    let plain = Edu::all(pc).next().ok_or_else(|| Words::new(format_args!("the machine lacks an edu device")))?;
    let expect_on = |on: [bool; 2], when: &str| {
        let seen = [first, second].map(Ats::is_enabled);
        report.expect(
            seen == on,
            when,
            format_args!("{} {}, {} {}", first.source(), seen[0], second.source(), seen[1]),
        );
    };

    calls.map("map pages before a device comes", FIRST, FIRST_PAGES)?;
    calls.assign("assign the device without a device-TLB", plain.source())?;
    calls.assign("assign the first device", first.source())?;
    calls.assign("assign the second device", second.source())?;
    calls.unmap("unmap one page", 6, 1)?;
    calls.map("map one page", 6, 1)?;
    expect_on([false, false], "no device-TLB is on that nobody asked for");
    calls.release("release the first device", first.source())?;
    calls.destroy("destroy the cell")?;

    calls.marks.begin("create another cell");
    let cell = calls.iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
    let calls = Calls { cell, ..*calls };
    calls.map("map pages for device-TLBs", FIRST, FIRST_PAGES)?;
    calls.assign("assign the device without a device-TLB again", plain.source())?;
    calls.assign_with_tlb("assign the first device with its device-TLB", first.source())?;
    expect_on([true, false], "the device-TLB of one device is on");
    calls.assign_with_tlb("assign the second device with its device-TLB", second.source())?;
    expect_on([true, true], "both device-TLBs are on");
    calls.map("map 2020 pages, sent to no device-TLB", SECOND, SECOND_PAGES)?;
    calls.unmap("unmap one page, sent to both", 0x806, 1)?;
    calls.map("map one page, sent to none", 0x806, 1)?;
    calls.unmap("unmap 64 pages, sent to both", 0x840, 64)?;
    calls.unmap("unmap three pages that are no block, sent to both", 0x17f, 3)?;
    calls.protect("take rights from 16 pages, sent to both", 0x810, 16)?;
    calls.change("take two pages and grant one at once, sent to both", [0x406, 0x820], 0x180)?;
    calls.release("release the first device with its device-TLB", first.source())?;
    expect_on([false, true], "the device-TLB of a device that was released is off");
    calls.unmap("unmap one page, sent to the second", 0x807, 1)?;
    calls.destroy("destroy the cell with a device-TLB")?;
    expect_on([false, false], "no device-TLB is on after its cell is gone");
    Ok(())
}

/// The calls of one cell, each marked by its name.
struct Calls<'a> {
    iommu: &'a Front<&'static Pc>,
    cell: CellId,
    marks: Marks,
    /// Where its memory is.
    output: u64,
}

/// Pages are counted from [`INPUT`] on.
impl Calls<'_> {
    fn region(&self, page: u64, pages: u64) -> Result<Region, Words> {
        let range = range(page, pages)?;
        let output = PhysAddr::new_truncate(self.output + page * PAGE);
        Region::new(range.start(), output, range.bytes(), Rights::all())
            .ok_or_else(|| Words::new(format_args!("no region of {pages} pages")))
    }

    fn map(&self, name: &str, page: u64, pages: u64) -> Result<(), Words> {
        let region = self.region(page, pages)?;
        self.marks.begin(name);
        self.iommu.map(self.cell, region)?;
        Ok(())
    }

    fn unmap(&self, name: &str, page: u64, pages: u64) -> Result<(), Words> {
        let range = range(page, pages)?;
        self.marks.begin(name);
        self.iommu.unmap(self.cell, range)?;
        Ok(())
    }

    fn protect(&self, name: &str, page: u64, pages: u64) -> Result<(), Words> {
        let range = range(page, pages)?;
        self.marks.begin(name);
        self.iommu.protect(self.cell, range, Rights::READ)?;
        Ok(())
    }

    fn change(&self, name: &str, taken: [u64; 2], granted: u64) -> Result<(), Words> {
        let [first, second] = taken;
        let unmap = |page| Ok::<_, Words>(Edit::Unmap(self.cell, range(page, 1)?));
        let edits = [unmap(first)?, unmap(second)?, Edit::Map(self.cell, self.region(granted, 1)?)];
        self.marks.begin(name);
        self.iommu.commit(&edits)?;
        Ok(())
    }

    fn assign(&self, name: &str, device: SourceId) -> Result<(), Words> {
        self.marks.begin(name);
        self.iommu.assign(device, self.cell)?;
        Ok(())
    }

    fn assign_with_tlb(&self, name: &str, device: SourceId) -> Result<(), Words> {
        self.marks.begin(name);
        self.iommu.assign_with(device, self.cell, DeviceConfig { device_tlb: true, messages: 0 })?;
        Ok(())
    }

    fn release(&self, name: &str, device: SourceId) -> Result<(), Words> {
        self.marks.begin(name);
        self.iommu.release(device)?;
        Ok(())
    }

    fn destroy(&self, name: &str) -> Result<(), Words> {
        self.marks.begin(name);
        self.iommu.destroy_cell(self.cell)?;
        Ok(())
    }
}

fn range(page: u64, pages: u64) -> Result<IovaRange, Words> {
    IovaRange::new(Iova::new(INPUT + page * PAGE), pages * PAGE)
        .ok_or_else(|| Words::new(format_args!("no range of {pages} pages")))
}
