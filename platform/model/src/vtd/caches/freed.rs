//! Frames that are freed, and whether a unit still reaches them.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::caches::{contexts, pages};
use crate::vtd::formats::entry::RootEntry;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;
use crate::vtd::state::reach::{Parent, Use};

/// Frames are about to be freed.
pub(crate) fn check(unit: &mut VtdUnit, frames: Range<usize>, board: &mut Board) {
    let inside = |address: u64| board.memory.index(address).is_some_and(|index| frames.contains(&(index / WORDS)));
    let mut queue = (unit.queue.base()..unit.queue.base() + unit.queue.bytes()).step_by(4096);
    if unit.global.on(global::QIE) && queue.any(inside) {
        board.journal.violation("R31", "the queue's frames are freed while it is on");
    }
    for frame in frames {
        while let Some((what, _)) = unit.reach.uses(frame).first().copied() {
            let live = if matches!(what, Use::Interrupts(_)) { unit.remaps() } else { unit.translates() };
            if live {
                let address = board.arena.address(frame * WORDS);
                let through = match what {
                    Use::Table { parent: Parent::Stale(_), .. } => "a paging-structure cache",
                    Use::Table { parent: Parent::Domain(domain), .. }
                        if unit.domains.get(&domain).is_none_or(|(_, count)| *count == 0) =>
                    {
                        "the context-cache or the IOTLB"
                    }
                    _ => "its tables",
                };
                let text = format_args!("{address:#x} is freed, and unit {} reaches it by {through}", unit.number);
                board.journal.violation("R31", text);
            }
            forget(unit, frame, what, board);
        }
    }
}

/// Ends a use of a frame that goes away.
fn forget(unit: &mut VtdUnit, frame: usize, what: Use, board: &mut Board) {
    match what {
        Use::Table { level, parent } => pages::unlink(unit, frame, level, parent, board),
        Use::Contexts(bus) => {
            let entry = RootEntry([board.arena.address(frame * WORDS) | 1, 0]);
            contexts::unlink_contexts(unit, entry, bus, board);
        }
        Use::Root => {
            let root = board.arena.address(frame * WORDS);
            contexts::unlink_root(unit, root, board);
        }
        Use::Interrupts(_) => {
            unit.reach.remove(frame, what);
        }
    }
}
