//! Where requests go that devices send to each other (PCIe 6.0, section 6.12; VT-d 5.10, section 3.17).
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

use crate::bridge::{Bridge, BridgeKind};
use crate::device::Devices;

/// Where the capability of Access Control Services is that the model gives a function: the header, then capability and
/// control register in one word.
pub(crate) const ACS_HEADER: u16 = 0x180;
pub(crate) const ACS_REGISTERS: u16 = ACS_HEADER + 4;
/// P2P Request Redirect and P2P Egress Control, enabled.
const REDIRECT: u32 = 1 << (16 + 2);
const EGRESS: u32 = 1 << (16 + 5);
/// Where the PCI Express capability of an endpoint of the model is, and its device/port type: 9 is one that is integrated in
/// the root complex.
const ENDPOINT: u16 = 0x60;
const INTEGRATED: u32 = 9;

impl Devices {
    /// True if a request of `from` reaches `to` without a look at it by a remapping unit.
    pub(crate) fn reaches(&self, from: SourceId, to: SourceId) -> bool {
        let mut at = from;
        loop {
            let port = self.port_above(at);
            // All that the root complex sends itself is translated first.
            let integrated = port.is_none() && (self.config(at, ENDPOINT) >> 20) & 0xf == INTEGRATED;
            let same_device = |other: SourceId| {
                (other.segment(), other.bus(), other.device()) == (at.segment(), at.bus(), at.device()) && other != at
            };
            let beside =
                same_device(to) || self.bridges().any(|bridge| same_device(bridge.function) && bridge.is_above(to));
            if beside && !integrated && !self.redirects(at) {
                return true;
            }
            let Some(port) = port else { return false };
            let passed_on = match port.kind {
                BridgeKind::ExpressToPci | BridgeKind::Conventional => port.is_above(to) || port.function == to,
                BridgeKind::RootPort => port.is_above(to) && !self.redirects(port.function),
                BridgeKind::DownstreamPort => {
                    let switch = self.port_above(port.function);
                    switch.is_none_or(|switch| switch.is_above(to)) && !self.redirects(port.function)
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
    pub(crate) fn taken_by(&self, from: SourceId, address: u64) -> Option<SourceId> {
        let (mut at, mut redirected) = (from, false);
        loop {
            let port = self.port_above(at)?;
            // Where others look at the request.
            let bus = match port.kind {
                BridgeKind::RootPort => return None,
                BridgeKind::DownstreamPort => {
                    redirected = self.redirects(port.function);
                    port.function.bus()
                }
                BridgeKind::UpstreamPort => at.bus(),
                BridgeKind::ExpressToPci | BridgeKind::Conventional => {
                    redirected = false;
                    at.bus()
                }
            };
            let is_there = |it: &SourceId| (it.segment(), it.bus()) == (from.segment(), bus);
            let others = self.bridges().map(|bridge| bridge.function).filter(is_there);
            let taken = [port.function].into_iter().chain(others).find(|it| self.has_in_window(*it, address));
            if taken.is_some() && !redirected {
                return taken;
            }
            at = port.function;
        }
    }

    /// PCI-to-PCI bridge 1.2, section 3.2.5: Command, the two windows, and the upper halves of the second.
    fn has_in_window(&self, bridge: SourceId, address: u64) -> bool {
        let read = |at| u64::from(self.config(bridge, at));
        let in_mib = |register: u64, high: (u64, u64)| {
            let (first, last) = ((register >> 4) & 0xfff | high.0 << 12, register >> 20 | high.1 << 12);
            (first..=last).contains(&(address >> 20))
        };
        let high = if read(0x24) & 0xf == 1 { (read(0x28), read(0x2c)) } else { (0, 0) };
        read(4) & 2 != 0 && (in_mib(read(0x20), (0, 0)) || in_mib(read(0x24), high))
    }

    /// The bridge that is nearest above a function.
    fn port_above(&self, source: SourceId) -> Option<&Bridge> {
        self.bridges().filter(|bridge| bridge.is_above(source)).max_by_key(|bridge| *bridge.buses.start())
    }

    fn redirects(&self, function: SourceId) -> bool {
        let has = self.config(function, ACS_HEADER) & 0xffff == 0xd;
        has && self.config(function, ACS_REGISTERS) & (REDIRECT | EGRESS) == REDIRECT
    }
}
