//! Virtual functions of one network card in two cells: each has its own source-id and its own memory, and what they send each other
//! is copied from the one cell's memory to the other's by the card alone.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::ops::Range;

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use cofferdam::fault::{Access, Cause};
use cofferdam::iommu::{DeviceConfig, Edit, Error, Refusal};
use cofferdam::topology::Isolation;
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{Block, Pc, entry};
use cofferdam_tests_qemu::{
    Blocked, Front, Igb, Report, SrIov, VirtualNic, Words, bring_up, dmar, forget_faults, keep, touched,
};

const BYTES: u64 = 2 << 20;
/// Where each function sees its cell's memory: far from where it is, and within 39 bits.
const INPUT: Iova = Iova::new(0x20_0000_0000);
/// Memory that no function has to use.
const REST: Range<u64> = VirtualNic::BYTES..BYTES;
/// A page of it.
const PAGE: u64 = 0x1000;
const SECRET: u64 = 0x9000;
/// How many virtual functions there are.
const COUNT: u16 = 2;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "sr_iov");
    let result = all(pc, &report);
    report.finish(result)
}

/// A virtual function, its cell, and the memory of that.
struct Player {
    name: &'static str,
    nic: VirtualNic,
    cell: CellId,
    memory: Block,
}

struct Job<'r> {
    report: &'r Report,
    iommu: &'r Front<&'static Pc>,
    igb: Igb,
}

fn words(text: &str) -> Words {
    Words::new(format_args!("{text}"))
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let iommu = &bring_up(pc, dmar(pc)?, report)?;
    let igb = Igb::first(pc).ok_or_else(|| words("no igb device"))?;
    let functions = SrIov::of(pc, igb.source()).ok_or_else(|| words("it has no virtual functions"))?;
    let job = Job { report, iommu, igb };

    functions.enable(COUNT);
    iommu.isolate()?;
    let player = |name, number| {
        let nic =
            VirtualNic::new(pc, &functions, number, INPUT).ok_or_else(|| words("a function without registers"))?;
        let memory = pc.allocate_block(BYTES, BYTES).ok_or_else(|| words("too little memory"))?;
        let cell = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT })?;
        iommu.map(cell, region(0, memory.base(), BYTES)?)?;
        Ok::<_, Words>(Player { name, nic, cell, memory })
    };
    let [mut a, mut b] = [player("A", 0)?, player("B", 1)?];
    job.are_known(&a, &b)?;
    [&mut a, &mut b].into_iter().for_each(|player| job.without_a_cell(player));

    for player in [&a, &b] {
        iommu.assign(player.nic.source(), player.cell)?;
    }
    job.start(&mut a, &mut b);
    job.exchange("in cells of their own", &mut a, &mut b);
    job.keep_out(&mut a, &mut b);
    job.loses_a_page(&mut a, &mut b)?;
    job.swap(&mut a, &mut b)?;
    job.exchange("in each other's cells", &mut a, &mut b);
    job.keep_out(&mut a, &mut b);
    job.leave_alone(&mut a, &mut b)?;
    functions.disable();
    job.are_nobody(&a, &b)?;
    iommu.disable()?;
    Ok(())
}

fn region(offset: u64, output: PhysAddr, bytes: u64) -> Result<Region, Words> {
    let input = Iova::new(INPUT.as_u64() + offset);
    Region::new(input, output, bytes, Rights::all()).ok_or_else(|| words("no region"))
}

/// An input address that equals the physical one of some memory.
fn physical(memory: &Block, offset: u64) -> Iova {
    Iova::new(memory.base().as_u64() + offset)
}

impl Job<'_> {
    fn expect(&self, ok: bool, what: core::fmt::Arguments<'_>, seen: core::fmt::Arguments<'_>) {
        self.report.expect(ok, Words::new(what).as_str(), seen);
    }

    /// The one fault since the last look is this function's.
    fn expect_fault(&self, player: &Player, what: &str, access: Access, at: Iova, cause: Cause) {
        let blocked = Blocked { source: player.nic.source(), access, at, cause };
        let what = Words::new(format_args!("function {}: {what}, and there is a fault", player.name));
        blocked.expect(self.report, self.iommu, what.as_str());
    }

    /// The driver knows each as a function of its own, which may have another cell than the others.
    fn are_known(&self, a: &Player, b: &Player) -> Result<(), Words> {
        for (own, other) in [(a, b), (b, a)] {
            let source = own.nic.source();
            let info = self.iommu.device_info(source)?;
            let is_alone = info.requesters.ids() == [source] && !info.requesters.shared_with(other.nic.source());
            let what = format_args!("function {}: its requests have its own source-id", own.name);
            self.expect(is_alone, what, format_args!("{source}, {} in all", info.requesters.ids().len()));
            let others = [other.nic.source(), self.igb.source()];
            let is_isolated = info.group.isolation() == Isolation::AccessControl
                && others.iter().all(|other| !info.group.contains(*other));
            let what = format_args!("function {}: its port isolates it from the others of the card", own.name);
            self.expect(is_isolated, what, format_args!("{:?}", info.group.isolation()));
            let what = format_args!("function {}: nothing is in its way, and it can be reset alone", own.name);
            let ok = info.refusal.is_none() && info.resettable;
            self.expect(ok, what, format_args!("refusal {:?}, resettable: {}", info.refusal, info.resettable));
        }
        let physical = self.iommu.device_info(self.igb.source())?;
        let what = format_args!("the physical function cannot be reset alone");
        self.expect(!physical.resettable, what, format_args!("{}", physical.resettable));
        Ok(())
    }

    /// It reads its first descriptor, and is blocked.
    fn without_a_cell(&self, player: &mut Player) {
        player.nic.start(&player.memory);
        self.igb.connect(COUNT);
        forget_faults(self.iommu);
        let done = player.nic.send(&player.memory, Igb::address(0), 0);
        self.expect(!done, format_args!("function {}: it sends nothing without a cell", player.name), format_args!(""));
        let what = "its read is blocked without a cell";
        self.expect_fault(player, what, Access::Read, INPUT, Cause::Blocked);
    }

    /// Both begin, each in its cell's memory.
    fn start(&self, a: &mut Player, b: &mut Player) {
        [&mut *a, &mut *b].into_iter().for_each(|player| player.nic.start(&player.memory));
        self.igb.connect(COUNT);
        [a, b].into_iter().for_each(|player| player.nic.end_packet(&player.memory));
        forget_faults(self.iommu);
    }

    /// Each sends a packet to the other: it arrives in the other's memory, and nothing else does.
    fn exchange(&self, when: &str, a: &mut Player, b: &mut Player) {
        for number in [0, 1] {
            let (from, to) = if number == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            [&*from, &*to].iter().for_each(|player| keep(&player.memory, REST));
            let said = 0x5a1d_0000 | u64::from(number);
            to.nic.expect(&to.memory);
            let done = from.nic.send(&from.memory, Igb::address(1 - number), said);
            let received = to.nic.received(&to.memory);
            let what = format_args!("{when}: what function {} sends is in the memory of {}", from.name, to.name);
            let ok = done && received == Some(said);
            self.expect(ok, what, format_args!("sent: {done}, received: {received:x?}"));
            let touched = (touched(&from.memory, REST, 0..0), touched(&to.memory, REST, 0..0));
            let what = format_args!("{when}: and nothing else was written");
            self.expect(touched == (None, None), what, format_args!("{touched:x?}"));
        }
        let faults = self.iommu.faults(|_| ()).records;
        self.expect(faults == 0, format_args!("{when}: nothing is blocked"), format_args!("{faults} faults"));
    }

    /// Neither reads or writes what the other's cell has.
    fn keep_out(&self, a: &mut Player, b: &mut Player) {
        for number in [0, 1] {
            let (own, other) = if number == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            // A packet that lies in the other's memory is not sent.
            keep(&other.memory, REST);
            let there = physical(&other.memory, SECRET);
            other.nic.expect(&other.memory);
            own.nic.send_from(&own.memory, there);
            let received = other.nic.received(&other.memory);
            let what = format_args!("function {}: it sends nothing out of the other's memory", own.name);
            self.expect(received.is_none(), what, format_args!("received: {received:x?}"));
            let what = "its read of the other's memory is blocked";
            self.expect_fault(own, what, Access::Read, there, Cause::NotMapped);
            let done = own.nic.send(&own.memory, Igb::address(1 - number), 2);
            let received = other.nic.received(&other.memory);
            let what = format_args!("function {}: it goes on", own.name);
            self.expect(done && received == Some(2), what, format_args!("sent: {done}, received: {received:x?}"));

            // One that comes to it is not written there.
            own.nic.expect_at(&own.memory, there);
            other.nic.send(&other.memory, Igb::address(number), 0);
            let touched = touched(&other.memory, REST, 0..0);
            let what = format_args!("function {}: it receives nothing in the other's memory", own.name);
            self.expect(touched.is_none(), what, format_args!("{touched:x?}"));
            let what = "its write to the other's memory is blocked";
            self.expect_fault(own, what, Access::Write, there, Cause::NotMapped);
        }
    }

    /// The page with what A has to do is taken from its cell: A stops, B does not.
    fn loses_a_page(&self, a: &mut Player, b: &mut Player) -> Result<(), Words> {
        let page = IovaRange::new(INPUT, PAGE).ok_or_else(|| words("no page"))?;
        self.iommu.unmap(a.cell, page)?;
        let done = a.nic.send(&a.memory, Igb::address(1), 0);
        let what = "function A: it sends nothing where its descriptors were unmapped";
        self.expect(!done, format_args!("{what}"), format_args!(""));
        self.expect_fault(a, "its read of them is blocked", Access::Read, INPUT, Cause::NotMapped);
        a.nic.expect(&a.memory);
        let done = b.nic.send(&b.memory, Igb::address(0), 1);
        let received = a.nic.received(&a.memory);
        let what = format_args!("function B: it goes on, and A receives what it sends");
        self.expect(done && received == Some(1), what, format_args!("sent: {done}, received: {received:?}"));
        self.iommu.map(a.cell, region(0, a.memory.base(), PAGE)?)?;
        a.nic.end_packet(&a.memory);
        self.exchange("where they are mapped again", a, b);
        Ok(())
    }

    /// Each gets the other's cell, by one change, and begins again there after its reset.
    fn swap(&self, a: &mut Player, b: &mut Player) -> Result<(), Words> {
        let (first, second) = (a.nic.source(), b.nic.source());
        let config = DeviceConfig::default();
        self.iommu.commit(&[
            Edit::Release(first),
            Edit::Release(second),
            Edit::Assign(first, b.cell, config),
            Edit::Assign(second, a.cell, config),
        ])?;
        core::mem::swap(&mut a.cell, &mut b.cell);
        core::mem::swap(&mut a.memory, &mut b.memory);
        let on = [a.nic.is_on(), b.nic.is_on()];
        self.expect(
            on == [false, false],
            format_args!("both are reset as they leave their cells"),
            format_args!("{on:?}"),
        );
        self.start(a, b);
        let (mut functions, mut differences) = (0, 0);
        self.iommu.assigned(|_| functions += 1)?;
        let audit = self.iommu.audit(|_| differences += 1)?;
        let what = format_args!("by an audit, both reach what their cells have");
        let ok = (differences, functions, audit.functions) == (0, 2, 2);
        self.expect(ok, what, format_args!("{differences} differences, {} functions", audit.functions));
        Ok(())
    }

    /// The one is reset as it leaves its cell, and the other is not.
    fn leave_alone(&self, a: &mut Player, b: &mut Player) -> Result<(), Words> {
        self.iommu.release(a.nic.source())?;
        let on = [a.nic.is_on(), b.nic.is_on()];
        let what = format_args!("function A leaves its cell: it is reset, and B is not");
        self.expect(on == [false, true], what, format_args!("{on:?}"));
        self.iommu.release(b.nic.source())?;
        Ok(())
    }

    /// Numbers of functions that are there no more are given to no cell.
    fn are_nobody(&self, a: &Player, b: &Player) -> Result<(), Words> {
        for player in [a, b] {
            let device = player.nic.source();
            let result = self.iommu.assign(device, player.cell);
            let refused = matches!(&result, Err(Error::Refused { reason: Refusal::UnknownIsolation, .. }));
            let what = format_args!("function {}: no cell gets it when there are none any more", player.name);
            self.expect(refused, what, format_args!("{result:?}"));
        }
        let physical = self.iommu.device_info(self.igb.source())?;
        let what = format_args!("the physical function can be reset alone then");
        self.expect(physical.resettable, what, format_args!("{}", physical.resettable));
        Ok(())
    }
}
