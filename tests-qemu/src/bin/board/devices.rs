//! The devices: the unit of each, what keeps it apart from others, and what it can do.

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::DeviceInfo;
use cofferdam::topology::{Group, Isolation};
use cofferdam_pc::{Pc, println};
use cofferdam_report::Record;
use cofferdam_tests_qemu::{Front, Report, Verdict, Words, msi_messages};

use crate::records::{self, Identity};

/// What configuration space has of a function (PCI 3.0, 6.1): vendor and device at 0, class from 9 on, the type of its
/// header at 0x0e.
const CLASS: u16 = 8;
const HEADER_TYPE: u16 = 0x0c;
/// The buses of a bridge: the one behind it at 0x19, the last one behind it at 0x1a (PCI-to-PCI Bridge Architecture 1.2,
/// 3.2.5; PCI to CardBus bridges have them there, too).
const BUSES: u16 = 0x18;

/// Prints what each function is, and says what of them limits the board.
pub(crate) fn look_at_all(pc: &'static Pc, iommu: &Front<&'static Pc>, report: &Report, verdict: &mut Verdict) {
    println!("\nDevices:");
    let (mut all, mut groups, mut unserved) = (0_u32, 0_u32, 0_u32);
    for function in pc.functions_that_answer() {
        all += 1;
        let identity = identify(pc, function);
        match iommu.device_info(function) {
            Err(error) => {
                println!("    {error}");
                records::refused(report, function, &identity, None, Words::new(format_args!("{error}")).as_str());
                unserved += 1;
            }
            Ok(info) => {
                groups += u32::from(look_at(iommu, function, &identity, &info, report));
                if let Some(refusal) = info.refusal {
                    verdict.limit(format_args!("no cell is given {function}: {refusal}"));
                }
            }
        }
    }
    if all == 0 {
        verdict.limit(format_args!(
            "firmware's MCFG table leads to no function, so nothing is known of devices: switch memory-mapped configuration space on in set-up"
        ));
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

/// Prints what a function is.
pub(crate) fn identify(pc: &'static Pc, function: SourceId) -> Identity {
    let (id, class) = (pc.config_read(function, 0), pc.config_read(function, CLASS) >> 8);
    let is_bridge = matches!(pc.config_read(function, HEADER_TYPE) >> 16 & 0x7f, 1 | 2);
    let [_, secondary, last, _] = pc.config_read(function, BUSES).to_le_bytes();
    let buses = is_bridge.then_some((secondary, last));
    let (vendor, device, msi) = (id as u16, (id >> 16) as u16, msi_messages(pc, function));
    println!("  {function} {vendor:04x}:{device:04x} class {class:06x}");
    if buses.is_some() {
        println!("    bridge to bus {secondary:02x}, buses up to {last:02x} are behind it");
    }
    println!("    MSI: {msi} messages");
    Identity { vendor, device, class, buses, msi }
}

/// Prints what a device can do. True if nothing isolates it from others.
fn look_at(
    iommu: &Front<&'static Pc>,
    function: SourceId,
    identity: &Identity,
    info: &DeviceInfo,
    report: &Report,
) -> bool {
    println!("    unit {}, {} address bits, source-ids:", info.unit, info.input_bits);
    info.requesters.ids().iter().for_each(|id| println!("      {id}"));
    let isolated = isolated(&info.group);
    match &info.ats {
        Ok(ats) => println!("    device-TLB: possible, {} invalidations at a time", ats.queue_depth),
        Err(reason) => println!("    device-TLB: none, {reason}"),
    }
    let msi_x = iommu.msi_x_table(function);
    match &msi_x {
        Ok(table) => println!("    MSI-X: {} messages, table at {:#x}", table.entries, table.address.as_u64()),
        Err(_) => println!("    MSI-X: none"),
    }
    println!("    reset alone: {}", if info.resettable { "possible" } else { "not possible" });
    let messages = msi_x.map_or(0, |table| table.entries);
    records::function(report, function, identity, info, isolated.unwrap_or_default(), messages);
    let id = Words::new(format_args!("{function}"));
    for reserved in iommu.topology().reserved(iommu.hal(), function) {
        println!("    reserved memory: {reserved}");
        let range = reserved.region.input;
        let (first, last) = (range.start().as_u64(), range.last().as_u64());
        report.tell(Record::Uses { function: id.as_str(), first, last });
    }
    isolated.is_none()
}

/// Prints what isolates a function, and gives that back; or from which others nothing does.
pub(crate) fn isolated(group: &Group) -> Option<&'static str> {
    let isolated = match group.isolation() {
        Isolation::RootComplex => Some("by the root complex"),
        Isolation::AccessControl => Some("by Access Control Services"),
        _ => None,
    };
    match isolated {
        Some(by) => println!("    isolated: {by}"),
        None => {
            println!("    not isolated from:");
            group.ranges().for_each(|(first, last)| println!("      {first} to {last}"));
        }
    }
    isolated
}
