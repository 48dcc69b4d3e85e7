//! Registers of an endpoint with the PCI Express capability (PCI 3.0, section 6.2; PCIe 6.0, section 7.5.3).
#![forbid(unsafe_code)]

/// Command and Status, and Bus Master Enable.
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const BUS_MASTER: u32 = 1 << 2;
/// Where the PCI Express capability is that the model gives a function, and its Device Control and Status.
pub(crate) const CAPABILITY: u16 = 0x60;
pub(crate) const DEVICE_STATUS: u16 = CAPABILITY + 8;
/// Transactions Pending.
pub(crate) const PENDING: u32 = 1 << (16 + 5);
/// Device/port type of an endpoint that is integrated in the root complex.
pub(crate) const INTEGRATED: u32 = 9;

/// Registers of an endpoint that is a bus master: vendor and device, capabilities present, the first one, of PCI Express,
/// version 2.
pub(crate) const ENDPOINT: [(u16, u32); 4] =
    [(0x00, 0x0002_8086), (COMMAND, 1 << 20 | BUS_MASTER | 2), (0x34, CAPABILITY as u32), (CAPABILITY, 2 << 16 | 0x10)];
