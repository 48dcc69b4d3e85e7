//! Fronts of the driver: all that tests and benchmarks make come from here.
#![forbid(unsafe_code)]

use cofferdam::addr::{Region, SourceId};
use cofferdam::firmware::{self, Finding};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Options, UnitState};
use cofferdam::topology::{ConfigSpace, Topology};
use cofferdam::{CellConfig, CellId, Iommu, limits};
use cofferdam_model::Machine;

use crate::tables::{endpoint, of_machine};

/// A front with the default capacities.
pub type Front<H> = Iommu<H>;
/// Edits of such a front.
pub type Change<'i, H> = cofferdam::iommu::Change<'i, H, { limits::UNITS }, { limits::CELLS }, { limits::DEVICES }>;
/// What a change of such a front has come to.
pub type Committed = cofferdam::iommu::Committed<{ limits::CELLS }>;

/// A front that is soon full.
pub type SmallFront<H> = Iommu<H, SMALL_UNITS, SMALL_CELLS, SMALL_DEVICES>;
/// Edits of a small front.
pub type SmallChange<'i, H> = cofferdam::iommu::Change<'i, H, SMALL_UNITS, SMALL_CELLS, SMALL_DEVICES>;
/// What a change of a small front has come to.
pub type SmallCommitted = cofferdam::iommu::Committed<SMALL_CELLS>;
const SMALL_UNITS: usize = 4;
/// Cells of a small front.
pub const SMALL_CELLS: usize = 8;
const SMALL_DEVICES: usize = 40;

/// For cells whose devices have no configuration space, as most in tests.
pub const UNSAFE_INTERRUPTS: CellConfig =
    CellConfig { allow_unsafe_interrupts: true, allow_unknown_isolation: true, ..CellConfig::DEFAULT };

const _: () = {
    const fn is_shared_between_cpus<T: Sync + Send>() {}
    is_shared_between_cpus::<Front<&Machine>>();
};

/// What a table of either vendor says.
///
/// # Errors
///
/// The table cannot be used.
pub fn read_table(
    table: &[u8],
    config: &impl ConfigSpace,
    report: impl FnMut(Finding),
) -> Result<Topology, firmware::Error> {
    match table {
        [b'I', ..] => Topology::from_ivrs(table, report),
        _ => Topology::from_dmar(table, config, report),
    }
}

/// What a sound table says.
pub fn topology(table: &[u8], config: &impl ConfigSpace) -> Topology {
    read_table(table, config, |finding| panic!("{finding}")).unwrap()
}

/// A front over a platform with a sound table.
///
/// # Errors
///
/// A unit cannot be used.
pub fn front<H: Hal>(hal: H, table: &[u8], options: Options) -> Result<Front<H>, Error> {
    front_with_findings(hal, table, options, |finding| panic!("{finding}"))
}

/// A front over a platform with any table.
///
/// # Errors
///
/// The table or a unit cannot be used.
pub fn front_with_findings<H: Hal>(
    hal: H,
    table: &[u8],
    options: Options,
    report: impl FnMut(Finding),
) -> Result<Front<H>, Error> {
    let topology = read_table(table, &hal, report)?;
    Front::discover(hal, topology, options)
}

/// A front that no unit was looked at by yet.
pub const fn empty_front<H: Hal>(hal: H, options: Options) -> Front<H> {
    Front::new(hal, options)
}

/// A front over a platform with a sound table, switched on.
pub fn enabled_front<H: Hal>(hal: H, table: &[u8], options: Options) -> Front<H> {
    let mut iommu = front(hal, table, options).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// A small front over a platform with a sound table, switched on.
pub fn small_front<H: Hal>(hal: H, table: &[u8], options: Options) -> SmallFront<H> {
    let topology = topology(table, &hal);
    let mut iommu = SmallFront::discover(hal, topology, options).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// A front over a machine whose units serve these buses.
///
/// # Errors
///
/// A unit cannot be used.
pub fn discover<'m>(machine: &'m Machine, buses: &[&[u8]]) -> Result<Front<&'m Machine>, Error> {
    front(machine, &of_machine(machine, buses).table(), Options::default())
}

/// A front over a machine of one unit, switched on.
pub fn enabled(machine: &Machine) -> Front<&Machine> {
    enabled_front(machine, &of_machine(machine, &[]).table(), Options::default())
}

/// The table of a machine of one unit that lets devices behind all root ports use ATS.
pub fn table_with_ats(machine: &Machine) -> Vec<u8> {
    of_machine(machine, &[]).atsr(1, 0, &[]).table()
}

/// A front over a machine of one unit, switched on, whose firmware lets devices behind all root ports use ATS.
pub fn enabled_with_ats(machine: &Machine) -> Front<&Machine> {
    enabled_front(machine, &table_with_ats(machine), Options::default())
}

/// A front over a machine of one unit, switched on. Each of `reserved` is memory from its first to its last address for a
/// device of bus 0.
pub fn enabled_with_reserved<'m>(machine: &'m Machine, reserved: &[(u64, u64, u8)]) -> Front<&'m Machine> {
    let table = reserved.iter().fold(of_machine(machine, &[]), |table, &(first, last, device)| {
        table.rmrr(0, first, last, &[endpoint(device, 0)])
    });
    enabled_front(machine, &table.table(), Options::default())
}

/// The state of each unit.
pub fn states<H: Hal>(iommu: &Front<H>) -> Vec<UnitState> {
    iommu.units().map(|unit| unit.state).collect()
}

/// A cell with one region and one device.
pub fn cell_with<H: Hal>(iommu: &Front<H>, region: Region, device: SourceId) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region).unwrap();
    iommu.assign(device, cell).unwrap();
    cell
}
