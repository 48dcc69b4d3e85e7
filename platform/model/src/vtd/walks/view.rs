//! Memory as a unit sees it.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::state::VtdUnit;

/// The word at a physical address, as this unit sees it.
pub(crate) fn word(unit: &VtdUnit, address: u64, board: &Board) -> u64 {
    match board.memory.index(address) {
        Some(index) => seen(unit, index, board),
        None => board.ram.word(address),
    }
}

/// The word at an index into the driver's frames, as this unit sees it.
pub(crate) fn seen(unit: &VtdUnit, index: usize, board: &Board) -> u64 {
    match &unit.buffer {
        Some(buffer) => buffer.seen(index),
        None => board.memory.seen(unit.capability.view(), index),
    }
}
