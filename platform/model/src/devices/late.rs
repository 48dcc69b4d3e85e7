//! Writes that a device sends late, and how PCI keeps it from that (PCI 3.0, section 6.2.2; PCIe 6.0, section
//! 7.5.3).
#![forbid(unsafe_code)]

/// Where a write of a device is that has not arrived yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Late {
    /// The device has not sent it: it does when the time has come, if it is a bus master then, and forgets it otherwise.
    Unsent,
    /// It is under way, and arrives in any case. Until then the device says that transactions are pending.
    UnderWay,
}

#[derive(Debug)]
pub(crate) struct LateWrite {
    pub(crate) due: u64,
    pub(crate) late: Late,
    pub(crate) address: u64,
    pub(crate) bytes: Vec<u8>,
}
