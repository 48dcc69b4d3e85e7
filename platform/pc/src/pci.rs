//! PCI functions: their configuration space, which there are, and where their registers are.
#![forbid(unsafe_code)]

mod bar;
mod decode;
mod ecam;
mod functions;

pub use bar::Bar;
pub(crate) use bar::bar;
pub(crate) use decode::{BusAddress, is_other_than_serial, lacks};
pub(crate) use ecam::Ecam;
pub(crate) use functions::functions;

/// Class in bits 31:24, subclass in bits 23:16.
pub(crate) const CLASS: u16 = 0x08;
/// Class and subclass of a serial port (PCI Code and ID Assignment Specification 1.11, section 1.8).
pub(crate) const SERIAL_CLASS: u32 = 0x0700;
/// Command (bits 15:0) and status (bits 31:16, where writing 1 clears) of every function.
pub(crate) const COMMAND: u16 = 0x04;
/// Command: the function answers to its BARs for ports.
pub(crate) const IO_SPACE: u32 = 1 << 0;
/// Command: the function answers to its memory BARs.
pub(crate) const MEMORY_SPACE: u32 = 1 << 1;
/// Command: the function may read and write memory.
pub(crate) const BUS_MASTER: u32 = 1 << 2;
/// Header type in bits 22:16, multi-function in bit 23.
pub(crate) const HEADER_TYPE: u16 = 0x0c;
