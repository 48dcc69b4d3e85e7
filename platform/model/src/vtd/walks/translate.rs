//! Translation of a request: caches first, then root table, context table and page table (sections 3.4, 3.7, 6.2.7).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use crate::board::Board;
use crate::fault::{Fault, Reason};
use crate::vtd::formats::entry::{ContextEntry, INTERRUPTS, PageEntry, RootEntry, Translation, index, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::walks::view;

/// A DMA request of a device, within one page.
pub(crate) fn request(
    unit: &mut VtdUnit,
    source: SourceId,
    address: u64,
    write: bool,
    board: &mut Board,
) -> Result<u64, Fault> {
    let (reason, recorded) = match translate(unit, source, address, write, board) {
        Ok(output) if !unit.protected.blocks(output) => return Ok(output),
        Ok(_) => (Reason::Protected, false),
        Err(failed) => failed,
    };
    let fault = Fault { source, address: Iova::new(address), write, reason };
    if recorded {
        unit.faults.record(&fault, address, &mut board.journal);
    }
    Err(fault)
}

/// The context entry of a requester as memory has it.
pub(crate) fn current(unit: &VtdUnit, source: u16, board: &Board) -> ContextEntry {
    context(unit, source, board).unwrap_or_default()
}

/// The physical address behind `address`, or why there is none and whether that is recorded.
pub(crate) fn translate(
    unit: &VtdUnit,
    source: SourceId,
    address: u64,
    write: bool,
    board: &Board,
) -> Result<u64, (Reason, bool)> {
    if !unit.translates() {
        return Ok(address);
    }
    match unit.root >> 10 & 3 {
        0 => {}
        3 if unit.capability.aborts() => return Err((Reason::AbortMode, true)),
        _ => return Err((Reason::ModeInvalid, true)),
    }
    // What is no message there is refused (section 3.15).
    if INTERRUPTS.contains(&address) {
        return Err((Reason::NoInterrupt, true));
    }
    let source = source.requester();
    for residue in unit.stale.residues.iter().filter(|residue| residue.source == source) {
        match residue.entry.map(|entry| through(unit, entry, address, write, board)) {
            Some(Ok(output)) => return Ok(output),
            Some(Err(_)) => {}
            None => return Err((denied(write), true)),
        }
    }
    let cached_root = unit.stale.roots.get(&((source >> 8) as u8));
    let entry = match unit.stale.contexts.get(&source) {
        Some(cached) => *cached,
        None if cached_root.is_some_and(|root| !root.present()) => return Err((Reason::RootNotPresent, true)),
        None => context(unit, source, board).map_err(|reason| (reason, true))?,
    };
    through(unit, entry, address, write, board).map_err(|reason| (reason, !entry.faults_disabled()))
}

/// The context entry of a source as memory has it, present or not.
pub(crate) fn context(unit: &VtdUnit, source: u16, board: &Board) -> Result<ContextEntry, Reason> {
    let read = |address| view::word(unit, address, board);
    let root = root_entry(unit, (source >> 8) as u8, board);
    if !root.present() {
        return Err(Reason::RootNotPresent);
    }
    if root.reserved(&unit.capability) {
        return Err(Reason::RootReserved);
    }
    let place = root.context_table() + u64::from(source & 0xff) * 16;
    Ok(ContextEntry([read(place), read(place + 8)]))
}

/// The root entry of a bus as memory has it.
pub(crate) fn root_entry(unit: &VtdUnit, bus: u8, board: &Board) -> RootEntry {
    let place = (unit.root & !0xfff) + u64::from(bus) * 16;
    RootEntry([place, place + 8].map(|address| view::word(unit, address, board)))
}

/// Translates through one context entry.
fn through(unit: &VtdUnit, entry: ContextEntry, address: u64, write: bool, board: &Board) -> Result<u64, Reason> {
    if !entry.present() {
        return Err(Reason::ContextNotPresent);
    }
    if entry.reserved(&unit.capability) {
        return Err(Reason::ContextReserved);
    }
    let translation = entry.translation(&unit.capability).ok_or(Reason::ContextInvalid)?;
    if !unit.capability.levels(entry.levels()) {
        return Err(Reason::ContextInvalid);
    }
    if translation == Translation::PassThrough {
        return if address >> unit.capability.haw == 0 { Ok(address) } else { Err(Reason::BeyondWidth) };
    }
    let width = unit.capability.guest_width().min(12 + 9 * entry.levels());
    if address >> width != 0 {
        return Err(Reason::BeyondWidth);
    }
    let output = cached(unit, entry, address, write, board)?;
    if INTERRUPTS.contains(&output) { Err(Reason::OutputIsInterrupt) } else { Ok(output) }
}

/// The IOTLB first, then the lowest paging-structure cache, then memory.
fn cached(unit: &VtdUnit, entry: ContextEntry, address: u64, write: bool, board: &Board) -> Result<u64, Reason> {
    let domain = entry.domain();
    if let Some(leaf) = unit.stale.leaf(domain, address) {
        let page = leaf.entry.ok_or(denied(write))?;
        let allowed = if write { page.writable() } else { page.readable() };
        return if allowed { Ok(page.address() + (address - leaf.base)) } else { Err(denied(write)) };
    }
    match unit.stale.table(domain, address) {
        Some(table) => {
            let entry = table.entry.ok_or(denied(write))?;
            let rights = entry.with_rights(table.rights);
            if write && !rights.writable() || !write && !rights.readable() {
                return Err(denied(write));
            }
            walk(unit, entry.address(), table.level - 1, address, write, board)
        }
        None => walk(unit, entry.table(), entry.levels(), address, write, board),
    }
}

/// Section 3.7: rights are the logical AND of all levels.
fn walk(unit: &VtdUnit, table: u64, levels: u8, address: u64, write: bool, board: &Board) -> Result<u64, Reason> {
    let (mut table, mut level) = (table, levels);
    loop {
        let entry = PageEntry(view::word(unit, table + index(address, level) * 8, board));
        if entry.present() && entry.reserved(level, &unit.capability) {
            return Err(Reason::PageReserved);
        }
        if write && !entry.writable() || !write && !entry.readable() {
            return Err(denied(write));
        }
        if entry.leaf(level) {
            let offset = page_bytes(level) - 1;
            return Ok(entry.address() & !offset | address & offset);
        }
        (table, level) = (entry.address(), level - 1);
    }
}

fn denied(write: bool) -> Reason {
    if write { Reason::NotWritable } else { Reason::NotReadable }
}
