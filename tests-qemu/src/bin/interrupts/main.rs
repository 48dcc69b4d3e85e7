//! Interrupts of two cells' devices: each arrives at the CPU that it is routed to, and none that a device sends in another's
//! name or without a route.
//!
//! With `x2apic` on the command line, the CPUs are in x2APIC mode; with `faults`, the unit reports what it blocks.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod job;
mod messages;
mod moves;
mod pins;

use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Edu, Report, Words, discover, dmar};
use heapless::Vec;

use job::Job;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "interrupts");
    let result = all(pc, &report);
    report.finish(result)
}

fn all(pc: &'static Pc, report: &Report) -> Result<(), Words> {
    let words = |text| Words::new(format_args!("{text}"));
    let has = |word| pc.command_line().split(' ').any(|it| it == word);
    let iommu = discover(pc, dmar(pc)?, report)?;
    iommu.remap_interrupts(&[0], has("x2apic"))?;
    iommu.enable()?;
    let cpus = pc.start_cpus(has("x2apic"))?;
    let ids: Vec<u32, 8> = cpus.ids().collect();
    let [boot, first, .., last] = *ids else { return Err(words("fewer than three CPUs")) };
    let what = "the highest CPU has an id for which 8 bits are too few, or all are in xAPIC mode";
    report.expect((last > 0xff) == has("x2apic"), what, format_args!("{ids:?}"));
    let mut devices = Edu::all(pc);
    let (Some(one), Some(other)) = (devices.next(), devices.next()) else { return Err(words("no two edu devices")) };
    let job = Job { iommu, cpus, report, ids, boot, first, last, has_faults: has("faults") };
    job.messages(&one, &other)?;
    let io_apic = pc.io_apic().ok_or_else(|| words("no IOAPIC"))?;
    job.pins(&one, &io_apic)?;
    job.moves(one)?;
    job.iommu.disable()?;
    Ok(())
}
