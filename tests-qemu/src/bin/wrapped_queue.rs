//! The queue is wrapped thousands of times by changes of a page, each of which goes to many device-TLBs: what a device writes between
//! them arrives where the page is then, each time, and never where it was before.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::addr::{Iova, PhysAddr, Region, Rights};
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Ats, Front, Nic, Report, UnitView, Words, bring_up, dmar};

const WRAPS: u64 = 2_000;
/// The card writes after each so many changes, or that alone would take seconds.
const CHANGES_A_WRITE: u64 = 8;
/// So long at most.
const MOST_NS: u64 = 30_000_000_000;

const BYTES: u64 = 2 << 20;
/// Where the card sees its memory, of which the first page moves: to and fro between these two places.
const INPUT: Iova = Iova::new(0x20_0000_0000);
const PAGE: u64 = 4096;
const PLACES: [u64; 2] = [0, 0x10_0000];
/// So many device-TLBs at least, or a change would be too few descriptors.
const TLBS: u64 = 16;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "wrapped_queue");
    let result = all(pc, &report);
    report.finish(result)
}

struct Job<'r> {
    pc: &'static Pc,
    report: &'r Report,
    iommu: Front<&'static Pc>,
    view: UnitView,
    nic: Nic,
    cell: CellId,
    /// How many device-TLBs the cell has.
    tlbs: u64,
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let iommu = bring_up(pc, dmar(pc)?, report)?;
    let window = iommu.units().next().ok_or_else(|| words("no unit"))?.window;
    let view = UnitView::new(pc, window).ok_or_else(|| words("no registers"))?;
    let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
    let nic = Nic::all(pc, [memory], INPUT).next().ok_or_else(|| words("no e1000e device"))?;
    let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
    let tlbs = Ats::all(pc).count() as u64;
    let job = Job { pc, report, iommu, view, nic, cell, tlbs };
    job.begin()?;
    job.wrap()?;
    job.end()
}

/// What arrived, of what was written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    writes: u64,
    /// Where the page is, and where it is not.
    here: u64,
    elsewhere: u64,
}

impl Job<'_> {
    /// A page where the card sees its first one.
    fn page(&self, place: u64) -> Result<Region, Words> {
        let output = PhysAddr::new_truncate(self.nic.memory().base().as_u64() + place);
        Region::new(INPUT, output, PAGE, Rights::all()).ok_or_else(|| Words::new(format_args!("no region of a page")))
    }

    fn begin(&self) -> Result<(), Words> {
        let base = self.nic.memory().base().as_u64();
        let packet =
            Region::new(Iova::new(INPUT.as_u64() + PAGE), PhysAddr::new_truncate(base + PAGE), PAGE, Rights::READ)
                .ok_or_else(|| Words::new(format_args!("no region of a page")))?;
        self.iommu.commit(&[Edit::Map(self.cell, self.page(PLACES[0])?), Edit::Map(self.cell, packet)])?;
        // Functions of one device, which are isolated from all others and not from each other.
        for device in Ats::all(self.pc) {
            let config = DeviceConfig { device_tlb: true, ..DeviceConfig::default() };
            self.iommu.assign_with(device.source(), self.cell, config)?;
        }
        self.iommu.assign(self.nic.source(), self.cell)?;
        self.pc.enable(self.nic.source());
        self.report.expect(self.tlbs >= TLBS, "there are many device-TLBs", format_args!("{}", self.tlbs));
        Ok(())
    }

    /// The page goes to that place.
    fn change(&self, place: u64) -> Result<[Edit; 2], Words> {
        let page = self.page(place)?;
        Ok([Edit::Unmap(self.cell, page.input), Edit::Map(self.cell, page)])
    }

    fn wrap(&self) -> Result<(), Words> {
        let (slots, start) = (self.view.slots(), self.pc.now_ns());
        // From where the page is to the other place, and back.
        let moves = [(1, self.change(PLACES[1])?), (0, self.change(PLACES[0])?)];
        let (mut seen, mut changes, mut wraps, mut slots_taken, mut tail) =
            (Seen::default(), 0_u64, 0, 0, self.view.tail());
        let before = self.iommu.statistics();
        for (here, edits) in moves.iter().cycle() {
            self.iommu.commit(edits)?;
            changes += 1;
            let now = self.view.tail();
            wraps += u64::from(now < tail);
            slots_taken += (now + slots - tail) % slots;
            tail = now;
            if changes % CHANGES_A_WRITE < 2 {
                let arrived = self.nic.send_by(PLACES);
                seen.writes += 1;
                seen.here += u64::from(arrived.get(*here) == Some(&true));
                seen.elsewhere += u64::from(arrived.get(1 - *here) == Some(&true));
            }
            if wraps == WRAPS || self.pc.now_ns() - start > MOST_NS {
                break;
            }
        }
        let took = (self.pc.now_ns() - start) / 1_000_000;
        let after = self.iommu.statistics();
        let submitted = after.descriptors - before.descriptors;
        let seen_words =
            Words::new(format_args!("{wraps} times in {took} ms, by {changes} changes and {submitted} descriptors"));
        self.report.expect(
            wraps == WRAPS,
            "the queue's tail comes round thousands of times",
            format_args!("{}", seen_words.as_str()),
        );
        let all = Seen { writes: seen.writes, here: seen.writes, elsewhere: 0 };
        let what = "what the card writes arrives where its page is, each time, and never where it was";
        self.report.expect(seen == all && seen.writes > 0, what, format_args!("{seen:?}"));

        let (waits, doorbells) = (after.waits - before.waits, after.doorbells - before.doorbells);
        // Where what is absent is cached, the unit is told of what is mapped as well, and devices are not.
        let (each, batches) = if self.view.has_caching_mode() { (4, 2) } else { (2, 1) };
        let expected = [changes * (each + self.tlbs), changes * batches, changes * batches];
        let what = "each change is an invalidation of the unit, one of each device-TLB and a wait";
        let counts = [submitted, waits, doorbells];
        self.report.expect(counts == expected, what, format_args!("{counts:?}, not {expected:?}"));
        let what = "the driver has counted each descriptor by which the tail went on";
        let is_so = submitted == slots_taken && after.descriptors % slots == tail;
        self.report.expect(is_so, what, format_args!("{slots_taken}, tail {tail}; {}", after.descriptors));
        let is_through = self.view.head() == self.view.tail() && !self.view.has_refused();
        self.report.expect(is_through, "the unit is through with all of them", format_args!("{}", self.view.head()));
        Ok(())
    }

    /// Nothing was blocked so far; the page is taken away at last, and the card's write to it is blocked.
    fn end(&self) -> Result<(), Words> {
        let log = self.iommu.faults(|_| ());
        self.report.expect(
            log.records == 0 && !log.overflowed,
            "nothing was blocked meanwhile",
            format_args!("{log:?}"),
        );
        self.iommu.protect(self.cell, self.page(0)?.input, Rights::READ)?;
        // QEMU records no fault of a right that it has cached.
        let arrived = self.nic.send_by(PLACES);
        self.report.expect(
            arrived == [false; 2],
            "nothing arrives in a page that was taken",
            format_args!("{arrived:?}"),
        );
        let audit = self.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
        let is_so = (audit.differences, audit.functions) == (0, self.tlbs + 1);
        self.report.expect(is_so, "the live tables are as granted", format_args!("{audit:?}"));
        self.iommu.destroy_cell(self.cell)?;
        self.iommu.disable()?;
        Ok(())
    }
}
