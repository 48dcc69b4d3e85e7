//! Where requests go that devices send to each other (PCIe 6.0, section 6.12; VT-d 5.10, section 3.17).
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

use crate::devices::acs;
use crate::devices::all::Devices;
use crate::devices::bridge::BridgeKind;
use crate::devices::endpoint::{CAPABILITY, INTEGRATED};
use crate::devices::function::Function;

/// True if a request of `from` reaches `to` without a look at it by a remapping unit.
pub(crate) fn reaches(devices: &Devices, from: SourceId, to: SourceId) -> bool {
    let mut at = from;
    loop {
        let port = devices.port_above(at);
        // All that the root complex sends itself is translated first.
        let integrated = port.is_none() && (devices.config(at, CAPABILITY) >> 20) & 0xf == INTEGRATED;
        let same_device = |other: SourceId| {
            (other.segment(), other.bus(), other.device()) == (at.segment(), at.bus(), at.device()) && other != at
        };
        let beside =
            same_device(to) || devices.bridges().any(|bridge| same_device(bridge.function) && bridge.is_above(to));
        if beside && !integrated && !redirects(devices, at) {
            return true;
        }
        let Some(port) = port else { return false };
        let passed_on = match port.kind {
            BridgeKind::ExpressToPci | BridgeKind::Conventional => port.is_above(to) || port.function == to,
            BridgeKind::RootPort => port.is_above(to) && !redirects(devices, port.function),
            BridgeKind::DownstreamPort => {
                let switch = devices.port_above(port.function);
                switch.is_none_or(|switch| switch.is_above(to)) && !redirects(devices, port.function)
            }
            BridgeKind::UpstreamPort => false,
        };
        if passed_on && from != to {
            return true;
        }
        at = port.function;
    }
}

/// The bridge that takes a request of `from` to this address for what is behind it, so that no remapping unit sees it.
pub(crate) fn taken_by(devices: &Devices, from: SourceId, address: u64) -> Option<SourceId> {
    let (mut at, mut redirected) = (from, false);
    loop {
        let port = devices.port_above(at)?;
        // Where others look at the request.
        let bus = match port.kind {
            BridgeKind::RootPort => return None,
            BridgeKind::DownstreamPort => {
                redirected = redirects(devices, port.function);
                port.function.bus()
            }
            BridgeKind::UpstreamPort => at.bus(),
            BridgeKind::ExpressToPci | BridgeKind::Conventional => {
                redirected = false;
                at.bus()
            }
        };
        let is_there = |it: &SourceId| (it.segment(), it.bus()) == (from.segment(), bus);
        let others = devices.bridges().map(|bridge| bridge.function).filter(is_there);
        let taken = [port.function].into_iter().chain(others).find(|it| has_in_window(devices, *it, address));
        if taken.is_some() && !redirected {
            return taken;
        }
        at = port.function;
    }
}

/// PCI-to-PCI bridge 1.2, section 3.2.5: Command, the two windows, the upper halves of the second, and VGA.
fn has_in_window(devices: &Devices, bridge: SourceId, address: u64) -> bool {
    let read = |at| u64::from(devices.config(bridge, at));
    let in_mib = |register: u64, high: (u64, u64)| {
        let (first, last) = ((register >> 4) & 0xfff | high.0 << 12, register >> 20 | high.1 << 12);
        (first..=last).contains(&(address >> 20))
    };
    let high = if read(0x24) & 0xf == 1 { (read(0x28), read(0x2c)) } else { (0, 0) };
    // VGA Enable of Bridge Control.
    let vga = read(0x3c) & 8 << 16 != 0 && (0xa_0000..=0xb_ffff).contains(&address);
    read(4) & 2 != 0 && (vga || in_mib(read(0x20), (0, 0)) || in_mib(read(0x24), high))
}

fn redirects(devices: &Devices, function: SourceId) -> bool {
    let control = devices.get(function).and_then(Function::acs_control);
    control.is_some_and(|control| control & (acs::REDIRECT | acs::EGRESS) == acs::REDIRECT)
}
