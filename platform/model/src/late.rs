//! What devices do later than they were told to, and how PCI keeps them from it (PCI 3.0, section 6.2.2; PCIe 6.0, section
//! 7.5.3).
#![forbid(unsafe_code)]

/// Where a write of a device is that has not arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Late {
    /// The device has not sent it: it does when the time has come, if it is a bus master then, and forgets it otherwise.
    Unsent,
    /// It is under way, and arrives whatever the device is told. Until then the device says that transactions are pending.
    UnderWay,
}

#[derive(Debug)]
pub(crate) struct LateWrite {
    pub(crate) due: u64,
    pub(crate) late: Late,
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Command and Status, and Bus Master Enable.
pub(crate) const COMMAND: u16 = 0x04;
pub(crate) const BUS_MASTER: u32 = 1 << 2;
/// Where the PCI Express capability is that the model gives a function, and its Device Control and Status.
const CAPABILITY: u16 = 0x60;
pub(crate) const DEVICE_STATUS: u16 = CAPABILITY + 8;
pub(crate) const PENDING: u32 = 1 << (16 + 5);

/// Registers of an endpoint that is a bus master: vendor and device, capabilities present, the first one, of PCI Express,
/// version 2.
pub(crate) const ENDPOINT: [(u16, u32); 4] =
    [(0x00, 0x0002_8086), (COMMAND, 1 << 20 | BUS_MASTER | 2), (0x34, CAPABILITY as u32), (CAPABILITY, 2 << 16 | 0x10)];
