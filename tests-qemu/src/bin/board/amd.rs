//! A machine with AMD IOMMUs: what its table says of units and devices. The driver drives none yet, so one register is read, and none is written.

use cofferdam::addr::SourceId;
use cofferdam::firmware::Finding;
use cofferdam::topology::{AmdUnit, Topology, UnitKind};
use cofferdam_pc::{Pc, println};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{LIMITS, Report, Verdict, Words, amd_is_on, memory};

use crate::{devices, records, units};

const NOT_DRIVEN: &str = "the driver drives no AMD unit yet";

/// The Extended Feature Register, a bit each (AMD IOMMU specification, order number 48882, section 3.4.2): those that decide what cells
/// can have.
const FEATURES: [(u32, &str, &str); 14] = [
    (0, "PreFSup", "prefetches translations"),
    (1, "PPRSup", "page requests of devices"),
    (2, "XTSup", "interrupts to CPUs with ids above 255"),
    (3, "NXSup", "no-execute in guest tables"),
    (4, "GTSup", "guest tables, and PASIDs"),
    (6, "IASup", "one command empties all caches"),
    (7, "GASup", "interrupts delivered to guests, and entries of 128 bits"),
    (8, "HESup", "registers that say which hardware error happened"),
    (9, "PCSup", "performance counters"),
    (48, "GIoSup", "requests without PASID by a guest table"),
    (49, "HASup", "access bits set by hardware"),
    (52, "HDSup", "dirty bits set by hardware"),
    (55, "vIommuSup", "a guest can have the unit's registers"),
    (63, "SNPSup", "SEV-SNP"),
];

/// Prints what an IVRS table says, and what the verdict is: the driver drives none of its units yet.
///
/// # Errors
///
/// The memory for it is taken.
pub(crate) fn look_at(pc: &'static Pc, report: &Report, table: &[u8], verdict: &mut Verdict) -> Result<(), Words> {
    verdict.unfit(format_args!(
        "firmware has an IVRS table, so this is a machine with an AMD IOMMU, and the driver drives none yet"
    ));
    println!("\nFirmware's IVRS table, {} bytes:", table.len());
    records::table(report, table);
    let print = |finding: Finding| {
        println!("  {}: {finding}", finding.severity());
        records::finding(report, &finding);
    };
    let topology = match Topology::read(memory()?, &LIMITS, table, &pc, print) {
        Ok(topology) => topology,
        Err(error) => {
            println!("  {error}");
            return Ok(());
        }
    };
    records::firmware(report, &topology);
    for reserved in topology.reserved_memory() {
        println!("  reserved: {reserved}");
    }
    for unit in topology.units() {
        let UnitKind::AmdVi(amd) = unit.kind else { continue };
        println!("\nUnit {}, segment {:04x}: AMD-Vi, function {}", unit.window, unit.segment, amd.device);
        let capabilities = Words::new(format_args!("AMD-Vi, function {}, features {:x?}", amd.device, amd.features));
        let base = unit.window.base.as_u64();
        report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
        look_at_features(report, base, &amd, (topology.host_address_width(), amd_is_on(pc, unit.window)));
    }
    println!("\nDevices:");
    pc.functions_that_answer().for_each(|function| look_at_device(pc, &topology, function, report));
    Ok(())
}

fn look_at_features(report: &Report, unit: u64, amd: &AmdUnit, (output_bits, translating): (u8, bool)) {
    let say = |bit: &str, has, words: &str| units::ability(report, unit, bit, has, words);
    let features = amd.features.unwrap_or(0);
    let levels = match features >> 10 & 3 {
        _ if amd.features.is_none() => None,
        3 => None,
        more => Some(4 + more as u8),
    };
    report.tell(Record::UnitState {
        unit,
        version: (0, 0),
        // A level has 9 bits, a page 12; there are no more than 64 (section 2.2.3).
        input_bits: levels.map_or(0, |levels| (12 + 9 * levels).min(64)),
        output_bits,
        domains: 1 << 16,
        translating,
        interrupts: true,
        refused: NOT_DRIVEN,
    });
    println!("  found: {}", if translating { "translating" } else { "not translating" });
    say("IotlbSup", amd.iotlb_supported(), "device-TLBs");
    if amd.features.is_none() {
        println!("  the table has no image of its features");
        return;
    }
    FEATURES.iter().for_each(|(at, bit, words)| say(bit, features >> at & 1 == 1, words));
    match levels {
        Some(levels) => println!("  HATS: page tables of {levels} levels"),
        None => println!("  HATS: no page tables that are known"),
    }
}

fn look_at_device(pc: &'static Pc, topology: &Topology<'_>, function: SourceId, report: &Report) {
    let identity = devices::identify(pc, function);
    let unit = topology.unit_of(&pc, function).and_then(|index| topology.units().get(index.get()));
    match unit {
        Some(unit) => println!("    unit {}, source-ids:", unit.window),
        None => println!("    no unit serves it; source-ids:"),
    }
    let why = if unit.is_some() { NOT_DRIVEN } else { "no unit serves it" };
    records::refused(report, function, &identity, unit.map(|unit| unit.window.base.as_u64()), why);
    match topology.requesters(&pc, function) {
        Ok(all) => {
            all.ids().iter().for_each(|id| println!("      {id}"));
            records::aliases(report, function, &all);
        }
        Err(full) => println!("      {full}"),
    }
    let group = topology.group(&pc, function);
    if devices::isolated(&group).is_none() {
        records::group(report, function, &group);
    }
    for reserved in topology.reserved(&pc, function) {
        println!("    reserved memory: {reserved}");
    }
}
