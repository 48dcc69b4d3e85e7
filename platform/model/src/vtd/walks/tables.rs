//! Page tables, from a table down and from a table up (sections 3.7 and 9.8).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::memory::arena::WORDS;
use crate::vtd::formats::entry::{ContextEntry, PageEntry, Translation, index, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::reach::{Parent, Use};
use crate::vtd::walks::view;

/// The page table that a context entry uses, if it is one that hardware follows.
pub(crate) fn page_table(unit: &VtdUnit, entry: ContextEntry) -> Option<(u64, u8)> {
    let walks = !entry.reserved(&unit.capability)
        && unit.capability.levels(entry.levels())
        && entry.translation(&unit.capability).is_some_and(|kind| kind != Translation::PassThrough);
    (entry.present() && walks).then(|| (entry.table(), entry.levels()))
}

/// The frame of the table that a non-leaf entry leads to.
pub(crate) fn child(unit: &VtdUnit, entry: PageEntry, level: u8, board: &Board) -> Option<usize> {
    let follows = entry.present() && !entry.leaf(level) && !entry.reserved(level, &unit.capability);
    follows.then(|| board.memory.index(entry.address()))?.map(|index| index / WORDS)
}

/// The logical AND of R and W of what leads to a table (section 3.7.1).
pub(crate) fn rights_above(unit: &VtdUnit, frame: usize, level: u8, board: &Board) -> u64 {
    let mut parents = unit.reach.uses(frame).iter().filter_map(|(what, _)| match what {
        Use::Table { level: at, parent } if *at == level => Some(*parent),
        _ => None,
    });
    match parents.next() {
        Some(Parent::Entry(above, slot)) => {
            let entry = view::seen(unit, above * WORDS + usize::from(slot), board);
            entry & rights_above(unit, above, level + 1, board)
        }
        Some(Parent::Stale(id)) => unit.stale.tables.get(&id).map_or(3, |table| table.rights),
        Some(Parent::Domain(_)) | None => 3,
    }
}

/// Calls `found` with each domain-id that reaches a table, and the input address of the table's first entry.
pub(crate) fn owners(unit: &VtdUnit, frame: usize, level: u8, found: &mut dyn FnMut(u16, u64)) {
    let stale = |id: u32| unit.stale.tables.get(&id).map(|table| (table.domain, table.first));
    unit.reach.owners(frame, level, &stale, found);
}

/// All pages below a table, in order: input address, level and entry.
pub(crate) fn each_leaf(
    unit: &VtdUnit,
    frame: usize,
    level: u8,
    base: u64,
    board: &Board,
    found: &mut dyn FnMut(u64, u8, PageEntry),
) {
    for slot in 0..WORDS {
        let entry = PageEntry(view::seen(unit, frame * WORDS + slot, board));
        let first = base + slot as u64 * page_bytes(level);
        if let Some(child) = child(unit, entry, level, board) {
            each_leaf(unit, child, level - 1, first, board, found);
        } else if entry.present() && entry.leaf(level) && !entry.reserved(level, &unit.capability) {
            found(first, level, entry);
        }
    }
}

/// What memory says for an input address of a domain: the entry, its level, and the rights of the whole walk.
pub(crate) fn says(unit: &VtdUnit, domain: u16, address: u64, board: &Board) -> (Option<PageEntry>, u8, u64) {
    let Some(((table, levels), _)) = unit.domains.get(&domain).filter(|(_, count)| *count != 0) else {
        return (None, 5, 0);
    };
    if *levels == 0 {
        return (None, 5, 0);
    }
    let (mut table, mut level, mut rights) = (*table, *levels, 3);
    loop {
        let place = table + index(address, level) * 8;
        let entry = PageEntry(view::word(unit, place, board));
        rights &= entry.0 & 3;
        if !entry.present() || entry.reserved(level, &unit.capability) {
            return (None, level, 0);
        }
        if entry.leaf(level) || level == 1 {
            return (Some(entry), level, rights);
        }
        (table, level) = (entry.address(), level - 1);
    }
}
