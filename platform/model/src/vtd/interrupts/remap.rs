//! What comes of an interrupt request (section 5.1).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use crate::board::Board;
use crate::fault::{Fault, Reason};
use crate::vtd::formats::interrupt_entry::InterruptEntry;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;
use crate::vtd::walks::view;

/// An entry of the table as memory has it.
pub(crate) fn entry(unit: &VtdUnit, index: u16, board: &Board) -> InterruptEntry {
    let place = (unit.interrupt_table & !0xfff) + u64::from(index) * 16;
    InterruptEntry([view::word(unit, place, board), view::word(unit, place + 8, board)])
}

/// An interrupt request: the message that results (section 5.1.4).
pub(crate) fn request(
    unit: &mut VtdUnit,
    source: SourceId,
    address: u64,
    data: u32,
    board: &mut Board,
) -> Result<(u64, u32), Fault> {
    if !unit.remaps() {
        return Ok((address, data));
    }
    remap(unit, source, address, data, board).map_err(|(reason, index, recorded)| {
        let fault = Fault { source, address: Iova::new(address), write: true, reason };
        if recorded {
            unit.faults.record(&fault, u64::from(index) << 48, &mut board.journal);
        }
        fault
    })
}

fn remap(
    unit: &VtdUnit,
    source: SourceId,
    address: u64,
    data: u32,
    board: &Board,
) -> Result<(u64, u32), (Reason, u16, bool)> {
    // Address bit 4: remappable format.
    if address & 0x10 == 0 {
        let passes = unit.global.on(global::CFI) && !unit.extended();
        return if passes { Ok((address, data)) } else { Err((Reason::CompatibilityFormat, 0, true)) };
    }
    let handle = (address >> 5 & 0x7fff | (address >> 2 & 1) << 15) as u32;
    let with_subhandle = address & 8 != 0;
    if with_subhandle && data >> 16 != 0 {
        return Err((Reason::InterruptReserved, 0, true));
    }
    let index = if with_subhandle { handle + data } else { handle };
    if index >= unit.interrupt_entries() {
        return Err((Reason::InterruptIndex, index as u16, true));
    }
    let index = index as u16;
    let entry = match unit.stale.interrupts.get(&index) {
        Some(cached) => cached.unwrap_or_default(),
        None => entry(unit, index, board),
    };
    let refused = |reason| Err((reason, index, !entry.faults_disabled()));
    if !entry.present() {
        return refused(Reason::InterruptNotPresent);
    }
    if entry.reserved() || entry.destination_reserved(unit.extended()) {
        return refused(Reason::InterruptEntryReserved);
    }
    if !entry.accepts(source.requester()) {
        return refused(Reason::InterruptSource);
    }
    Ok(entry.message(unit.extended()))
}
