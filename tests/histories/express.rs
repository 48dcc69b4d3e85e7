//! What is PCI Express in a machine: a switch with two devices, and a physical function with virtual ones. Ports isolate them
//! by Access Control Services.

use cofferdam::addr::SourceId;
use cofferdam_model::{BridgeKind, Machine};
use cofferdam_support::tables::scope;

/// What a port, and an endpoint of several functions, can do of Access Control Services.
const PORT_ACS: u16 = 0x1d;
const ENDPOINT_ACS: u16 = 0x0c;
/// Where the physical function has SR-IOV.
const SR_IOV: u16 = 0x240;
const VIRTUAL_ONES: u8 = 3;

const fn of(bus: u8, device: u8) -> SourceId {
    SourceId::from_requester(0, (bus as u16) << 8 | (device as u16) << 3)
}

/// Above the switch, within it, and above the physical function.
pub(crate) const PORTS: [SourceId; 4] = [of(0, 0x1f), of(0x41, 0), of(0x41, 1), of(0, 0)];
const UPSTREAM: SourceId = of(0x40, 0);
const BELOW_SWITCH: [SourceId; 2] = [of(0x42, 0), of(0x43, 0)];
pub(crate) const PHYSICAL: SourceId = of(0x44, 0);

/// True of the physical function's virtual ones.
pub(crate) fn is_virtual(id: SourceId) -> bool {
    (0..VIRTUAL_ONES).any(|number| id == of(0x44, 0x10 + number))
}

/// True of those that have a Command register.
pub(crate) fn has_command(id: SourceId) -> bool {
    id == PHYSICAL || BELOW_SWITCH.contains(&id)
}

/// True of those that say what they are: a virtual function does not.
pub(crate) fn says_what_it_is(id: SourceId) -> bool {
    is_express(id) && !is_virtual(id)
}

/// True of all that do DMA here.
pub(crate) fn is_express(id: SourceId) -> bool {
    functions().any(|function| function == id)
}

/// All that do DMA.
pub(crate) fn functions() -> impl Iterator<Item = SourceId> {
    BELOW_SWITCH.into_iter().chain([PHYSICAL]).chain((0..VIRTUAL_ONES).map(|number| of(0x44, 0x10 + number)))
}

/// All functions behind one of the ports.
pub(crate) fn behind(port: SourceId) -> Vec<SourceId> {
    match PORTS.iter().position(|it| *it == port) {
        Some(0) => [UPSTREAM, PORTS[1], PORTS[2]].into_iter().chain(BELOW_SWITCH).collect(),
        Some(1) => vec![BELOW_SWITCH[0]],
        Some(2) => vec![BELOW_SWITCH[1]],
        _ => functions().filter(|id| id.bus() == PHYSICAL.bus()).collect(),
    }
}

/// The physical function as firmware's table names it.
pub(crate) fn physical_scope() -> Vec<u8> {
    scope(1, 0, 0, &[(PORTS[3].device(), 0), (PHYSICAL.device(), 0)])
}

/// Puts bridges and functions there.
pub(crate) fn add(machine: &Machine, ari: bool) {
    machine.add_bridge(PORTS[0], BridgeKind::RootPort, 0x40..=0x43);
    machine.add_bridge(UPSTREAM, BridgeKind::UpstreamPort, 0x41..=0x43);
    machine.add_bridge(PORTS[1], BridgeKind::DownstreamPort, 0x42..=0x42);
    machine.add_bridge(PORTS[2], BridgeKind::DownstreamPort, 0x43..=0x43);
    machine.add_bridge(PORTS[3], BridgeKind::RootPort, 0x44..=0x44);
    machine.set_config(PORTS[3], 0x68, u32::from(ari) << 5);
    PORTS.iter().for_each(|port| machine.add_acs(*port, PORT_ACS));
    BELOW_SWITCH.iter().chain([&PHYSICAL]).for_each(|function| machine.add_express(*function));
}

/// Gives the physical function its virtual ones, when it has all other capabilities.
pub(crate) fn add_virtual_ones(machine: &Machine) {
    machine.set_config(PHYSICAL, 0x0c, 1 << 23);
    machine.add_acs(PHYSICAL, ENDPOINT_ACS);
    machine.add_extended(PHYSICAL, 0x10, SR_IOV);
    // VF Enable; InitialVFs and NumVFs; First VF Offset and VF Stride.
    let count = u32::from(VIRTUAL_ONES);
    for (at, value) in [(0x08, 1), (0x0c, count << 16), (0x10, count), (0x14, 8 << 16 | 0x80)] {
        machine.set_config(PHYSICAL, SR_IOV + at, value);
    }
}

/// How many invalidations a device-TLB takes at a time: that of virtual functions is their physical function's.
pub(crate) fn add_ats(machine: &Machine, function: SourceId, depth: usize) {
    if is_virtual(function) {
        // Its vendor reads as if nothing were there.
        machine.set_config(function, 0, u32::MAX);
    }
    machine.add_ats(function, depth);
}
