//! Domain-ids: which are in use, and for which page table.
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::formats::entry::ContextEntry;
use crate::vtd::state::VtdUnit;

/// A context entry has the domain-id: R38, and R33 for a domain-id that is reused.
pub(crate) fn add(unit: &mut VtdUnit, source: u16, entry: ContextEntry, board: &mut Board) {
    let (domain, format) = (entry.domain(), entry.format());
    let name = unit.source_id(source);
    let (current, count) = unit.domains.entry(domain).or_insert((format, 0));
    if *count != 0 && *current != format {
        let text = format_args!("{name}: domain-id {domain} is in use with another page table or address width");
        board.journal.violation("R38", text);
    }
    if *count == 0 {
        *current = format;
        unit.snooping.remove(&domain);
        let stale = &unit.stale;
        let other = |entry: ContextEntry| entry.domain() == domain && entry.format() != format;
        let translations = stale.leaves.get(&domain).is_some_and(|leaves| !leaves.is_empty())
            || stale.tables.values().any(|table| table.domain == domain);
        if translations
            || stale.residues.iter().any(|residue| residue.entry.is_some_and(other))
            || stale.contexts.values().filter_map(|entry| entry.if_present()).any(other)
        {
            let text = format_args!("{name}: domain-id {domain} is reused before it is invalidated");
            board.journal.violation("R33", text);
        }
    }
    *count += 1;
}

/// The entry is gone.
pub(crate) fn remove(unit: &mut VtdUnit, entry: ContextEntry) {
    if let Some((_, count)) = unit.domains.get_mut(&entry.domain()) {
        *count = count.saturating_sub(1);
    }
}
