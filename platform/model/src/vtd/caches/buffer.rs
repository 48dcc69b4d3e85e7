//! Memory changes, through the write buffers if the unit has some (section 6.8).
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::memory::lines::LINE;
use crate::vtd::caches::change;
use crate::vtd::state::VtdUnit;

/// Fresh frames are zero to a unit that snoops, and that is in the buffers as whatever else is stored.
pub(crate) fn zeroed(unit: &mut VtdUnit, frames: Range<usize>) {
    if let Some(buffer) = &mut unit.buffer {
        buffer.lines.extend((frames.start * WORDS / LINE..frames.end * WORDS / LINE).map(|line| (line, [0; LINE])));
    }
}

/// Memory, as a unit without buffers sees it, has a new line. `old` is what it replaces.
pub(crate) fn line_arrived(unit: &mut VtdUnit, line: usize, new: [u64; LINE], old: &[u64; LINE], board: &mut Board) {
    match &mut unit.buffer {
        Some(buffer) => buffer.lines.push((line, new)),
        None => change::changed(unit, line * LINE, old, board),
    }
}

/// A store that a snooping unit sees.
pub(crate) fn stores_arrived(unit: &mut VtdUnit, index: usize, old: &[u64], board: &mut Board) {
    match &mut unit.buffer {
        Some(buffer) => {
            let line = index / LINE;
            buffer.lines.push((line, std::array::from_fn(|word| board.memory.stored(line * LINE + word))));
        }
        None => change::changed(unit, index, old, board),
    }
}

/// WBF, and implicitly before an invalidation.
pub(crate) fn flush(unit: &mut VtdUnit, board: &mut Board) {
    let Some(buffer) = &mut unit.buffer else { return };
    for (line, new) in std::mem::take(&mut buffer.lines) {
        let mut old = new;
        if let Some(buffer) = &mut unit.buffer
            && let Some(words) = buffer.words.get_mut(line * LINE..(line + 1) * LINE)
        {
            old.copy_from_slice(words);
            words.copy_from_slice(&new);
        }
        change::changed(unit, line * LINE, &old, board);
    }
}

/// R10: nothing of what the unit reads waits in the buffers. `all` counts lines of frames that are not reached yet.
pub(crate) fn check(unit: &VtdUnit, all: bool, board: &mut Board) {
    let Some(buffer) = &unit.buffer else { return };
    let counts = |line: usize| all || !unit.reach.uses(line * LINE / WORDS).is_empty();
    // A line that was written back again, as it was, makes no difference.
    let differs = |line: usize, new: &[u64]| buffer.words.get(line * LINE..(line + 1) * LINE) != Some(new);
    if let Some((line, _)) = buffer.lines.iter().find(|(line, new)| counts(*line) && differs(*line, new)) {
        let address = board.arena.address(line * LINE);
        board.journal.violation("R10", format_args!("what was stored at {address:#x} waits in the write buffers"));
    }
}
