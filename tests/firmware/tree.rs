//! A recorded PCI tree.

use std::cell::Cell;
use std::collections::BTreeMap;

use cofferdam::addr::SourceId;
use cofferdam::topology::ConfigSpace;

/// The configuration space of the functions that were put in, on segment 0.
#[derive(Default)]
pub(crate) struct Tree {
    functions: BTreeMap<u16, BTreeMap<u16, u32>>,
    reads: Cell<u64>,
}

/// What kind of bridge: the device/port type of its PCI Express capability, or `None` for conventional PCI.
pub(crate) const ROOT_PORT: Option<u32> = Some(4);
pub(crate) const PCIE_TO_PCI: Option<u32> = Some(7);
pub(crate) const PCI_TO_PCIE: Option<u32> = Some(8);
pub(crate) const CONVENTIONAL: Option<u32> = None;

/// Where [`Tree`] puts the PCI Express capability.
const EXPRESS: u16 = 0x40;

pub(crate) fn id(bus: u8, device: u8, function: u8) -> SourceId {
    SourceId::new(0, bus, device, function).unwrap()
}

impl Tree {
    /// A function that is no bridge.
    pub(crate) fn device(mut self, at: SourceId) -> Self {
        self.functions.insert(at.requester(), BTreeMap::from([(0, 0x1234_8086), (0x0c, 1 << 23)]));
        self
    }

    pub(crate) fn bridge(self, at: SourceId, kind: Option<u32>, secondary: u8, subordinate: u8) -> Self {
        let buses = u32::from(at.bus()) | u32::from(secondary) << 8 | u32::from(subordinate) << 16;
        let tree = self.device(at).with(at, 0x0c, 1 << 23 | 1 << 16).with(at, 0x18, buses);
        match kind {
            Some(kind) => tree.express(at, kind),
            None => tree,
        }
    }

    pub(crate) fn express(self, at: SourceId, kind: u32) -> Self {
        self.with(at, 0x04, 1 << 20).with(at, 0x34, u32::from(EXPRESS)).with(at, EXPRESS, 0x10 | 2 << 16 | kind << 20)
    }

    /// Sets a register.
    pub(crate) fn with(mut self, at: SourceId, offset: u16, value: u32) -> Self {
        self.functions.get_mut(&at.requester()).unwrap().insert(offset, value);
        self
    }

    /// Phantom functions of an endpoint: how many bits, and whether they are enabled.
    pub(crate) fn phantom(self, at: SourceId, bits: u32, enabled: bool) -> Self {
        self.express(at, 0).with(at, EXPRESS + 4, bits << 3).with(at, EXPRESS + 8, u32::from(enabled) << 9)
    }

    pub(crate) fn ari_forwarding(self, port: SourceId) -> Self {
        self.with(port, EXPRESS + 0x28, 1 << 5)
    }

    /// Virtual functions: how many, the offset of the first, and the stride.
    pub(crate) fn virtual_functions(self, at: SourceId, count: u32, first: u16, stride: u16) -> Self {
        self.with(at, 0x100, 0x0001 | 1 << 16 | 0x140 << 20)
            .with(at, 0x140, 0x0010 | 1 << 16)
            .with(at, 0x148, 1)
            .with(at, 0x150, count)
            .with(at, 0x154, u32::from(first) | u32::from(stride) << 16)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }
}

impl ConfigSpace for Tree {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        self.reads.set(self.reads.get() + 1);
        assert!(offset < 4096 && offset.is_multiple_of(4));
        if function.segment() != 0 {
            return u32::MAX;
        }
        match self.functions.get(&function.requester()) {
            Some(registers) => registers.get(&offset).copied().unwrap_or(0),
            None => u32::MAX,
        }
    }
}
