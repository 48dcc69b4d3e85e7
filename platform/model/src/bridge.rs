//! Bridges to conventional PCI: whose id the requests of the devices behind them carry (section 3.12).
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use cofferdam::addr::SourceId;

/// What a bridge puts in the place of a requester's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BridgeKind {
    /// From PCI Express to PCI: its secondary bus, device 0, function 0 (section 3.12.1).
    ExpressToPci,
    /// From PCI to PCI: its own id (section 3.12.2).
    Conventional,
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
        if self.kind == BridgeKind::ExpressToPci {
            registers.extend([(0x04, 1 << 20), (0x34, 0x40), (0x40, 0x10 | (2 | 7 << 4) << 16)]);
        }
        registers
    }

    /// The id that a request of `source` carries above the bridge, if it comes from behind it.
    pub(crate) fn renames(&self, source: SourceId) -> Option<SourceId> {
        if source.segment() != self.function.segment() || !self.buses.contains(&source.bus()) {
            return None;
        }
        Some(match self.kind {
            BridgeKind::ExpressToPci => SourceId::from_requester(source.segment(), u16::from(*self.buses.start()) << 8),
            BridgeKind::Conventional => self.function,
        })
    }
}
