//! An NVMe controller says of itself who it is, at an address where its cell has memory; and what the cell does not have, or
//! has no more, it does not reach, with the fault that says so.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::iter;
use core::ops::Range;

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use cofferdam::fault::{Access, Cause};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Pc, entry};
use cofferdam_tests_qemu::{Blocked, Front, Nvme, Report, Words, bring_up, dmar, forget_faults, keep, touched};

const BYTES: u64 = 2 << 20;
/// Where the controller sees its cell's memory: far from where it is, and within 39 bits.
const INPUT: Iova = Iova::new(0x20_0000_0000);
/// Where in the memory it is to say who it is.
const IDENTITY: u64 = 0x7000;
/// The serial number that QEMU is given, and how much room there is for it (NVM Express 1.3, section 5.15, figure 109).
const SERIAL: &[u8] = b"cofferdam";
const SERIAL_AT: usize = 4;
const SERIAL_BYTES: usize = 20;
/// Memory behind the queues.
const BEHIND: Range<u64> = Nvme::QUEUES..BYTES;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "nvme");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    report: &'r Report,
    iommu: Front<&'static Pc>,
    nvme: Nvme,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let block = || pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"));
    let iommu = bring_up(pc, dmar(pc)?, report)?;
    let nvme = Nvme::first(pc).ok_or_else(|| words("no NVMe controller"))?;
    let (a, b) = (block()?, block()?);
    let mut job = Job { report, iommu, nvme };
    let (cell_a, cell_b) = (job.cell(&a)?, job.cell(&b)?);

    job.without_a_cell(&a);
    job.iommu.assign(job.nvme.source(), cell_a)?;
    job.says_who_it_is("in cell A", &a, &b);
    job.is_kept_out("where its cell's memory is, by its physical address", physical(&a, IDENTITY), &a, &b);
    job.is_kept_out("in the memory of cell B", physical(&b, IDENTITY), &a, &b);
    job.loses_a_page(cell_a, &a, &b)?;
    job.loses_its_commands(cell_a, &a)?;

    let controller = job.nvme.source();
    job.iommu.commit(&[Edit::Release(controller), Edit::Assign(controller, cell_b, DeviceConfig::default())])?;
    job.says_who_it_is("moved to cell B", &b, &a);
    job.is_kept_out("in the memory of cell A, which it has left", physical(&a, IDENTITY), &b, &a);
    job.iommu.destroy_cell(cell_a)?;
    job.iommu.destroy_cell(cell_b)?;
    job.iommu.disable()?;
    Ok(())
}

fn region(offset: u64, output: PhysAddr, bytes: u64) -> Result<Region, Words> {
    let region = Region::new(input(offset), output, bytes, Rights::all());
    region.ok_or_else(|| Words::new(format_args!("no region of {bytes} bytes at {offset:#x}")))
}

fn input(offset: u64) -> Iova {
    INPUT.checked_add(offset).unwrap_or(INPUT)
}

/// An input address that equals the physical one of some memory.
fn physical(memory: &Block, offset: u64) -> Iova {
    Iova::new(memory.base().as_u64() + offset)
}

/// True if the controller has written its serial number, filled up with spaces.
fn has_serial(memory: &Block) -> bool {
    let written =
        [0, 8, 16].into_iter().flat_map(|offset| memory.read(IDENTITY + offset).to_le_bytes()).skip(SERIAL_AT);
    written.eq(SERIAL.iter().copied().chain(iter::repeat(b' ')).take(SERIAL_BYTES))
}

impl Job<'_> {
    fn cell(&self, memory: &Block) -> Result<CellId, Words> {
        let cell = self.iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
        self.iommu.map(cell, region(0, memory.base(), BYTES)?)?;
        Ok(cell)
    }

    /// There is one fault: the controller's, for this at that page.
    fn expect_fault(&self, what: &str, access: Access, at: Iova, cause: Cause) {
        Blocked { source: self.nvme.source(), access, at, cause }.expect(self.report, &self.iommu, what);
    }

    /// Nobody has given it anything: it cannot even read its commands.
    fn without_a_cell(&mut self, memory: &Block) {
        self.nvme.start(memory, INPUT);
        forget_faults(&self.iommu);
        let answer = self.nvme.identify(memory, input(IDENTITY));
        let ok = answer.is_none() && self.nvme.is_fatal();
        self.report.expect(ok, "without a cell the controller gets no command", format_args!("{answer:?}"));
        self.expect_fault(
            "its read of the command is blocked, and there is a fault",
            Access::Read,
            INPUT,
            Cause::Blocked,
        );
    }

    /// It says who it is in its cell's memory, and nothing else is written.
    fn says_who_it_is(&mut self, when: &str, own: &Block, other: &Block) {
        [own, other].iter().for_each(|memory| keep(memory, BEHIND));
        let is_ready = self.nvme.start(own, INPUT);
        forget_faults(&self.iommu);
        self.identifies(when, own, other);
        self.report.expect(is_ready, "the controller gets ready", format_args!("{when}: {is_ready}"));
    }

    fn identifies(&mut self, when: &str, own: &Block, other: &Block) {
        let answer = self.nvme.identify(own, input(IDENTITY));
        let has_serial = has_serial(own);
        let what = Words::new(format_args!("{when}: the controller says who it is in its cell's memory"));
        let ok = answer == Some(0) && has_serial;
        self.report.expect(ok, what.as_str(), format_args!("status {answer:?}, its serial number: {has_serial}"));
        let what = Words::new(format_args!("{when}: and writes nothing else"));
        let identity = IDENTITY..IDENTITY + Nvme::PAGE;
        let touched = (touched(own, BEHIND, identity), touched(other, BEHIND, 0..0));
        self.report.expect(touched == (None, None), what.as_str(), format_args!("own and other: {touched:?}"));
    }

    /// It is to say who it is at an address where its cell has nothing: nothing arrives, and there is a fault.
    fn is_kept_out(&mut self, place: &str, at: Iova, own: &Block, other: &Block) {
        [own, other].iter().for_each(|memory| keep(memory, BEHIND));
        forget_faults(&self.iommu);
        let answer = self.nvme.identify(own, at);
        let what = Words::new(format_args!("{place}: the controller writes nothing"));
        let touched = (touched(own, BEHIND, 0..0), touched(other, BEHIND, 0..0));
        self.report.expect(touched == (None, None), what.as_str(), format_args!("status {answer:?}, {touched:?}"));
        let what = Words::new(format_args!("{place}: its write is blocked, and there is a fault"));
        self.expect_fault(what.as_str(), Access::Write, at, Cause::NotMapped);
    }

    /// A page that it has just written is taken from its cell, and given back.
    fn loses_a_page(&mut self, cell: CellId, own: &Block, other: &Block) -> Result<(), Words> {
        keep(own, BEHIND);
        self.identifies("before a page is unmapped", own, other);
        let page = IovaRange::new(input(IDENTITY), Nvme::PAGE).ok_or_else(|| Words::new(format_args!("no page")))?;
        self.iommu.unmap(cell, page)?;
        self.is_kept_out("where a page was unmapped", input(IDENTITY), own, other);
        let output = PhysAddr::new_truncate(own.base().as_u64() + IDENTITY);
        self.iommu.map(cell, region(IDENTITY, output, Nvme::PAGE)?)?;
        self.identifies("where the page is mapped again", own, other);
        Ok(())
    }

    /// The page with its commands is taken from its cell, and given back.
    fn loses_its_commands(&mut self, cell: CellId, own: &Block) -> Result<(), Words> {
        let page = IovaRange::new(INPUT, Nvme::PAGE).ok_or_else(|| Words::new(format_args!("no page")))?;
        self.iommu.unmap(cell, page)?;
        forget_faults(&self.iommu);
        let answer = self.nvme.identify(own, input(IDENTITY));
        let ok = answer.is_none() && self.nvme.is_fatal();
        let what = "where the page of commands was unmapped: the controller gets none, and says so";
        self.report.expect(ok, what, format_args!("{answer:?}, fatal: {}", self.nvme.is_fatal()));
        self.expect_fault("its read of them is blocked, and there is a fault", Access::Read, INPUT, Cause::NotMapped);
        self.iommu.map(cell, region(0, own.base(), Nvme::PAGE)?)?;
        Ok(())
    }
}
