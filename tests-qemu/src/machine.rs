//! From the firmware's table to a front that is switched on.
#![forbid(unsafe_code)]

use cofferdam::Iommu;
use cofferdam::hal::Hal;
use cofferdam::iommu::Options;
use cofferdam::topology::Topology;
use cofferdam_pc::{Dmar, Pc};
use cofferdam_report::Record;

use crate::{Report, Words};

/// Finds the remapping units of the machine over `hal`, tells of them, and switches them on.
///
/// # Errors
///
/// Why it cannot be done, in words.
pub fn bring_up<H: Hal>(pc: &Pc, hal: H, report: &Report) -> Result<Iommu<H>, Words> {
    let mut iommu = discover(hal, topology(pc)?, report)?;
    iommu.enable()?;
    Ok(iommu)
}

/// What the firmware says of the machine.
///
/// # Errors
///
/// There is no DMAR table, or none that can be read.
pub fn topology(pc: &Pc) -> Result<Topology, Words> {
    let table = pc.table::<Dmar>()?;
    let table = table.ok_or_else(|| {
        Words::new(format_args!("the firmware has no DMAR table: the machine has no VT-d unit, or it is switched off"))
    })?;
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
        let capabilities = Words::new(format_args!("{}", unit.capabilities));
        let base = unit.window.base.as_u64();
        report.tell(Record::Unit { base, segment: unit.segment, capabilities: capabilities.as_str() });
    }
    Ok(iommu)
}
