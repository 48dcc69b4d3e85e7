//! Resets of functions (PCIe 6.0, section 6.6.2; Advanced Features of conventional PCI).
#![forbid(unsafe_code)]

/// How a function can be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// By the PCI Express capability that the model gives a function.
    Express,
    /// By Advanced Features, at 0xa0: a function of conventional PCI.
    Features,
}

/// A function may take so long, and nobody may look at its configuration space before.
pub(crate) const TAKES_NS: u64 = 100_000_000;

/// Device Capabilities and Device Control of the PCI Express capability of the model's endpoints.
pub(crate) const EXPRESS_CAPABILITIES: u16 = 0x64;
pub(crate) const EXPRESS_CONTROL: u16 = 0x68;
pub(crate) const EXPRESS_CAN: u32 = 1 << 28;
pub(crate) const EXPRESS_START: u32 = 1 << 15;
/// Advanced Features: number, length, what it can (Transactions Pending, Function Level Reset); then its control register.
pub(crate) const FEATURES: u16 = 0xa0;
pub(crate) const FEATURES_HEADER: u32 = 3 << 24 | 6 << 16 | 0x13;
pub(crate) const FEATURES_CONTROL: u16 = 0xa4;
pub(crate) const FEATURES_START: u32 = 1;

/// Transactions Pending of its status register.
pub(crate) const FEATURES_PENDING: u32 = 1 << 8;

/// Extended capabilities that a reset touches beyond fixed places: SR-IOV, and resizable base addresses of a function and of its
/// virtual functions.
pub(crate) const SR_IOV: u16 = 0x10;
pub(crate) const RESIZABLE: [u16; 2] = [0x15, 0x24];

/// What a register of such a capability holds after a reset, by its offset there.
pub(crate) fn after_in(id: u16, offset: u16, value: u32) -> u32 {
    match (id, offset) {
        // Control, NumVFs; the smallest page; base addresses.
        (SR_IOV, 0x08 | 0x10) => value & 0xffff_0000,
        (SR_IOV, 0x20) => 1,
        (SR_IOV, 0x24..=0x38) => 0,
        // The size.
        (0x15 | 0x24, 0x08..=0x30) if offset.is_multiple_of(8) => value & !0x3f00,
        _ => value,
    }
}

/// What a register holds after a reset of its function: what a driver may set is gone.
pub(crate) fn after(offset: u16, value: u32) -> u32 {
    match offset {
        // Command; cache line size and latency timer; base addresses; interrupt line; Device Control except the largest
        // payload; Device Control 2.
        0x04 => value & 0xffff_0000,
        0x0c => value & 0xffff_0000,
        0x10..=0x24 | 0x30 => 0,
        0x3c => value & !0xff,
        EXPRESS_CONTROL => value & 0xffff_00e0,
        0x88 => value & 0xffff_0000,
        // Control of ATS and of Access Control Services.
        0x144 | 0x184 => value & 0xffff,
        _ => value,
    }
}
