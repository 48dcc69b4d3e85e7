use crate::addr::SourceId;
use crate::hal::Hal;

/// Reading the configuration space of PCI functions: all that the topology asks of the machine.
///
/// A platform's [`Hal`] is one. Tests and tools have recorded ones.
pub trait ConfigSpace {
    /// The 32 bits at `offset`, a multiple of 4 below 4096; all ones where no function or no register is.
    fn read(&self, function: SourceId, offset: u16) -> u32;
}

impl<H: Hal> ConfigSpace for H {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        self.config_read(function, offset)
    }
}

/// A configuration space in which nothing is: for a table without its machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConfigSpace;

impl ConfigSpace for NoConfigSpace {
    fn read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }
}

/// The register with the header type in bits 23:16 (PCI 3.0, section 6.2.1).
const HEADER: u16 = 0x0c;
/// Primary, secondary and subordinate bus of a bridge in bits 7:0, 15:8 and 23:16 (PCI-to-PCI bridge 1.2, section 3.2.5).
const BUSES: u16 = 0x18;
/// Status in bits 31:16; bit 4 of it says that there are capabilities (PCI 3.0, section 6.2.3).
const STATUS: u16 = 0x04;
const CAPABILITIES: u32 = 1 << 20;
/// Where the first capability is, in bits 7:0.
const FIRST_CAPABILITY: u16 = 0x34;
/// Capability of PCI Express (PCIe 6.0, section 7.5.3).
const PCI_EXPRESS: u8 = 0x10;
/// Extended capability of SR-IOV (PCIe 6.0, section 9.3.3).
const SR_IOV: u16 = 0x10;

/// A bridge as configuration space shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bridge {
    pub(super) function: SourceId,
    pub(super) secondary: u8,
    pub(super) subordinate: u8,
}

/// Device/port type of a PCI Express function: bits 7:4 of its capabilities register (PCIe 6.0, section 7.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortType {
    Root,
    Upstream,
    Downstream,
    /// PCI Express above, PCI below.
    ToPci,
    /// PCI above, PCI Express below.
    FromPci,
    Other,
}

/// The bridge that a function is, with the buses behind it.
pub(super) fn bridge(config: &impl ConfigSpace, function: SourceId) -> Option<Bridge> {
    // Header type 1; bit 7 is about the other functions of the device.
    if !is_there(config, function) || (config.read(function, HEADER) >> 16) & 0x7f != 1 {
        return None;
    }
    let [_, secondary, subordinate, _] = config.read(function, BUSES).to_le_bytes();
    // A bridge that firmware left alone leads nowhere; one that leads back would lead in circles.
    (function.bus() < secondary && secondary <= subordinate).then_some(Bridge { function, secondary, subordinate })
}

pub(super) fn is_there(config: &impl ConfigSpace, function: SourceId) -> bool {
    config.read(function, 0) as u16 != u16::MAX
}

/// What kind of PCI Express port a function is; `None` for conventional PCI.
pub(super) fn port_type(config: &impl ConfigSpace, function: SourceId) -> Option<PortType> {
    let at = capability(config, function, PCI_EXPRESS)?;
    Some(match (config.read(function, at) >> 20) & 0xf {
        0x4 => PortType::Root,
        0x5 => PortType::Upstream,
        0x6 => PortType::Downstream,
        0x7 => PortType::ToPci,
        0x8 => PortType::FromPci,
        _ => PortType::Other,
    })
}

/// A register of a function's PCI Express capability; `None` if there is none, or no way to read it.
pub(super) fn express_register(config: &impl ConfigSpace, function: SourceId, offset: u16) -> Option<u32> {
    let at = capability(config, function, PCI_EXPRESS)?;
    Some(config.read(function, at + offset)).filter(|value| *value != u32::MAX)
}

/// Where a capability is. At most 48 steps: there is no room for more in 192 bytes.
fn capability(config: &impl ConfigSpace, function: SourceId, id: u8) -> Option<u16> {
    if config.read(function, STATUS) & CAPABILITIES == 0 {
        return None;
    }
    let mut at = (config.read(function, FIRST_CAPABILITY) & 0xfc) as u16;
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let [found, next, ..] = config.read(function, at).to_le_bytes();
        if found == id {
            return Some(at);
        }
        at = u16::from(next & 0xfc);
    }
    None
}

/// Where an extended capability is. At most 960 steps: there is no room for more in 3,840 bytes.
fn extended_capability(config: &impl ConfigSpace, function: SourceId, id: u16) -> Option<u16> {
    let mut at = 0x100;
    for _ in 0..960 {
        let header = config.read(function, at);
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header as u16 == id {
            return Some(at);
        }
        at = (header >> 20) as u16 & 0xffc;
        if at < 0x100 {
            return None;
        }
    }
    None
}

/// True if `function` is one of the virtual functions that `physical` has enabled (PCIe 6.0, section 9.2.1.2).
pub(super) fn is_virtual_function_of(config: &impl ConfigSpace, function: SourceId, physical: SourceId) -> bool {
    // A virtual function has no vendor of its own.
    if is_there(config, function) || !is_there(config, physical) {
        return false;
    }
    let Some(at) = extended_capability(config, physical, SR_IOV) else { return false };
    let count = config.read(physical, at + 0x10) as u16;
    let routing = config.read(physical, at + 0x14);
    let (first, stride) = (routing as u16, (routing >> 16) as u16);
    let Some(distance) = function.requester().wrapping_sub(physical.requester()).checked_sub(first) else {
        return false;
    };
    match (count, stride) {
        (0, _) => false,
        (1, _) | (_, 0) => distance == 0,
        _ => distance.is_multiple_of(stride) && distance / stride < count,
    }
}

/// The bridges above `bus`, from the nearest to the root.
///
/// They are those that have it among their buses. Each is on a lower bus than what is behind it, so they are looked for
/// from the next lower bus down: at most 255 buses of 256 functions.
pub(super) fn bridges_above(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = Bridge> {
    (0..bus).rev().filter_map(move |lower| bridge_to(config, segment, lower, bus))
}

/// The bridge on `bus` that has `behind` among its buses.
fn bridge_to(config: &impl ConfigSpace, segment: u16, bus: u8, behind: u8) -> Option<Bridge> {
    (0..32).find_map(|device| {
        let first = SourceId::new(segment, bus, device, 0)?;
        if !is_there(config, first) {
            return None;
        }
        let functions = if config.read(first, HEADER) & 1 << 23 != 0 { 8 } else { 1 };
        let mut bridges =
            (0..functions).filter_map(|function| bridge(config, SourceId::new(segment, bus, device, function)?));
        bridges.find(|bridge| (bridge.secondary..=bridge.subordinate).contains(&behind))
    })
}

/// True if function numbers of 8 bits are in use on `bus`: the port above it has ARI Forwarding Enable set, bit 5 of
/// Device Control 2 (PCIe 6.0, section 7.5.3.16).
pub(super) fn has_extended_functions(config: &impl ConfigSpace, segment: u16, bus: u8) -> bool {
    let port = bridges_above(config, segment, bus).next();
    let control = port.and_then(|port| express_register(config, port.function, 0x28));
    control.is_some_and(|control| control & 1 << 5 != 0)
}
