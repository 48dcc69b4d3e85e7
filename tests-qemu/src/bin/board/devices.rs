//! The devices: the unit of each, what keeps it apart from others, and what it can do.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::DeviceInfo;
use cofferdam::topology::Isolation;
use cofferdam_pc::{Pc, println};
use cofferdam_tests_qemu::{Front, Verdict};

/// What configuration space has of a function (PCI 3.0, 6.1): vendor and device at 0, class from 9 on.
const CLASS: u16 = 8;

/// Prints what each function is, and says what of them limits the board.
pub(crate) fn look_at_all(pc: &'static Pc, iommu: &Front<&'static Pc>, verdict: &mut Verdict) {
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
                groups += u32::from(look_at(iommu, function, &info));
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

/// Prints what a device can do. True if nothing isolates it from others.
fn look_at(iommu: &Front<&'static Pc>, function: SourceId, info: &DeviceInfo) -> bool {
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
