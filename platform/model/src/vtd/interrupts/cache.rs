//! The interrupt-entry-cache (section 6.4).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::interrupts::remap;
use crate::vtd::state::VtdUnit;

/// Takes entries out of the cache: all, or `count` from the aligned index on.
pub(crate) fn invalidate(unit: &mut VtdUnit, scope: Option<(u16, u32)>) {
    match scope {
        None => unit.stale.interrupts.clear(),
        Some((index, count)) => {
            let mask = !((count - 1) as u16);
            unit.stale.interrupts.retain(|other, _| (other ^ index) & mask != 0);
        }
    }
}

/// R55, after a change is done.
pub(crate) fn settle(unit: &VtdUnit, board: &mut Board) {
    let mut old: Vec<u16> = unit
        .stale
        .interrupts
        .iter()
        .filter(|(index, cached)| cached.unwrap_or_default() != remap::entry(unit, **index, board))
        .map(|(index, _)| *index)
        .collect();
    old.sort_unstable();
    for index in old {
        let text = format_args!("the interrupt-entry-cache still has the old entry {index}");
        board.journal.violation("R55", text);
    }
}
