//! The extended capabilities of resizable base addresses: those of a function, and those of its virtual functions (PCIe 6.0,
//! sections 7.8.6 and 7.8.7).
//!
//! | word | bits | field |
//! |---|---|---|
//! | 8 + 8 n | 2:0 | which base address the n-th pair of registers is for |
//! | | 7:5 | of the first: how many pairs there are, 1 to 6 |
//! | | 13:8 | its size: 2 to the power of that many MiB |
#![forbid(unsafe_code)]

use super::ConfigSpace;
use super::capability::extended_capabilities;
use crate::addr::SourceId;

/// Of a function, and of virtual functions.
pub(super) const OWN: u16 = 0x15;
pub(super) const VIRTUAL: u16 = 0x24;
/// How many sizes a function has of a kind.
pub(super) const MAX: usize = 6;
/// The header and one pair of registers.
const BYTES: u16 = 12;

/// Calls `each` with the control registers that a function has of one kind: where they are, and what they hold.
#[inline(never)]
pub(super) fn each_size(config: &impl ConfigSpace, function: SourceId, kind: u16, each: &mut dyn FnMut(u16, u32)) {
    let Some(at) = extended_capabilities(config, function, kind, BYTES).next() else { return };
    let count = ((config.read(function, at + 8) >> 5) & 7) as u16;
    for control in (0..count.min(MAX as u16)).map(|number| at + 8 + 8 * number).filter(|control| *control < 4096) {
        each(control, config.read(function, control));
    }
}
