//! The tables of a VT-d unit, with bit definitions of their own from the specification, revision 5.10 (`S` in this folder).
//! Tables of legacy mode are read; where others are found, that is said.

mod context_entry;
mod interrupts;
mod registers;
mod root_entry;
mod second_stage;
mod tables;
mod walk;

pub(crate) use context_entry::LiveTarget;
pub(crate) use interrupts::{LiveInterrupt, LiveInterrupts};
pub(crate) use registers::{LiveRegisters, Mode};
pub(crate) use tables::{Ignored, LiveTables, Seen};

/// Bits from the host address width on, which are reserved in every pointer of a table (S 9.1, 9.3).
const fn above(host_bits: u8) -> u64 {
    match u64::MAX.checked_shl(host_bits as u32) {
        Some(bits) => bits,
        None => 0,
    }
}
