//! From the firmware's table to a front that is switched on.
#![forbid(unsafe_code)]

use cofferdam::Iommu;
use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::Options;
use cofferdam::topology::Topology;
use cofferdam_pc::{Dmar, Pc};
use cofferdam_report::Record;
use heapless::Vec;

use crate::{Report, Words};

/// Finds the remapping units of `topology` over `hal`, tells of them, and switches them on.
///
/// # Errors
///
/// Why it cannot be done, in words.
pub fn bring_up<H: Hal>(hal: H, topology: Topology, report: &Report) -> Result<Iommu<H>, Words> {
    let mut iommu = discover(hal, topology, report)?;
    iommu.enable()?;
    Ok(iommu)
}

/// What the firmware says of the machine.
///
/// # Errors
///
/// There is no DMAR table, or none that can be read.
pub fn topology(pc: &Pc) -> Result<Topology, Words> {
    read(pc, dmar(pc)?)
}

/// The same, as if the firmware had added that this device's requests must not be made to snoop, which QEMU's firmware
/// says of none: a SIDP structure with REQ_WO_PASID_PGSNP_NOTALLOWED (VT-d 5.10, sections 8.3.1 and 8.9).
///
/// # Errors
///
/// As for [`topology`]; or the table is too long to be added to.
pub fn topology_without_snoop(pc: &Pc, device: SourceId) -> Result<Topology, Words> {
    let mut table = Vec::<u8, 512>::new();
    let scope = [1, 8, 1 << 2, 0, 0, device.bus(), device.device(), device.function()];
    let [low, high] = device.segment().to_le_bytes();
    for part in [dmar(pc)?, &[6, 0, 16, 0, 0, 0, low, high], &scope] {
        table.extend_from_slice(part).map_err(|_| Words::new(format_args!("the DMAR table is too long")))?;
    }
    let length = table.len() as u32;
    if let Some(field) = table.get_mut(4..8) {
        field.copy_from_slice(&length.to_le_bytes());
    }
    let sum = table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(9) {
        *checksum = checksum.wrapping_sub(sum);
    }
    read(pc, &table)
}

fn dmar(pc: &Pc) -> Result<&'static [u8], Words> {
    pc.table::<Dmar>()?.ok_or_else(|| {
        Words::new(format_args!("the firmware has no DMAR table: the machine has no VT-d unit, or it is switched off"))
    })
}

fn read(pc: &Pc, table: &[u8]) -> Result<Topology, Words> {
    Ok(Topology::from_dmar(table, pc, |finding| cofferdam_pc::println!("DMAR: {finding}"))?)
}

/// Finds the remapping units of `topology` over `hal`, and tells of them.
///
/// # Errors
///
/// Why it cannot be done, in words.
pub fn discover<H: Hal>(hal: H, topology: Topology, report: &Report) -> Result<Iommu<H>, Words> {
    let iommu: Iommu<H> = Iommu::discover(hal, topology, Options::default())?;
    for unit in iommu.units() {
        let capabilities = Words::new(format_args!("{}", unit.details));
        let base = unit.window.base.as_u64();
        report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
    }
    Ok(iommu)
}
