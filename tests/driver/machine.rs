//! A machine of the model, with the firmware's table that describes it.

use cofferdam::addr::{Iova, IovaRange, PhysAddr, Region, Rights, SourceId};
use cofferdam::hal::{Hal, NoFrame};
use cofferdam::iommu::UnitState;
use cofferdam::iommu::{Error, Options};
use cofferdam::topology::Topology;
use cofferdam::{CellConfig, CellId, Iommu};
use cofferdam_model::{Config, Machine, UnitConfig};

pub(crate) const PAGE: u64 = 0x1000;
pub(crate) const LARGE: u64 = 0x20_0000;
/// Most devices here have no configuration space.
pub(crate) const UNSAFE_INTERRUPTS: CellConfig =
    CellConfig { allow_unsafe_interrupts: true, allow_unknown_isolation: true, ..CellConfig::DEFAULT };

/// Every kind of unit that the driver can use.
pub(crate) fn presets() -> Vec<(&'static str, UnitConfig)> {
    vec![
        ("server", UnitConfig::server()),
        ("server that does not snoop", UnitConfig::server().coherent(false)),
        ("server, caching mode", UnitConfig::server().caching_mode(true)),
        ("client", UnitConfig::client()),
        ("client's graphics", UnitConfig::client_graphics()),
        ("QEMU 7.2", UnitConfig::qemu_7_2(false)),
        ("QEMU 7.2, caching mode", UnitConfig::qemu_7_2(true)),
        ("QEMU 10.0", UnitConfig::qemu_10_0(false)),
        ("QEMU 10.0, caching mode", UnitConfig::qemu_10_0(true)),
        ("QEMU 11.1, caching mode", UnitConfig::qemu_11_1(true)),
        ("without page-selective invalidation", UnitConfig::server().page_selective(false)),
        ("everything", UnitConfig::everything()),
        ("behind write buffers", behind_write_buffers(UnitConfig::client())),
        ("first generation", UnitConfig::first_generation()),
    ]
}

/// Those of them that support device-TLBs (ECAP.DT).
pub(crate) fn presets_with_device_tlbs() -> Vec<(&'static str, UnitConfig)> {
    presets().into_iter().filter(|(_, unit)| unit.ecap & 1 << 2 != 0).collect()
}

/// The same unit, whose structures wait in write buffers until they are flushed (CAP.RWBF).
pub(crate) fn behind_write_buffers(unit: UnitConfig) -> UnitConfig {
    UnitConfig { cap: unit.cap | 1 << 4, ..unit }
}

/// A function on bus 0 or another.
pub(crate) fn function(bus: u8, device: u8) -> SourceId {
    SourceId::new(0, bus, device, 0).unwrap()
}

pub(crate) fn region(input: u64, output: u64, bytes: u64, rights: Rights) -> Region {
    Region::new(Iova::new(input), PhysAddr::new(output), bytes, rights).unwrap()
}

pub(crate) fn range(input: u64, bytes: u64) -> IovaRange {
    IovaRange::new(Iova::new(input), bytes).unwrap()
}

/// A machine with these units. All but the last serve the buses that they list, the last serves the rest.
pub(crate) fn machine(units: impl IntoIterator<Item = UnitConfig>) -> Machine {
    Machine::new(Config::new(units))
}

/// A machine with this unit, of whose frames the last alone is beyond the addresses that [`dmar`] tells of.
pub(crate) fn machine_with_a_frame_too_high(unit: UnitConfig) -> Machine {
    let frames = 64;
    Machine::new(Config { frames, frames_base: BEYOND - (frames as u64 - 1) * PAGE, ..Config::new([unit]) })
}

/// Has the next so many frames that such a machine gives be lower than that one, which comes then.
pub(crate) fn frames_before_too_high(machine: &Machine, count: u64) {
    let before = BEYOND - (count + 1) * PAGE;
    let passes = |frame: PhysAddr| {
        // SAFETY: the frame has just been allocated, and nobody was told of it.
        unsafe { machine.free(frame, 0) };
        frame.as_u64() == before
    };
    while !passes(machine.allocate(0).unwrap()) {}
}

/// The first address beyond those that [`dmar`] tells of.
const BEYOND: u64 = 1 << 39;
/// What the driver says of that frame.
pub(crate) const TOO_HIGH: NoFrame = NoFrame::TooHigh { frames: PhysAddr::new(BEYOND), order: 0, host_bits: 39 };

/// The DMAR table that firmware would give for the machine, with `buses[n]` for unit n; the last takes the rest. Each of
/// `reserved` is memory from its first to its last address for a device of bus 0.
pub(crate) fn dmar(machine: &Machine, buses: &[&[u8]], reserved: &[(u64, u64, u8)]) -> Vec<u8> {
    let mut structures = Vec::new();
    let windows = machine.windows();
    for (index, window) in windows.iter().enumerate() {
        let all = index + 1 == windows.len();
        let mut scopes = Vec::new();
        for &bus in buses.get(index).copied().unwrap_or_default() {
            // PCI endpoints 0 to 31 of the bus: type, length, flags, reserved, enumeration id, bus, device, function.
            scopes.extend((0..32).flat_map(|device| [1, 8, 0, 0, 0, bus, device, 0]));
        }
        let pages = (window.bytes / 4096).ilog2() as u8;
        structures.extend(0_u16.to_le_bytes());
        structures.extend((16 + scopes.len() as u16).to_le_bytes());
        structures.extend([u8::from(all), pages, 0, 0]);
        structures.extend(window.base.as_u64().to_le_bytes());
        structures.extend(scopes);
    }
    for &(first, last, device) in reserved {
        structures.extend([1, 0, 32, 0, 0, 0, 0, 0]);
        structures.extend(first.to_le_bytes());
        structures.extend(last.to_le_bytes());
        structures.extend([1, 8, 0, 0, 0, 0, device, 0]);
    }
    let mut table = b"DMAR".to_vec();
    table.extend([0, 0, 0, 0, 1, 0]);
    table.extend([b' '; 26]);
    // Host address width 39, no flags.
    table.extend([38, 0]);
    table.extend([0; 10]);
    table.extend(structures);
    seal(&mut table);
    table
}

/// Sets a table's length and checksum right.
pub(crate) fn seal(table: &mut [u8]) {
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = 0;
    table[9] = table.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
}

const _: () = {
    const fn is_shared_between_cpus<T: Sync + Send>() {}
    is_shared_between_cpus::<Iommu<&Machine>>();
};

/// What firmware says of a machine, whose units serve these buses.
pub(crate) fn topology(machine: &Machine, buses: &[&[u8]]) -> Topology {
    Topology::from_dmar(&dmar(machine, buses, &[]), &machine, |finding| panic!("{finding}")).unwrap()
}

/// A front over a machine, whose units serve these buses.
pub(crate) fn discover<'m>(machine: &'m Machine, buses: &[&[u8]]) -> Result<Iommu<&'m Machine>, Error> {
    Iommu::discover(machine, topology(machine, buses), Options::default())
}

/// A front over a machine of one unit, switched on, with memory that firmware reserved.
pub(crate) fn enabled_with_reserved<'m>(machine: &'m Machine, reserved: &[(u64, u64, u8)]) -> Iommu<&'m Machine> {
    let topology = Topology::from_dmar(&dmar(machine, &[], reserved), &machine, |finding| panic!("{finding}")).unwrap();
    let mut iommu: Iommu<_> = Iommu::discover(machine, topology, Options::default()).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// What firmware says of a machine of one unit that lets devices behind all root ports use ATS.
pub(crate) fn topology_with_ats(machine: &Machine) -> Topology {
    let mut table = dmar(machine, &[], &[]);
    // ATSR with ALL_PORTS, of segment 0.
    table.extend([2, 0, 8, 0, 1, 0, 0, 0]);
    seal(&mut table);
    Topology::from_dmar(&table, &machine, |finding| panic!("{finding}")).unwrap()
}

/// A front over a machine of one unit, switched on, whose firmware lets devices behind all root ports use ATS.
pub(crate) fn enabled_with_ats(machine: &Machine) -> Iommu<&Machine> {
    let mut iommu: Iommu<_> = Iommu::discover(machine, topology_with_ats(machine), Options::default()).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// A front over a machine of one unit, switched on.
pub(crate) fn enabled(machine: &Machine) -> Iommu<&Machine> {
    let mut iommu = discover(machine, &[]).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// The state of each unit.
pub(crate) fn states<H: Hal>(iommu: &Iommu<H>) -> Vec<UnitState> {
    iommu.units().map(|unit| unit.state).collect()
}

/// A cell with one region and one device.
pub(crate) fn cell_with(iommu: &Iommu<&Machine>, region: Region, device: SourceId) -> CellId {
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region).unwrap();
    iommu.assign(device, cell).unwrap();
    cell
}

/// What a device finds at an address, if it reaches it.
pub(crate) fn read(machine: &Machine, device: SourceId, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    machine.dma_read(device, Iova::new(at), &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Has a device write; true if it reaches memory.
pub(crate) fn write(machine: &Machine, device: SourceId, at: u64, value: u64) -> bool {
    machine.dma_write(device, Iova::new(at), &value.to_le_bytes()).is_ok()
}

/// What a device with a device-TLB finds at an address, if it reaches it.
pub(crate) fn ats_read(machine: &Machine, device: SourceId, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    machine.ats_read(device, Iova::new(at), &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Has a device with a device-TLB write; true if it reaches memory.
pub(crate) fn ats_write(machine: &Machine, device: SourceId, at: u64, value: u64) -> bool {
    machine.ats_write(device, Iova::new(at), &value.to_le_bytes()).is_ok()
}

/// A word of memory, as the CPU sees it.
pub(crate) fn peek(machine: &Machine, at: u64) -> u64 {
    let mut bytes = [0; 8];
    machine.peek(PhysAddr::new(at), &mut bytes);
    u64::from_le_bytes(bytes)
}

pub(crate) fn poke(machine: &Machine, at: u64, value: u64) {
    machine.poke(PhysAddr::new(at), &value.to_le_bytes());
}
