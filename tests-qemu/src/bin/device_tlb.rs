//! A device with a device-TLB writes random bytes to its cell's memory by a queue that is there, too: they arrive where the memory is
//! now, and nowhere that was taken from it. The host judges by QEMU's trace what each call sent to the device-TLB, since QEMU's
//! device keeps no translation.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use cofferdam::fault::Access;
use cofferdam::iommu::{DeviceConfig, Edit, Statistics};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Pc, entry};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Ats, Front, Marks, Report, VirtioRng, Words, all_touched, discover, dmar, keep};

const PAGE: u64 = 4096;
const BYTES: u64 = 2 << 20;
/// Where the device sees its cell's memory.
const INPUT: u64 = 0x20_0000_0000;
/// The page that it fills, as it sees it: the same one of its memory at first, then another.
const FILLED: u64 = 3;
const ELSEWHERE: u64 = 5;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "device_tlb");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    report: &'r Report,
    iommu: Front<&'static Pc>,
    marks: Marks,
    device: VirtioRng,
    ats: Ats,
    memory: Block,
    cell: CellId,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = discover(pc, dmar(pc)?, report)?;
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    // SAFETY: this scenario runs in QEMU alone.
    let marks = unsafe { Marks::new(pc, window) }.ok_or_else(|| words("no registers"))?;
    let [cap, ecap] = marks.capabilities();
    report.tell(Record::Registers { unit: window.base.as_u64(), cap, ecap });
    marks.begin("enable");
    iommu.enable()?;
    let device = VirtioRng::all(pc).next().ok_or_else(|| words("no virtio-rng device"))?;
    let ats = Ats::all(pc).find(|ats| ats.source() == device.source()).ok_or_else(|| words("it has no ATS"))?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
    let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
    let job = Job { report, iommu, marks, device, ats, memory, cell };
    job.begin()?;
    job.pages_come_and_go()?;
    job.end()?;
    job.marks.begin("end");
    Ok(())
}

impl Job<'_> {
    /// Pages of the cell's memory, where its device sees them from this page on.
    fn region(&self, page: u64, memory: u64, pages: u64) -> Result<Region, Words> {
        let output = PhysAddr::new_truncate(self.memory.base().as_u64() + memory * PAGE);
        Region::new(Iova::new(INPUT + page * PAGE), output, pages * PAGE, Rights::all())
            .ok_or_else(|| Words::new(format_args!("no region of {pages} pages")))
    }

    fn begin(&self) -> Result<(), Words> {
        self.marks.begin("map all memory");
        self.iommu.map(self.cell, self.region(0, 0, BYTES / PAGE)?)?;
        self.marks.begin("assign the device with its device-TLB");
        let config = DeviceConfig { device_tlb: true, ..DeviceConfig::default() };
        self.iommu.assign_with(self.device.source(), self.cell, config)?;
        let is_on = self.ats.is_enabled() && self.start();
        self.report.expect(is_on, "the device takes its queue, and its device-TLB is on", format_args!("{is_on}"));
        self.looks("before", Some(FILLED), Some(0));
        Ok(())
    }

    fn start(&self) -> bool {
        self.device.start(&self.memory, Iova::new(INPUT))
    }

    fn pages_come_and_go(&self) -> Result<(), Words> {
        let range = self.region(FILLED, FILLED, 1)?.input;
        let map = |page| Ok::<_, Words>(Edit::Map(self.cell, self.region(FILLED, page, 1)?));
        self.change("unmap the page", &[Edit::Unmap(self.cell, range)])?;
        self.looks("unmapped", None, Some(1));
        self.change("map another there", &[map(ELSEWHERE)?])?;
        self.looks("mapped elsewhere", Some(ELSEWHERE), Some(0));
        self.change("move it back at once", &[Edit::Unmap(self.cell, range), map(FILLED)?])?;
        self.looks("moved back", Some(FILLED), Some(0));
        self.change("take the right to write", &[Edit::Protect(self.cell, range, Rights::READ)])?;
        self.looks("read-only", None, Some(1));
        self.change("give it back", &[Edit::Protect(self.cell, range, Rights::all())])?;
        self.looks("writable again", Some(FILLED), Some(0));
        // What is around it is unmapped with it, queue and all: the device gets nothing to do.
        let all = IovaRange::new(Iova::new(INPUT), BYTES).ok_or_else(|| Words::new(format_args!("no range")))?;
        self.change("unmap all memory", &[Edit::UnmapAny(self.cell, all)])?;
        self.looks("all unmapped", None, None);
        self.change("map all memory again", &[Edit::Map(self.cell, self.region(0, 0, BYTES / PAGE)?)])?;
        let is_on = self.start();
        self.report.expect(is_on, "the device takes its queue again", format_args!("{is_on}"));
        self.looks("mapped again", Some(FILLED), Some(0));
        Ok(())
    }

    fn end(&self) -> Result<(), Words> {
        self.marks.begin("release the device");
        self.iommu.release(self.device.source())?;
        let is_on = self.ats.is_enabled();
        self.report.expect(!is_on, "its device-TLB is off when it has left its cell", format_args!("{is_on}"));
        self.start();
        self.looks("released", None, None);
        self.marks.begin("destroy the cell");
        self.iommu.destroy_cell(self.cell)?;
        let Statistics { descriptors, waits, doorbells, table_frames, .. } = self.iommu.statistics();
        self.report.tell(Record::Counts { descriptors, waits, doorbells, table_frames });
        self.marks.begin("switch off");
        self.iommu.disable()?;
        Ok(())
    }

    fn change(&self, name: &str, edits: &[Edit]) -> Result<(), Words> {
        self.marks.begin(name);
        self.iommu.commit(edits)?;
        Ok(())
    }

    /// Has the device fill its page twice: random bytes arrive in this page of the memory, in all of it, and in no other; or in none. So
    /// many faults say so, all of them of this write; or one at least, of whichever address, if it does not even reach its queue.
    fn looks(&self, when: &str, arrives: Option<u64>, faults: Option<u32>) {
        self.marks.begin("the device writes");
        // All but its queue.
        let pages = PAGE..BYTES;
        keep(&self.memory, pages.clone());
        self.iommu.faults(|_| ());
        let written = [(); 2].map(|()| self.device.fill(&self.memory, Iova::new(INPUT + FILLED * PAGE), PAGE as u32));
        let changed = |part| all_touched(&self.memory, part).count() as u64;
        let here = arrives.map_or(0, |page| changed(page * PAGE..(page + 1) * PAGE));
        let all = changed(pages);
        let expected = if arrives.is_some() { PAGE / 8 } else { 0 };
        let what = Words::new(format_args!("{when}: random bytes are where the memory is now, and nowhere else"));
        let is_told = arrives.is_none() || written == [Some(PAGE as u32); 2];
        self.report.expect(
            (here, all) == (expected, expected) && is_told,
            what.as_str(),
            format_args!("{here} words there, {all} in all; the device says {written:?}"),
        );
        let (mut all, mut own) = (0_u32, 0);
        let at = Some(Iova::new(INPUT + FILLED * PAGE));
        self.iommu.faults(|fault| {
            all += 1;
            let whose = (fault.source, fault.access, fault.address);
            own += u32::from(whose == (self.device.source(), Access::Write, at));
        });
        let what = Words::new(format_args!("{when}: what is blocked is told, and nothing else is"));
        let is_so = faults.map_or(all > 0, |faults| (all, own) == (faults, faults));
        self.report.expect(is_so, what.as_str(), format_args!("{all} faults, {own} of this write"));
    }
}
