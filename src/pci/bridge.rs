//! Bridges, and what is behind them (PCI-to-PCI bridge 1.2, section 3.2).
#![forbid(unsafe_code)]

use super::{ConfigSpace, express_register, header, is_there};
use crate::addr::SourceId;

/// Primary, secondary and subordinate bus in bits 7:0, 15:8 and 23:16 (section 3.2.5).
const BUSES: u16 = 0x18;

/// A bridge as configuration space shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) function: SourceId,
    pub(crate) secondary: u8,
    pub(crate) subordinate: u8,
}

/// The bridge that a function is, with the buses behind it.
pub(crate) fn bridge(config: &impl ConfigSpace, function: SourceId) -> Option<Bridge> {
    if !is_there(config, function) || !header::is_bridge(config, function) {
        return None;
    }
    let [_, secondary, subordinate, _] = config.read(function, BUSES).to_le_bytes();
    // A bridge that firmware left alone leads nowhere; one that leads back would lead in circles.
    (function.bus() < secondary && secondary <= subordinate).then_some(Bridge { function, secondary, subordinate })
}

/// The bridges above `bus`, from the nearest to the root.
///
/// They are those that have it among their buses. Each is on a lower bus than what is behind it, so they are looked for
/// from the next lower bus down: at most 255 buses of 256 functions.
pub(crate) fn bridges_above(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = Bridge> {
    (0..bus).rev().filter_map(move |lower| bridge_to(config, segment, lower, bus))
}

/// The bridge on `bus` that has `behind` among its buses.
///
/// Many buses are looked through, most of them empty. So devices whose function 0 is hidden are looked at only on bus 0 and where
/// there are bridges, if no other bridge leads there.
#[inline(never)]
fn bridge_to(config: &impl ConfigSpace, segment: u16, bus: u8, behind: u8) -> Option<Bridge> {
    // Loops, since the adapters of iterators take three times the stack.
    let mut has_bridges = bus == 0;
    for shown in [true, false] {
        if !shown && !has_bridges {
            break;
        }
        for first in header::devices_on(segment, bus) {
            if is_there(config, first) != shown {
                continue;
            }
            for function in header::functions_if(config, first, shown) {
                let Some(bridge) = bridge(config, function) else { continue };
                has_bridges = true;
                if (bridge.secondary..=bridge.subordinate).contains(&behind) {
                    return Some(bridge);
                }
            }
        }
    }
    None
}

/// All bridges on `bus`.
pub(crate) fn bridges_on(config: &impl ConfigSpace, segment: u16, bus: u8) -> impl Iterator<Item = Bridge> {
    header::functions_on(config, segment, bus).filter_map(|function| bridge(config, function))
}

/// True if function numbers of 8 bits are in use on `bus`.
#[inline(never)]
pub(crate) fn has_extended_functions(config: &impl ConfigSpace, segment: u16, bus: u8) -> bool {
    let port = bridges_above(config, segment, bus).next().map(|port| port.function);
    port.is_some_and(|port| forwards_extended_functions(config, port))
}

/// True if function numbers of 8 bits are in use below a port: it has ARI Forwarding Enable set, bit 5 of Device Control 2
/// (PCIe 6.0, section 7.5.3.16).
pub(crate) fn forwards_extended_functions(config: &impl ConfigSpace, port: SourceId) -> bool {
    express_register(config, port, 0x28).is_some_and(|control| control & 1 << 5 != 0)
}
