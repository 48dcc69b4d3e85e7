//! Protected memory regions are set and switched (section 11.4.8).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::protected::{ALIGNMENT, FOUR_GIB, HIGHEST_IO};

pub(crate) fn enable(unit: &mut VtdUnit, value: u32, board: &mut Board) {
    if !unit.capability.has_protected_low() && !unit.capability.has_protected_high() {
        return;
    }
    let enable = value >> 31 != 0;
    if unit.protected.active() && !enable && !unit.translates() {
        board.journal.violation("R12", "protected memory is switched off before translation is on");
    }
    unit.protected.enable = value & 1 << 31 | unit.protected.enable & 1;
    let io = |base: u64, limit: u64| base <= limit && base < FOUR_GIB && limit >= HIGHEST_IO;
    let (low, high) = (unit.protected.low, unit.protected.high);
    if enable && (io(low.0.into(), low.1.into()) || io(high.0, high.1)) {
        board.journal.violation("R12", "a protected memory region covers memory-mapped I/O");
    }
    unit.protect_at = (!unit.defects.protection_stuck).then(|| board.journal.now + unit.defects.latency());
}

/// PRS follows EPM.
pub(crate) fn follow(unit: &mut VtdUnit) {
    let enable = unit.protected.enable >> 31;
    unit.protected.enable = unit.protected.enable & 1 << 31 | enable;
    unit.protect_at = None;
}

pub(crate) fn set_low(unit: &mut VtdUnit, value: u32, limit: bool, board: &mut Board) {
    if !unit.capability.has_protected_low() {
        return;
    }
    check_unprotected(unit, board);
    let place = if limit { &mut unit.protected.low.1 } else { &mut unit.protected.low.0 };
    *place = value & !((1 << ALIGNMENT) - 1);
}

pub(crate) fn set_high(unit: &mut VtdUnit, at: u32, value: u32, limit: bool, board: &mut Board) {
    if !unit.capability.has_protected_high() {
        return;
    }
    check_unprotected(unit, board);
    let place = if limit { &mut unit.protected.high.1 } else { &mut unit.protected.high.0 };
    let shift = 8 * (at & 4);
    *place = (*place & !(0xffff_ffff << shift) | u64::from(value) << shift) & !((1 << ALIGNMENT) - 1);
}

fn check_unprotected(unit: &VtdUnit, board: &mut Board) {
    if unit.protected.active() {
        board.journal.violation("R12", "a protected memory region is changed while it is enabled");
    }
}
