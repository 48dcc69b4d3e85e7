//! Machines of the model, and the addresses of their memory and functions.

use std::ptr::NonNull;

use cofferdam::addr::{Iova, IovaRange, PhysAddr, PhysRange, Region, Rights, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, NoFrame, RegisterWindow};
use cofferdam_model::{Config, Machine, UnitConfig};

/// Bytes of the smallest page.
pub const PAGE: u64 = 0x1000;
/// Bytes of the next larger one.
pub const LARGE: u64 = 0x20_0000;

/// Every kind of unit that the driver can use.
pub fn presets() -> Vec<(&'static str, UnitConfig)> {
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

/// The machines that a driver is to work on: a unit of each kind alone, and boards on which the number of a bus, or a source-id,
/// does not say which unit it is about.
pub fn boards() -> Vec<(&'static str, Vec<UnitConfig>)> {
    let alone = presets().into_iter().map(|(name, unit)| (name, vec![unit]));
    alone.chain([("client's two units on one bus", client_board()), ("two segments", two_segments())]).collect()
}

/// The usual board of a client: graphics are behind one unit, and the rest of their bus is behind another.
pub fn client_board() -> Vec<UnitConfig> {
    vec![UnitConfig::client_graphics().serving_functions(&[(0, 2 << 3)]), UnitConfig::client()]
}

/// Two segments, in which the same source-ids are different devices.
pub fn two_segments() -> Vec<UnitConfig> {
    vec![UnitConfig::server(), UnitConfig::server().in_segment(1)]
}

/// Those of them that support device-TLBs (ECAP.DT).
pub fn presets_with_device_tlbs() -> Vec<(&'static str, UnitConfig)> {
    presets().into_iter().filter(|(_, unit)| unit.ecap & 1 << 2 != 0).collect()
}

/// The same unit, whose structures wait in write buffers until they are flushed (CAP.RWBF).
pub fn behind_write_buffers(unit: UnitConfig) -> UnitConfig {
    UnitConfig { cap: unit.cap | 1 << 4, ..unit }
}

/// A function on bus 0 or another.
pub fn function(bus: u8, device: u8) -> SourceId {
    SourceId::new(0, bus, device, 0).unwrap()
}

/// Memory from `output` on that is seen from `input` on.
pub fn region(input: u64, output: u64, bytes: u64, rights: Rights) -> Region {
    Region::new(Iova::new(input), PhysAddr::new(output), bytes, rights).unwrap()
}

/// Memory, as the CPU sees it.
pub fn outputs(first: u64, bytes: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(first), bytes).unwrap()
}

/// Addresses of devices.
pub fn range(input: u64, bytes: u64) -> IovaRange {
    IovaRange::new(Iova::new(input), bytes).unwrap()
}

/// A machine with these units. All but the last serve the buses that they list, the last serves the rest.
pub fn machine(units: impl IntoIterator<Item = UnitConfig>) -> Machine {
    Machine::new(Config::new(units))
}

/// A machine with this unit, of whose frames the last alone is beyond the addresses that
/// [`of_machine`](crate::tables::of_machine) has in its table.
pub fn machine_with_a_frame_too_high(unit: UnitConfig) -> Machine {
    let frames = 64;
    Machine::new(Config { frames, frames_base: BEYOND - (frames as u64 - 1) * PAGE, ..Config::new([unit]) })
}

/// Has the next so many frames that such a machine gives be lower than that one, which comes then.
pub fn frames_before_too_high(machine: &Machine, count: u64) {
    let before = BEYOND - (count + 1) * PAGE;
    let passes = |frame: PhysAddr| {
        // SAFETY: the frame has just been allocated, and nobody was told of it.
        unsafe { machine.free(frame, 0) };
        frame.as_u64() == before
    };
    while !passes(machine.allocate(0).unwrap()) {}
}

/// The first address beyond those that [`of_machine`](crate::tables::of_machine) has in its table.
const BEYOND: u64 = 1 << 39;
/// What the driver says of that frame.
pub const TOO_HIGH: NoFrame = NoFrame::TooHigh { frames: PhysAddr::new(BEYOND), order: 0, host_bits: 39 };

/// The registers of a unit, as the machine maps them.
pub fn mapped(window: RegisterWindow) -> MappedRegisters {
    MappedRegisters { window, first: NonNull::dangling() }
}
