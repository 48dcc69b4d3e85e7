//! Access Control Services (PCIe 6.0, section 7.7.11).
#![forbid(unsafe_code)]

/// Where the capability is that the model gives a function: the header, then capability and control register in one word.
pub(crate) const HEADER: u16 = 0x180;
pub(crate) const REGISTERS: u16 = HEADER + 4;
/// Id of the extended capability.
pub(crate) const ID: u16 = 0xd;
/// P2P Request Redirect and P2P Egress Control.
pub(crate) const REDIRECT: u32 = 1 << 2;
pub(crate) const EGRESS: u32 = 1 << 5;
/// Where root ports of some chipsets have their control register, of 32 bits behind a capability register of 32 bits.
pub(crate) const WIDE_CONTROL: u16 = HEADER + 8;

/// Where the registers of a function are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Usual,
    Wide,
}
