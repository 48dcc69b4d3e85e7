//! What an entry may say (chapter 9, C1).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::formats::entry::{ContextEntry, INTERRUPTS, PageEntry, Translation, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::stale::Leaf;
use crate::vtd::walks::tables;

pub(crate) fn check_context(unit: &VtdUnit, source: u16, entry: ContextEntry, board: &mut Board) {
    let journal = &mut board.journal;
    let name = unit.source_id(source);
    if u32::from(entry.domain()) >> unit.capability.domain_bits().min(31) != 0 {
        journal.violation("R39", format_args!("{name}: domain-id {} is above CAP.ND", entry.domain()));
    } else if entry.reserved(&unit.capability) {
        journal.violation("R41", format_args!("{name}: reserved bits in its context entry"));
    }
    if unit.capability.caching_mode() && entry.domain() == 0 {
        journal.violation("R38", format_args!("{name}: domain-id 0 in caching mode"));
    }
    let largest = (3..=5).rev().find(|levels| unit.capability.levels(*levels));
    match entry.translation(&unit.capability) {
        None => journal.violation("R40", format_args!("{name}: a translation type that the unit does not have")),
        Some(Translation::PassThrough) if Some(entry.levels()) != largest => {
            journal.violation("R40", format_args!("{name}: pass-through without the largest address width"));
        }
        Some(_) if !unit.capability.levels(entry.levels()) => {
            journal.violation("R40", format_args!("{name}: an address width that the unit does not have"));
        }
        Some(_) => {}
    }
}

pub(crate) fn check_page(unit: &VtdUnit, entry: PageEntry, level: u8, board: &mut Board) {
    let value = entry.0;
    if entry.reserved(level, &unit.capability) {
        board.journal.violation("R41", format_args!("reserved bits in the level {level} entry {value:#x}"));
    } else if entry.leaf(level) {
        let (first, last) = (entry.address(), entry.address() + page_bytes(level) - 1);
        if first <= *INTERRUPTS.end() && *INTERRUPTS.start() <= last {
            let text = format_args!("the level {level} entry {value:#x} leads into the interrupt range");
            board.journal.violation("R43", text);
        }
    }
}

/// C1: all pages of a table snoop, or none.
pub(crate) fn check_snoop(unit: &mut VtdUnit, frame: usize, level: u8, snoops: bool, board: &mut Board) {
    let mut domains = Vec::new();
    tables::owners(unit, frame, level, &mut |domain, _| domains.push(domain));
    for domain in domains {
        if *unit.snooping.entry(domain).or_insert(snoops) != snoops {
            let text = format_args!("domain-id {domain} has pages with SNP and pages without");
            board.journal.violation("C1", text);
        }
    }
}

/// R40: CAP.MGAW bounds what may be mapped.
pub(crate) fn check_width(unit: &VtdUnit, input: u64, board: &mut Board) {
    let width = unit.capability.guest_width();
    if input.checked_shr(width.into()).unwrap_or(0) != 0 {
        let text = format_args!("input address {input:#x} is mapped, beyond the {width} bits of MGAW");
        board.journal.violation("R40", text);
    }
}

/// R32: another page size is set only after what was there is invalidated, unless it translates alike.
pub(crate) fn check_size(unit: &VtdUnit, domain: u16, base: u64, level: u8, new: PageEntry, board: &mut Board) {
    let stale_page = |leaf: &Leaf| leaf.entry.is_some() && leaf.level == level;
    let differs = match (tables::child(unit, new, level, board), unit.stale.leaf(domain, base).filter(stale_page)) {
        (Some(child), Some(leaf)) => !same_pages(unit, child, level - 1, base, leaf, board),
        (None, _) if new.leaf(level) => {
            let tables = unit.stale.tables.values();
            tables.filter(|table| (table.domain, table.first, table.level) == (domain, base, level)).any(|table| {
                table.entry.and_then(|entry| tables::child(unit, entry, level, board)).is_some_and(|child| {
                    let leaf = Leaf { last: table.last, base, entry: Some(new), level };
                    !same_pages(unit, child, level - 1, base, leaf, board)
                })
            })
        }
        _ => false,
    };
    if differs {
        let text = format_args!("the page size at {base:#x} changes before the old translation is invalidated");
        board.journal.violation("R32", text);
    }
}

/// True if the table translates each page as the leaf does.
fn same_pages(unit: &VtdUnit, frame: usize, level: u8, base: u64, leaf: Leaf, board: &Board) -> bool {
    let Some(page) = leaf.entry else { return false };
    let (mut bytes, mut same) = (0, true);
    tables::each_leaf(unit, frame, level, base, board, &mut |first, level, entry| {
        bytes += page_bytes(level);
        same &= entry.address() == page.address() + (first - leaf.base) && entry.0 & 3 == page.0 & 3;
    });
    same && bytes == page_bytes(level + 1)
}
