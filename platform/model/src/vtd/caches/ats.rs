//! Device-TLBs: when a device may have one, and what is left in it (sections 4.1 and 4.5).
#![forbid(unsafe_code)]

use cofferdam::addr::SourceId;

use crate::board::Board;
use crate::devices::tlb::Ats;
use crate::vtd::formats::entry::{ContextEntry, page_bytes};
use crate::vtd::state::VtdUnit;
use crate::vtd::walks::{device_tlb, tables, translate};

/// R47 (section 4.5.1): a device's ATS was switched on.
pub(crate) fn check_on(unit: &VtdUnit, source: SourceId, board: &mut Board) {
    let cached = unit.stale.contexts.get(&source.requester()).copied();
    let entry = cached.unwrap_or_else(|| translate::current(unit, source.requester(), board));
    if !unit.translates() || !device_tlb::allows(unit, entry) {
        let text = format_args!("{source}: ATS is switched on, and its context entry does not allow it");
        board.journal.violation("R47", text);
    }
}

/// R49: a function is reset. A context entry that is cached lets its requests through as well.
pub(crate) fn check_reset(unit: &VtdUnit, source: SourceId, board: &mut Board) {
    let cached = unit.stale.contexts.get(&source.requester()).copied();
    let entry = cached.unwrap_or_else(|| translate::current(unit, source.requester(), board));
    let on = board.devices.of(source).tlb.ats == Some(Ats::On);
    if unit.translates() && (entry.present() || on) {
        let left = if on { "ATS is on" } else { "its context entry lets it through" };
        board.journal.violation("R49", format_args!("{source} is reset while {left}"));
    }
}

/// R47 (section 4.5.2): a context entry changes.
pub(crate) fn check_off(unit: &VtdUnit, source: u16, old: ContextEntry, new: ContextEntry, board: &mut Board) {
    let source = unit.source_id(source);
    // A unit with a defect may not have done what was commanded before, and blocking comes first.
    if !device_tlb::allows(unit, old) || device_tlb::allows(unit, new) || unit.defects.ever {
        return;
    }
    let device = &board.devices.of(source).tlb;
    let left = match device.ats {
        Some(Ats::On) => "ATS is switched off",
        Some(Ats::Off) if !device.unresponsive => "its device-TLB is emptied",
        Some(_) | None => return,
    };
    let text = format_args!("{source}: its context entry blocks it before {left}");
    board.journal.violation("R47", text);
}

/// R31 and R33 for what devices have cached.
pub(crate) fn settle(unit: &VtdUnit, board: &mut Board) {
    let mut found = Vec::new();
    for (source, function) in board.devices.all().filter(|(source, _)| unit.scope.serves(*source)) {
        let entry = translate::current(unit, source.requester(), board);
        let (device, trusted) = (&function.tlb, device_tlb::allows(unit, entry));
        for cached in &device.cached {
            let page = cached.page;
            // What a device has that does not answer is of no use to it once it is blocked.
            if !trusted && device.unresponsive {
                continue;
            }
            if !trusted {
                found.push(("R33", format!("{source}: its device-TLB still has {page:#x}, and it is not trusted")));
                continue;
            }
            let (now, level, rights) = tables::says(unit, entry.domain(), page, board);
            let bytes = page_bytes(level) - 1;
            let output = now.map(|now| now.address() & !bytes | page & bytes);
            if output != Some(cached.output) || u64::from(cached.rights.bits()) & !rights != 0 {
                found.push(("R31", format!("{source}: its device-TLB still has an old translation of {page:#x}")));
            }
        }
    }
    found.into_iter().for_each(|(rule, what)| board.journal.violation(rule, what));
}
