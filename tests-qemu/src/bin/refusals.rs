//! Bad input: the driver says what is wrong and where, and gives up.
//!
//! The command line chooses what the unit does wrong (`all-ones`, `no-invalidation`, `dead-queue`); with anything else the
//! machine itself is what has to be refused. Ends as refused if the driver did refuse.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use core::sync::atomic::AtomicBool;

use cofferdam_pc::{Pc, entry};
use cofferdam_tests_qemu::{Broken, Fault, Report, Words, bring_up, dmar};

static ALWAYS: AtomicBool = AtomicBool::new(true);

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "refusals");
    let fault = match pc.command_line() {
        "all-ones" => Some(Fault::AllOnes),
        "no-invalidation" => Some(Fault::NoInvalidation),
        "dead-queue" => Some(Fault::DeadQueue(&ALWAYS)),
        _ => None,
    };
    let result = refuse(pc, fault, &report);
    report.finish(result)
}

fn refuse(pc: &'static Pc, fault: Option<Fault>, report: &Report) -> Result<(), Words> {
    let _iommu = bring_up(Broken { hal: pc, fault }, dmar(pc)?, report)?;
    report.expect(false, "the driver refuses the machine", format_args!("it was switched on"));
    Ok(())
}
