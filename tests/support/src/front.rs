//! Fronts of the driver: all that tests and benchmarks make come from here.
#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

use cofferdam::addr::{IovaRange, Region, Rights, SourceId};
use cofferdam::firmware::{self, Finding};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Committed, DeviceConfig, Edit, Error, Options, UnitState};
use cofferdam::limits::Limits;
use cofferdam::topology::{BridgeWindow, ConfigSpace, Topology};
use cofferdam::{CellConfig, CellId, Coherency, Iommu};
use cofferdam_model::Machine;

use crate::tables::{endpoint, of_machine};

/// A front whose memory lasts as long as the test's process.
pub type Front<H> = Iommu<'static, H>;

/// The capacities of a front that is soon full.
pub const SMALL: Limits =
    Limits { units: 4, cells: SMALL_CELLS, devices: 40, root_regions: Limits::DEFAULT.regions, ..Limits::DEFAULT };
/// Cells of a small front.
pub const SMALL_CELLS: usize = 8;

/// Memory for a front.
pub fn memory(limits: &Limits) -> Vec<MaybeUninit<u64>> {
    vec![MaybeUninit::uninit(); limits.words()]
}

/// Whoever has a unit on loses it.
pub const TAKES_OVER: Options = Options { take_over: true, ..Options::DEFAULT };

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
) -> Result<Topology<'static>, firmware::TableError> {
    read_table_with(&Limits::DEFAULT, table, config, report)
}

/// The same with other capacities than the default ones.
///
/// # Errors
///
/// The table cannot be used.
pub fn read_table_with(
    limits: &Limits,
    table: &[u8],
    config: &impl ConfigSpace,
    report: impl FnMut(Finding),
) -> Result<Topology<'static>, firmware::TableError> {
    Topology::read(memory(limits).leak(), limits, table, config, report)
}

/// What a sound table says.
pub fn topology(table: &[u8], config: &impl ConfigSpace) -> Topology<'static> {
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
    let limits = Limits::DEFAULT;
    let iommu = Front::new(hal, options);
    iommu.probe_acpi(memory(&limits).leak(), &limits, table, report)?;
    Ok(iommu)
}

/// A front that no unit was looked at by yet.
pub const fn empty_front<H: Hal>(hal: H, options: Options) -> Front<H> {
    Front::new(hal, options)
}

/// A front over a platform with a sound table, switched on.
pub fn enabled_front<H: Hal>(hal: H, table: &[u8], options: Options) -> Front<H> {
    limited_front(hal, table, &Limits::DEFAULT, options)
}

/// The same with other capacities than the default ones.
pub fn limited_front<H: Hal>(hal: H, table: &[u8], limits: &Limits, options: Options) -> Front<H> {
    let iommu = Front::new(hal, options);
    iommu.probe_acpi(memory(limits).leak(), limits, table, |finding| panic!("{finding}")).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// A front over a machine whose units serve these buses.
///
/// # Errors
///
/// A unit cannot be used.
pub fn discover<'m>(machine: &'m Machine, buses: &[&[u8]]) -> Result<Front<&'m Machine>, Error> {
    front(machine, &of_machine(machine, buses).table(), TAKES_OVER)
}

/// A front over a machine of one unit, or of several that name what they serve, switched on.
pub fn enabled(machine: &Machine) -> Front<&Machine> {
    enabled_front(machine, &of_machine(machine, &[]).table(), TAKES_OVER)
}

/// The table of a machine of one unit, or of several that name what they serve, that lets devices behind all root ports use
/// ATS.
pub fn table_with_ats(machine: &Machine) -> Vec<u8> {
    let mut segments: Vec<u16> = (0..).map_while(|unit| machine.unit_config(unit)).map(|unit| unit.segment).collect();
    segments.dedup();
    segments.into_iter().fold(of_machine(machine, &[]), |table, segment| table.atsr(1, segment, &[])).table()
}

/// A front over a machine of one unit, switched on, whose firmware lets devices behind all root ports use ATS.
pub fn enabled_with_ats(machine: &Machine) -> Front<&Machine> {
    enabled_front(machine, &table_with_ats(machine), TAKES_OVER)
}

/// The same with other capacities than the default ones.
pub fn limited<'m>(machine: &'m Machine, limits: &Limits) -> Front<&'m Machine> {
    limited_front(machine, &table_with_ats(machine), limits, TAKES_OVER)
}

/// A front over a machine of one unit, switched on. Each of `reserved` is memory from its first to its last address for a
/// device of bus 0.
pub fn enabled_with_reserved<'m>(machine: &'m Machine, reserved: &[(u64, u64, u8)]) -> Front<&'m Machine> {
    let table = reserved.iter().fold(of_machine(machine, &[]), |table, &(first, last, device)| {
        table.rmrr(0, first, last, &[endpoint(device, 0)])
    });
    enabled_front(machine, &table.table(), TAKES_OVER)
}

/// The state of each unit.
pub fn states<H: Hal>(iommu: &Iommu<'_, H>) -> Vec<UnitState> {
    iommu.units().map(|unit| unit.state).collect()
}

/// The faults that were counted, by device.
pub fn faults_by_device<H: Hal>(iommu: &Iommu<'_, H>) -> Vec<(SourceId, u64)> {
    let mut all = Vec::new();
    iommu.faults_by_device(|device, faults| all.push((device, faults)));
    all
}

/// A cell with one region and one device.
pub fn cell_with<H: Hal>(iommu: &Iommu<'_, H>, region: Region, device: SourceId) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region).unwrap();
    iommu.assign(device, cell).unwrap();
    cell
}

/// Edits that are collected, and committed together.
#[derive(Debug)]
pub struct Change<'i, 's, H> {
    iommu: &'i Iommu<'s, H>,
    /// What is collected.
    pub edits: Vec<Edit>,
}

/// Begins a change.
pub trait Changes<'s, H> {
    /// A change without edits yet.
    fn change(&self) -> Change<'_, 's, H>;
}

impl<'s, H> Changes<'s, H> for Iommu<'s, H> {
    fn change(&self) -> Change<'_, 's, H> {
        Change { iommu: self, edits: Vec::new() }
    }
}

impl<H: Hal> Change<'_, '_, H> {
    /// Adds an edit.
    pub fn with(&mut self, edit: Edit) -> &mut Self {
        self.edits.push(edit);
        self
    }

    /// [`Edit::Map`].
    pub fn map(&mut self, cell: CellId, region: Region) -> &mut Self {
        self.with(Edit::Map(cell, region))
    }

    /// [`Edit::MapShared`].
    pub fn map_shared(&mut self, cell: CellId, region: Region) -> &mut Self {
        self.with(Edit::MapShared(cell, region))
    }

    /// [`Edit::Unmap`].
    pub fn unmap(&mut self, cell: CellId, range: IovaRange) -> &mut Self {
        self.with(Edit::Unmap(cell, range))
    }

    /// [`Edit::Protect`].
    pub fn protect(&mut self, cell: CellId, range: IovaRange, rights: Rights) -> &mut Self {
        self.with(Edit::Protect(cell, range, rights))
    }

    /// [`Edit::Assign`].
    pub fn assign(&mut self, device: SourceId, cell: CellId) -> &mut Self {
        self.assign_with(device, cell, DeviceConfig::default())
    }

    /// [`Edit::Assign`].
    pub fn assign_with(&mut self, device: SourceId, cell: CellId, config: DeviceConfig) -> &mut Self {
        self.with(Edit::Assign(device, cell, config))
    }

    /// [`Edit::Release`].
    pub fn release(&mut self, device: SourceId) -> &mut Self {
        self.with(Edit::Release(device))
    }

    /// [`Edit::Destroy`].
    pub fn destroy(&mut self, cell: CellId) -> &mut Self {
        self.with(Edit::Destroy(cell))
    }

    /// Makes all edits take effect.
    ///
    /// # Errors
    ///
    /// As for [`Iommu::commit`].
    pub fn commit(&self) -> Result<Committed, Error> {
        self.iommu.commit(&self.edits)
    }
}

/// Which of these cells have another coherency than before a change, as far as they exist.
pub fn coherency_changes<H: Hal>(
    iommu: &Iommu<'_, H>,
    committed: &Committed,
    cells: &[CellId],
) -> Vec<(CellId, Coherency)> {
    let change = |cell: &CellId| match iommu.coherency_change(committed, *cell) {
        Err(Error::NoSuchCell(_)) => None,
        change => change.unwrap().map(|now| (*cell, now)),
    };
    let all: Vec<_> = cells.iter().filter_map(change).collect();
    assert_eq!(committed.changes_coherency(), !all.is_empty(), "of these cells, or of none");
    all
}

/// The windows of bridges that requests of a device do not pass.
pub fn windows<H: Hal>(iommu: &Iommu<'_, H>, device: SourceId) -> Vec<BridgeWindow> {
    let mut all = Vec::new();
    iommu.windows(device, &mut |window| all.push(window)).unwrap();
    all
}

/// The memory that firmware reserves for a device.
pub fn reserved<H: Hal>(iommu: &Iommu<'_, H>, device: SourceId) -> Vec<Region> {
    iommu.topology().reserved(iommu.hal(), device).map(|memory| memory.region).collect()
}

/// The input ranges that a cell can map.
///
/// # Errors
///
/// As for [`Iommu::input_ranges`].
pub fn input_ranges<H: Hal>(iommu: &Iommu<'_, H>, cell: CellId) -> Result<Vec<IovaRange>, Error> {
    let mut all = Vec::new();
    iommu.input_ranges(cell, |range| all.push(range))?;
    Ok(all)
}
