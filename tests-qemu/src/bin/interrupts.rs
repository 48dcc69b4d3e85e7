//! Interrupts of two cells' devices: each arrives where it is routed, and none that a device sends in another's name or without a
//! route. The CPU has interrupts masked, and looks at what its local APIC has taken.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::fault::Access;
use cofferdam::interrupt::{CpuSet, InterruptTargets, Message, Route, Source, Trigger, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit};
use cofferdam::{CellConfig, CellId};
use cofferdam_pc::{IoApic, LocalApic, Pc, entry};
use cofferdam_tests_qemu::{Edu, Front, Report, Words, discover, dmar};

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "interrupts");
    let result = all(pc, &report);
    report.finish(result)
}

/// Vectors of the two cells; each is used once, since nobody handles what was taken.
const FIRST: (u8, u8) = (0x40, 0x7f);
const SECOND: (u8, u8) = (0x80, 0x8f);

struct Job<'r> {
    iommu: Front<&'static Pc>,
    apic: LocalApic,
    report: &'r Report,
}

impl Job<'_> {
    fn cell(&self, (first, last): (u8, u8)) -> Result<CellId, Words> {
        let cpus = CpuSet::NONE.with(self.apic.id(), self.apic.id());
        let interrupts = InterruptTargets { cpus, vectors: VectorSet::NONE.with(first, last), flat_ids: 0 };
        Ok(self.iommu.create_cell(CellConfig { interrupts, ..CellConfig::DEFAULT })?)
    }

    fn to(&self, vector: u8) -> Route {
        Route::to(self.apic.id(), vector)
    }

    /// Has a device send this message: it arrives with that vector, or nothing does.
    fn try_out(&self, device: &Edu, message: Message, expected: Option<u8>, what: &str) {
        let before = self.apic.taken();
        device.program(message);
        device.interrupt();
        self.look(before, expected, what);
        device.acknowledge();
    }

    fn look(&self, before: u32, expected: Option<u8>, what: &str) {
        let (arrived, new) = (expected.map(|vector| self.apic.has_taken(vector)), self.apic.taken() - before);
        let is_right = arrived != Some(false) && new == u32::from(expected.is_some());
        self.report.expect(is_right, what, format_args!("{new} arrived, {expected:x?}: {arrived:?}"));
    }
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let mut iommu = discover(pc, dmar(pc)?, report)?;
    iommu.remap_interrupts(&[0], false)?;
    iommu.enable()?;
    let apic = pc.local_apic().ok_or_else(|| words("no local APIC"))?;
    let mut devices = Edu::all(pc);
    let (Some(one), Some(other)) = (devices.next(), devices.next()) else { return Err(words("no two edu devices")) };
    let mut job = Job { iommu, apic, report };
    messages(&job, &one, &other)?;
    let io_apic = pc.io_apic().ok_or_else(|| words("no IOAPIC"))?;
    pins(&job, &one, &io_apic)?;
    job.iommu.disable()?;
    Ok(())
}

/// Messages of devices.
fn messages(job: &Job<'_>, one: &Edu, other: &Edu) -> Result<(), Words> {
    let (first, second) = (job.cell(FIRST)?, job.cell(SECOND)?);
    let two = DeviceConfig { messages: 2, ..DeviceConfig::default() };
    let [a0, a1] = [0, 1].map(|index| Source::Message { device: one.source(), index });
    let b0 = Source::Message { device: other.source(), index: 0 };
    job.iommu.commit(&[
        Edit::Assign(one.source(), first, two),
        Edit::Assign(other.source(), second, two),
        Edit::Route(first, a0, job.to(0x41)),
        Edit::Route(second, b0, job.to(0x81)),
    ])?;
    let [own, absent, theirs] = [a0, a1, b0].map(|source| job.iommu.message(source));
    let (own, absent, theirs) = (own?, absent?, theirs?);
    job.try_out(one, own, Some(0x41), "a device's interrupt arrives where it is routed");
    job.iommu.route(first, a0, job.to(0x70))?;
    let before = job.apic.taken();
    job.iommu.program_msi(one.source())?;
    one.interrupt();
    job.look(before, Some(0x70), "and so it does if the driver has programmed it");
    one.acknowledge();
    job.try_out(other, theirs, Some(0x81), "so does the other's");
    job.iommu.faults(|_| ());
    job.try_out(one, theirs, None, "none arrives that it sends in the other's name");
    let mut blocked = 0_u32;
    job.iommu.faults(|fault| {
        cofferdam_pc::println!("{fault}");
        blocked += u32::from(fault.source == one.source() && fault.access == Access::Interrupt);
    });
    // QEMU reports such faults from version 8 on.
    job.report.expect(blocked <= 1, "it is told at most once", format_args!("{blocked} faults"));
    job.try_out(one, absent, None, "none without a route");
    job.try_out(one, Message { address: 0xfeef_fffc, data: 0 }, None, "none by an index beyond the table");
    // In compatibility format, QEMU lets all through, whatever GSTS_REG.CFIS shows.
    for vector in 0x42..0x50 {
        job.iommu.route(first, a0, job.to(vector))?;
        job.try_out(one, own, Some(vector), "a route that moves is followed, and the device is not programmed again");
    }
    let elsewhere = job.iommu.route(first, a0, job.to(0x81));
    job.report.expect(elsewhere.is_err(), "no route leads to another cell's vector", format_args!("{elsewhere:?}"));
    job.iommu.unroute(first, a0)?;
    job.try_out(one, own, None, "none arrives that is routed no more");
    job.iommu.release(other.source())?;
    job.try_out(other, theirs, None, "none of a device that has left its cell");
    let audit = job.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
    job.report.expect(audit.differences == 0, "the audit finds nothing", format_args!("{}", audit.differences));
    job.iommu.destroy_cell(first)?;
    job.iommu.destroy_cell(second)?;
    Ok(())
}

/// Pins of the IOAPIC: those that PCI devices have, as a level and as an edge.
fn pins(job: &Job<'_>, device: &Edu, io_apic: &IoApic) -> Result<(), Words> {
    let cell = job.cell(FIRST)?;
    device.stop_messages();
    for (trigger, base) in [(Trigger::Level, 0x50), (Trigger::Edge, 0x58)] {
        for pin in 16..24 {
            let source = Source::Pin { io_apic: 0, pin };
            job.iommu.route(cell, source, Route { trigger, ..job.to(base + pin - 16) })?;
            io_apic.redirect(pin, job.iommu.redirection(0, pin)?);
        }
        let before = job.apic.taken();
        device.interrupt();
        let arrived = (16..24).find(|pin| job.apic.has_taken(base + pin - 16));
        let what = Words::new(format_args!("a pin's interrupt arrives where it is routed, {trigger:?}"));
        job.look(before, arrived.map(|pin| base + pin - 16), what.as_str());
        job.report.expect(arrived.is_some(), "one does", format_args!("{arrived:?}"));
        device.acknowledge();
    }
    let audit = job.iommu.audit(|difference| cofferdam_pc::println!("{difference}"))?;
    let is_right = (audit.differences, audit.interrupts) == (0, 8);
    job.report.expect(is_right, "the audit sees eight routes", format_args!("{audit:?}"));
    for pin in 16..24 {
        job.iommu.unroute(cell, Source::Pin { io_apic: 0, pin })?;
    }
    let before = job.apic.taken();
    device.interrupt();
    job.look(before, None, "none of a pin that is routed no more");
    device.acknowledge();
    job.iommu.destroy_cell(cell)?;
    Ok(())
}
