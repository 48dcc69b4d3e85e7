//! A machine with AMD IOMMUs: what its table says of units and devices. The driver drives none yet, so no register is touched.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::topology::{AmdUnit, Isolation, Topology, UnitKind};
use cofferdam_pc::{Pc, println};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{LIMITS, Report, Verdict, Words, memory};

/// Vendor and device at 0, class from 9 on (PCI 3.0, section 6.1).
const CLASS: u16 = 8;

/// The Extended Feature Register, a bit each (AMD IOMMU specification, order number 48882, section 3.4.2): those that decide what cells
/// can have.
const FEATURES: [(u32, &str); 14] = [
    (0, "PreFSup: prefetches translations"),
    (1, "PPRSup: page requests of devices"),
    (2, "XTSup: interrupts to CPUs with ids above 255"),
    (3, "NXSup: no-execute in guest tables"),
    (4, "GTSup: guest tables, and PASIDs"),
    (6, "IASup: one command empties all caches"),
    (7, "GASup: interrupts delivered to guests, and entries of 128 bits"),
    (8, "HESup: registers that say which hardware error happened"),
    (9, "PCSup: performance counters"),
    (48, "GIoSup: requests without PASID by a guest table"),
    (49, "HASup: access bits set by hardware"),
    (52, "HDSup: dirty bits set by hardware"),
    (55, "vIommuSup: a guest can have the unit's registers"),
    (63, "SNPSup: SEV-SNP"),
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
    let print = |finding: cofferdam::firmware::Finding| println!("  {}: {finding}", finding.severity());
    let topology = match Topology::read(memory()?, &LIMITS, table, &pc, print) {
        Ok(topology) => topology,
        Err(error) => {
            println!("  {error}");
            return Ok(());
        }
    };
    for reserved in topology.reserved_memory() {
        println!("  reserved: {reserved}");
    }
    for unit in topology.units() {
        let UnitKind::AmdVi(amd) = unit.kind else { continue };
        println!("\nUnit {}, segment {:04x}: AMD-Vi, function {}", unit.window, unit.segment, amd.device);
        look_at_features(&amd);
        let capabilities = Words::new(format_args!("AMD-Vi, function {}, features {:x?}", amd.device, amd.features));
        let base = unit.window.base.as_u64();
        report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
    }
    println!("\nDevices:");
    pc.functions().for_each(|function| look_at_device(pc, &topology, function));
    Ok(())
}

fn look_at_features(unit: &AmdUnit) {
    println!("  {} IotlbSup: device-TLBs", yes_or_no(unit.iotlb_supported()));
    let Some(features) = unit.features else {
        println!("  the table has no image of its features");
        return;
    };
    for (bit, what) in FEATURES {
        println!("  {} {what}", yes_or_no(features >> bit & 1 == 1));
    }
    let levels = match features >> 10 & 3 {
        0 => "4",
        1 => "5",
        2 => "6",
        _ => "an unknown number of",
    };
    println!("  HATS: page tables of {levels} levels");
}

fn look_at_device(pc: &'static Pc, topology: &Topology<'_>, function: SourceId) {
    let (id, class) = (pc.config_read(function, 0), pc.config_read(function, CLASS) >> 8);
    println!("  {function} {:04x}:{:04x} class {class:06x}", id & 0xffff, id >> 16);
    let unit = topology.unit_of(&pc, function).and_then(|index| topology.units().get(index.get()));
    match unit {
        Some(unit) => println!("    unit {}, source-ids:", unit.window),
        None => println!("    no unit serves it; source-ids:"),
    }
    match topology.requesters(&pc, function) {
        Ok(all) => all.ids().iter().for_each(|id| println!("      {id}")),
        Err(full) => println!("      {full}"),
    }
    let group = topology.group(&pc, function);
    match group.isolation() {
        Isolation::RootComplex => println!("    isolated: by the root complex"),
        Isolation::AccessControl => println!("    isolated: by Access Control Services"),
        _ => {
            println!("    not isolated from:");
            group.ranges().for_each(|(first, last)| println!("      {first} to {last}"));
        }
    }
    for reserved in topology.reserved(&pc, function) {
        println!("    reserved memory: {reserved}");
    }
}

const fn yes_or_no(has: bool) -> &'static str {
    if has { "yes" } else { "no " }
}
