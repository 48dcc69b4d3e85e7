//! What an engineer wants to know of a board before it is partitioned: what firmware's table says and what is wrong with it, what
//! each unit can do and what it was found doing, which devices there are and what keeps them apart, and a verdict.
//!
//! It changes neither a unit nor a device, and starts the other CPUs. With `measure` on the command line, units are switched on for a
//! moment while no device reads or writes memory, and handed back. With `fit` or `unfit`, that has to be the verdict.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

mod active;
mod amd;
mod cpus;
mod devices;
mod map;
mod records;
mod units;

use cofferdam::Iommu;
use cofferdam::firmware::{Finding, Severity};
use cofferdam::iommu::{Options, UnitState};
use cofferdam_pc::{ClockTrust, Dmar, Ivrs, Pc, entry, println, show};
use cofferdam_tests_qemu::{Front, LIMITS, MapAnswer, Registers, Report, Verdict, Words, memory};
use heapless::Vec;

use active::Outcome;

/// Registers of as many units are compared: of all that there is room for.
const UNITS: usize = LIMITS.units;
/// The word on the command line that has units measured.
const MEASURE: &str = "measure";

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "board");
    records::board(&report);
    let mut verdict = Verdict::default();
    println!("Serial port: {}", pc.serial_port());
    println!("Memory: {} MiB that are free, up to {:#x}", pc.memory_bytes() >> 20, pc.usable_top().as_u64());
    println!("Clock: {} kHz; {}", pc.tsc_hz() / 1000, pc.clock_trust());
    if !matches!(pc.clock_trust(), ClockTrust::Agreed(_)) {
        verdict.limit(format_args!(
            "{}, so deadlines may come early or late: give the platform a clock that is sure",
            pc.clock_trust()
        ));
    }
    let mut outcome = Outcome::Untouched;
    let result = look(pc, &report, &mut verdict, &mut outcome);
    cpus::look_at_all(pc, &mut verdict);
    println!("\n{verdict}");
    records::verdict(&report, &verdict);
    // Whoever boots it in QEMU knows the board.
    let is_right = (!has_word(pc, "fit") || verdict.is_fit()) && (!has_word(pc, "unfit") || !verdict.is_fit());
    report.expect(is_right, "the verdict", format_args!("{}", if verdict.is_fit() { "fit" } else { "not fit" }));
    report.tell_count();
    let code = report.finish(result);
    show(format_args!(
        "Board report of cofferdam {}\n\n{verdict}\nSerial port that has the whole report: {}.\n\
         Done, and {}: the machine can be switched off.",
        env!("CARGO_PKG_VERSION"),
        pc.serial_port(),
        match outcome {
            Outcome::Untouched => "no unit and no device was changed",
            Outcome::AsBefore => "all is as it was before units were measured",
            Outcome::Changed => "something is not as it was before units were measured, which the whole report names",
            Outcome::StillOn => "a unit is still on, and devices are kept from memory",
        }
    ));
    code
}

fn has_word(pc: &Pc, word: &str) -> bool {
    pc.command_line().split_whitespace().any(|it| it == word)
}

fn look(pc: &'static Pc, report: &Report, verdict: &mut Verdict, outcome: &mut Outcome) -> Result<(), Words> {
    map::look_at(pc, report);
    let table = match (pc.table::<Dmar>(), pc.table::<Ivrs>()) {
        (Ok(Some(dmar)), _) => dmar,
        (_, Ok(Some(ivrs))) => return amd::look_at(pc, report, ivrs, verdict),
        (Err(error), _) | (_, Err(error)) => {
            verdict.unfit(format_args!("{error}"));
            return Ok(());
        }
        (Ok(None), Ok(None)) => {
            verdict.unfit(format_args!(
                "firmware has neither a DMAR nor an IVRS table, so no IOMMU is known: switch VT-d on in the firmware's set-up, if the \
                 machine has it"
            ));
            return Ok(());
        }
    };
    let measures = has_word(pc, MEASURE);
    let options = Options { accept_unblocked: measures, ..Options::DEFAULT };
    let iommu = Iommu::new(pc, options);
    println!("\nFirmware's table, {} bytes:", table.len());
    records::table(report, table);
    let mut lost = 0;
    let mut note = |finding: Finding| {
        println!("  {}: {finding}", finding.severity());
        records::finding(report, &finding);
        lost += u32::from(finding.severity() == Severity::Error);
    };
    let probed = iommu.probe_acpi(memory()?, &LIMITS, table, &mut note);
    if let Err(error) = probed {
        verdict.unfit(format_args!("{error}"));
        return Ok(());
    }
    let before = registers(pc, &iommu);
    let topology = iommu.topology();
    let agrees = |memory| MapAnswer::of(memory, pc.memory_map()).agrees();
    topology.check_memory_map(|region| region.outputs().is_some_and(agrees), note);
    records::firmware(report, topology);
    if lost != 0 {
        verdict.limit(format_args!(
            "findings of severity error in firmware's table: {lost}; what they name is lost, and newer firmware may mend that"
        ));
    }
    map::look_at_reserved(pc, &iommu, report);
    iommu.units().for_each(|unit| units::look_at(&unit, topology.host_address_width(), report, verdict));
    if iommu.units().all(|unit| matches!(unit.state, UnitState::Failed { .. })) {
        verdict.unfit(format_args!("no unit can be used; what stands in the way of each is said of it"));
    }
    devices::look_at_all(pc, &iommu, report, verdict);
    if measures {
        *outcome = active::measure(pc, report, &iommu, verdict);
    }
    let after = registers(pc, &iommu);
    for (before, after) in before.iter().zip(&after) {
        let differences = after.differences(before);
        let is_as_before = differences.as_str().is_empty();
        if !is_as_before && *outcome == Outcome::AsBefore {
            *outcome = Outcome::Changed;
        }
        report.expect(is_as_before, "the unit shows what it showed before", format_args!("{}", differences.as_str()));
    }
    Ok(())
}

fn registers(pc: &'static Pc, iommu: &Front<&'static Pc>) -> Vec<Registers, UNITS> {
    iommu.units().filter_map(|unit| Registers::read(pc, unit.window)).take(UNITS).collect()
}
