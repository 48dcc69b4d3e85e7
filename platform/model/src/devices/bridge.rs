//! Bridges: whose id the requests of the devices behind them carry (section 3.12), and where they pass requests on to.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use cofferdam::addr::SourceId;

/// What a bridge is; those to conventional PCI put something in the place of a requester's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeKind {
    /// From PCI Express to PCI: its secondary bus, device 0, function 0 (section 3.12.1).
    ExpressToPci,
    /// From PCI to PCI: its own id (section 3.12.2).
    Conventional,
    /// A port of the root complex.
    RootPort,
    /// The port of a switch to what is above it.
    UpstreamPort,
    /// A port of a switch to what is below it.
    DownstreamPort,
}

#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) function: SourceId,
    pub(crate) kind: BridgeKind,
    pub(crate) buses: RangeInclusive<u8>,
}

impl Bridge {
    /// Registers of its configuration space (PCI 3.0, section 6.1; PCI-to-PCI bridge 1.2, section 3.2; PCIe 6.0, section
    /// 7.5.3): vendor and device, capabilities present, header type 1, buses, and the PCI Express capability.
    pub(crate) fn config(&self) -> Vec<(u16, u32)> {
        let (secondary, subordinate) = (u32::from(*self.buses.start()), u32::from(*self.buses.end()));
        let buses = u32::from(self.function.bus()) | secondary << 8 | subordinate << 16;
        let mut registers = vec![(0x00, 0x0001_1b36), (0x0c, 1 << 16), (0x18, buses)];
        let port_type = match self.kind {
            BridgeKind::Conventional => None,
            BridgeKind::RootPort => Some(4),
            BridgeKind::UpstreamPort => Some(5),
            BridgeKind::DownstreamPort => Some(6),
            BridgeKind::ExpressToPci => Some(7),
        };
        if let Some(port_type) = port_type {
            registers.extend([(0x04, 1 << 20), (0x34, 0x40), (0x40, 0x10 | (2 | port_type << 4) << 16)]);
        }
        registers
    }

    /// Registers that open the windows for memory and for prefetchable memory, of whole MiB (PCI-to-PCI bridge 1.2, section
    /// 3.2.5); the first of each above its last closes it.
    pub(crate) fn windows(memory: (u64, u64), prefetchable: (u64, u64)) -> [(u16, u32); 5] {
        let mib = |(first, last): (u64, u64)| ((first >> 20) & 0xfff) << 4 | ((last >> 20) & 0xfff) << 20;
        let high = |address: u64| (address >> 32) as u32;
        [
            (0x04, 1 << 20 | 2),
            (0x20, mib(memory) as u32),
            (0x24, mib(prefetchable) as u32 | 0x1_0001),
            (0x28, high(prefetchable.0)),
            (0x2c, high(prefetchable.1)),
        ]
    }

    pub(crate) fn is_above(&self, source: SourceId) -> bool {
        source.segment() == self.function.segment() && self.buses.contains(&source.bus())
    }

    /// The id that a request from behind the bridge carries above it, by the one that it carries below.
    pub(crate) fn rename(&self, below: SourceId) -> SourceId {
        match self.kind {
            BridgeKind::ExpressToPci => {
                SourceId::from_requester(self.function.segment(), u16::from(*self.buses.start()) << 8)
            }
            BridgeKind::Conventional => self.function,
            BridgeKind::RootPort | BridgeKind::UpstreamPort | BridgeKind::DownstreamPort => below,
        }
    }
}
