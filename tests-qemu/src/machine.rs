//! From the firmware's table to a front that is switched on.
#![forbid(unsafe_code)]

use core::mem::MaybeUninit;

use cofferdam::Iommu;
use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::Options;
use cofferdam::limits::{Limits, Memory};
use cofferdam_pc::{Dmar, Pc};
use cofferdam_report::Record;
use heapless::Vec;

use crate::{Report, Words};

/// What the front of a scenario has room for.
pub const LIMITS: Limits = Limits::DEFAULT;
static MEMORY: Memory<{ LIMITS.words() }> = Memory::new();

/// The front of a scenario.
pub type Front<H> = Iommu<'static, H>;

/// A table whose bytes are not the firmware's own.
pub type Table = Vec<u8, 512>;

/// The memory of the scenario's front.
///
/// # Errors
///
/// A front has it already.
pub fn memory() -> Result<&'static mut [MaybeUninit<u64>], Words> {
    MEMORY.take().ok_or_else(|| Words::new(format_args!("the scenario has a front already")))
}

/// The firmware's table.
///
/// # Errors
///
/// There is none.
pub fn dmar(pc: &Pc) -> Result<&'static [u8], Words> {
    pc.table::<Dmar>()?.ok_or_else(|| {
        Words::new(format_args!("the firmware has no DMAR table: the machine has no VT-d unit, or it is switched off"))
    })
}

/// The firmware's table, as if it said as well that this device's requests must not be made to snoop, which QEMU's firmware
/// says of none: a SIDP structure with REQ_WO_PASID_PGSNP_NOTALLOWED (VT-d 5.10, sections 8.3.1 and 8.9).
///
/// # Errors
///
/// There is no table, or it is too long to be added to.
pub fn dmar_without_snoop(pc: &Pc, device: SourceId) -> Result<Table, Words> {
    let mut table = Table::new();
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
    Ok(table)
}

/// Finds the remapping units that the firmware's table names over `hal`, reports them, and switches them on.
///
/// # Errors
///
/// Why it cannot be done, in words.
pub fn bring_up<H: Hal>(hal: H, table: &[u8], report: &Report) -> Result<Front<H>, Words> {
    let iommu = discover(hal, table, report)?;
    iommu.enable()?;
    Ok(iommu)
}

/// Finds the remapping units that the firmware's table names over `hal`, and reports them.
///
/// # Errors
///
/// Why it cannot be done, in words.
pub fn discover<H: Hal>(hal: H, table: &[u8], report: &Report) -> Result<Front<H>, Words> {
    let iommu = Iommu::new(hal, Options::default());
    iommu.probe_acpi(memory()?, &LIMITS, table, |finding| cofferdam_pc::println!("DMAR: {finding}"))?;
    for unit in iommu.units() {
        let capabilities = Words::new(format_args!("{}", unit.details));
        let base = unit.window.base.as_u64();
        report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
    }
    Ok(iommu)
}
