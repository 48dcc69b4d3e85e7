//! What an engineer wants to know of a board before it is partitioned: what firmware's table says and what is wrong with it, what
//! each unit can do and what it was found doing, which devices there are and what keeps them apart, and a verdict.
//!
//! Reads, and changes nothing: neither a unit nor a device. With `fit` or `unfit` on the command line, that has to be the verdict.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]
#![allow(clippy::result_large_err, reason = "an error is a text, and there is no heap to put it on")]

use cofferdam::Iommu;
use cofferdam::addr::SourceId;
use cofferdam::firmware::Severity;
use cofferdam::hal::Hal;
use cofferdam::iommu::{DeviceInfo, Options, RemappingUnit, UnitDetails, UnitState};
use cofferdam::topology::Isolation;
use cofferdam::vtd::Capabilities;
use cofferdam_pc::{ClockTrust, Dmar, Ivrs, Pc, entry, println, show};
use cofferdam_tests_qemu::{Front, LIMITS, Registers, Report, Verdict, Words, memory};
use heapless::Vec;

/// Registers of as many units are compared.
const UNITS: usize = 16;
/// What configuration space has of a function (PCI 3.0, 6.1): vendor and device at 0, class from 9 on.
const CLASS: u16 = 8;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    let report = Report::start(pc, "board");
    let mut verdict = Verdict::default();
    println!("Memory: {} MiB that are free, up to {:#x}", pc.memory_bytes() >> 20, pc.usable_top().as_u64());
    println!("Clock: {} kHz; {}", pc.tsc_hz() / 1000, pc.clock_trust());
    if !matches!(pc.clock_trust(), ClockTrust::Agreed(_)) {
        verdict.limit(format_args!(
            "{}, so deadlines may come early or late: give the platform a clock that is sure",
            pc.clock_trust()
        ));
    }
    let result = look(pc, &report, &mut verdict);
    println!("\n{verdict}");
    // Whoever boots it in QEMU knows the board.
    let is_right = match pc.command_line() {
        "fit" => verdict.is_fit(),
        "unfit" => !verdict.is_fit(),
        _ => true,
    };
    report.expect(is_right, "the verdict", format_args!("{}", if verdict.is_fit() { "fit" } else { "not fit" }));
    let code = report.finish(result);
    show(format_args!(
        "Board report of cofferdam {}\n\n{verdict}\nThe whole report went to the first serial port (COM1, 115200 baud, 8N1).\n\
         Done, and nothing was changed: the machine can be switched off.",
        env!("CARGO_PKG_VERSION")
    ));
    code
}

fn look(pc: &'static Pc, report: &Report, verdict: &mut Verdict) -> Result<(), Words> {
    let Some(table) = table(pc, verdict) else { return Ok(()) };
    let options = Options { require_all_units: false, ..Options::DEFAULT };
    let iommu = Iommu::new(pc, options);
    println!("\nFirmware's table, {} bytes:", table.len());
    let mut lost = 0;
    let probed = iommu.probe_acpi(memory()?, &LIMITS, table, |finding| {
        println!("  {}: {finding}", finding.severity());
        lost += u32::from(finding.severity() == Severity::Error);
    });
    if let Err(error) = probed {
        verdict.unfit(format_args!("{error}"));
        return Ok(());
    }
    let before = registers(pc, &iommu);
    iommu.topology().check_memory_map(
        |region| region.outputs().is_some_and(|memory| pc.is_reserved(memory)),
        |finding| {
            println!("  {}: {finding}", finding.severity());
            lost += u32::from(finding.severity() == Severity::Error);
        },
    );
    if lost != 0 {
        verdict.limit(format_args!(
            "findings of severity error in firmware's table: {lost}; what they name is lost, and newer firmware may mend that"
        ));
    }
    for reserved in iommu.topology().reserved_memory() {
        println!("  reserved: {reserved}");
    }
    iommu.units().for_each(|unit| tell_unit(&unit, verdict));
    if iommu.units().all(|unit| matches!(unit.state, UnitState::Failed { .. })) {
        verdict.unfit(format_args!("no unit can be used; what stands in the way of each is said of it"));
    }
    tell_devices(pc, &iommu, verdict);

    let after = registers(pc, &iommu);
    let is_as_before = before.iter().zip(&after).all(|(before, after)| after.differences(before).as_str().is_empty());
    report.expect(is_as_before, "no unit was changed", format_args!("{} units", after.len()));
    Ok(())
}

/// Firmware's table of a kind that the driver drives.
fn table(pc: &Pc, verdict: &mut Verdict) -> Option<&'static [u8]> {
    match (pc.table::<Dmar>(), pc.table::<Ivrs>()) {
        (Ok(Some(dmar)), _) => return Some(dmar),
        (Err(error), _) | (_, Err(error)) => verdict.unfit(format_args!("{error}")),
        (_, Ok(Some(_))) => verdict.unfit(format_args!(
            "firmware has an IVRS table, so this is a machine with an AMD IOMMU, and the driver drives none yet"
        )),
        (..) => verdict.unfit(format_args!(
            "firmware has neither a DMAR nor an IVRS table, so no IOMMU is known: switch VT-d on in the firmware's set-up, if the \
             machine has it"
        )),
    }
    None
}

fn registers(pc: &'static Pc, iommu: &Front<&'static Pc>) -> Vec<Registers, UNITS> {
    iommu.units().filter_map(|unit| Registers::read(pc, unit.window)).take(UNITS).collect()
}

fn tell_unit(unit: &RemappingUnit, verdict: &mut Verdict) {
    println!("\nUnit {}, segment {:04x}: {}", unit.window, unit.segment, unit.details);
    let (window, features) = (unit.window, unit.features);
    match unit.state {
        UnitState::Failed { error, .. } => {
            println!("  cannot be used: {error}");
            verdict
                .limit(format_args!("{error}: no cell has a device behind it, and its devices may reach all memory"));
            return;
        }
        UnitState::On | UnitState::Off => {}
    }
    let UnitDetails::Vtd(can) = unit.details else { return };
    for (has, what) in abilities(&can) {
        println!("  {} {what}", if has { "yes" } else { "no " });
    }
    println!("  found: {}", if unit.found_on { "translating" } else { "not translating" });
    if unit.found_on {
        verdict.limit(format_args!(
            "unit {window} translates for somebody already: switch that off in set-up (DMA protection before boot), or take it over \
             (Options::take_over)"
        ));
    }
    if features.interrupts.is_none() {
        verdict.limit(format_args!(
            "unit {window} remaps no interrupts: its devices can send any to any CPU, and cells have to allow that \
             (CellConfig::allow_unsafe_interrupts)"
        ));
    }
    if !features.snoop_control {
        verdict.limit(format_args!(
            "unit {window} cannot make DMA snoop the caches: a cell with a device behind it is not coherent, and its guest's WBINVD has \
             to be let through"
        ));
    }
}

/// All that the unit's registers say in a bit each (S 11.4.2, 11.4.3), in words.
fn abilities(can: &Capabilities) -> [(bool, &'static str); 20] {
    [
        (can.queued_invalidation, "QI: an invalidation queue"),
        (can.page_selective.is_some(), "PSI: invalidation of single pages"),
        (can.write_draining, "DWD: invalidations drain writes"),
        (can.read_draining, "DRD: invalidations drain reads"),
        (can.caching_mode, "CM: caches what is not present"),
        (can.write_buffer_flush, "RWBF: needs its write buffer flushed"),
        (can.coherent, "C: snoops the CPU's caches when it reads tables"),
        (can.snoop_control, "SC: can make DMA snoop the CPU's caches"),
        (can.root_pointer_invalidates, "ESRTPS: a new root table empties its caches"),
        (can.abort_mode, "ADMS: can abort all DMA without a table"),
        (can.protected_low, "PLMR: protects a region below 4 GiB"),
        (can.protected_high, "PHMR: protects a region anywhere"),
        (can.device_tlb, "DT: device-TLBs"),
        (can.device_tlb_throttling, "DIT: counts what it sends to each device-TLB"),
        (can.page_requests, "PRS: page requests of devices"),
        (can.interrupt_remapping, "IR: interrupt remapping"),
        (can.extended_interrupts, "EIM: interrupts to CPUs with ids above 255"),
        (can.extended_interrupts_only, "EIMER: remaps interrupts in that mode only"),
        (can.posted_interrupts, "PI: posted interrupts"),
        (can.interrupt_pointer_invalidates, "ESIRTPS: a new table of interrupts empties its cache"),
    ]
}

fn tell_devices(pc: &'static Pc, iommu: &Front<&'static Pc>, verdict: &mut Verdict) {
    println!("\nDevices:");
    let (mut groups, mut unserved) = (0_u32, 0_u32);
    for function in pc.functions() {
        let (id, class) = (pc.config_read(function, 0), pc.config_read(function, CLASS) >> 8);
        println!("  {function} {:04x}:{:04x} class {class:06x}", id & 0xffff, id >> 16);
        match iommu.device_info(function) {
            Err(error) => {
                println!("    {error}");
                unserved += 1;
            }
            Ok(info) => {
                groups += u32::from(tell_device(iommu, function, &info));
                if let Some(refusal) = info.refusal {
                    verdict.limit(format_args!("no cell is given {function}: {refusal}"));
                }
            }
        }
    }
    if groups != 0 {
        verdict.limit(format_args!(
            "functions that nothing isolates from others now: {groups}; all of a group belong to one cell (enabling units switches Access \
             Control Services on where ports have them; another slot may help)"
        ));
    }
    if unserved != 0 {
        verdict.limit(format_args!("functions that no unit serves: {unserved}; nothing blocks their DMA"));
    }
}

/// Tells what a device can do. True if nothing isolates it from others.
fn tell_device(iommu: &Front<&'static Pc>, function: SourceId, info: &DeviceInfo) -> bool {
    println!("    unit {}, {} address bits, source-ids:", info.unit, info.input_bits);
    info.requesters.ids().iter().for_each(|id| println!("      {id}"));
    let isolated = match info.group.isolation() {
        Isolation::RootComplex => Some("by the root complex"),
        Isolation::AccessControl => Some("by Access Control Services"),
        _ => None,
    };
    match isolated {
        Some(by) => println!("    isolated: {by}"),
        None => {
            println!("    not isolated from:");
            info.group.ranges().for_each(|(first, last)| println!("      {first} to {last}"));
        }
    }
    let reserved = iommu.topology().reserved(iommu.hal(), function);
    reserved.for_each(|reserved| println!("    reserved memory: {reserved}"));
    match &info.ats {
        Ok(ats) => println!("    device-TLB: possible, {} invalidations at a time", ats.queue_depth),
        Err(reason) => println!("    device-TLB: none, {reason}"),
    }
    match iommu.msi_x_table(function) {
        Ok(table) => println!("    MSI-X: {} messages, table at {:#x}", table.entries, table.address.as_u64()),
        Err(_) => println!("    MSI-X: none"),
    }
    println!("    reset alone: {}", if info.resettable { "possible" } else { "not possible" });
    isolated.is_none()
}
