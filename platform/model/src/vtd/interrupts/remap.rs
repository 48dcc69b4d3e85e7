//! What comes of an interrupt request (section 5.1).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use crate::board::Board;
use crate::fault::{Fault, Reason};
use crate::vtd::formats::interrupt_entry::InterruptEntry;
use crate::vtd::interrupts::post;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;
use crate::vtd::walks::view;

/// An entry of the table as memory has it.
pub(crate) fn entry(unit: &VtdUnit, index: u16, board: &Board) -> InterruptEntry {
    let place = (unit.interrupt_table & !0xfff) + u64::from(index) * 16;
    InterruptEntry([view::word(unit, place, board), view::word(unit, place + 8, board)])
}

/// What comes of an interrupt request that is not blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// This message, by address and data.
    Message(u64, u32),
    /// It is posted to a descriptor, with a message for that or without.
    Posted { descriptor: u64, notice: Option<(u64, u32)> },
}

/// An interrupt request: what results (section 5.1.4).
pub(crate) fn request(
    unit: &mut VtdUnit,
    source: SourceId,
    address: u64,
    data: u32,
    board: &mut Board,
) -> Result<Arrival, Fault> {
    if !unit.remaps() {
        return Ok(Arrival::Message(address, data));
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
    board: &mut Board,
) -> Result<Arrival, (Reason, u16, bool)> {
    // Address bit 4: remappable format.
    if address & 0x10 == 0 {
        let passes = unit.global.on(global::CFI) && !unit.extended();
        return if passes { Ok(Arrival::Message(address, data)) } else { Err((Reason::CompatibilityFormat, 0, true)) };
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
    let fault = |reason| (reason, index, !entry.faults_disabled());
    let refused = |reason| Err(fault(reason));
    if !entry.present() {
        return refused(Reason::InterruptNotPresent);
    }
    if unit.reserved(entry) || entry.destination_reserved(unit.extended()) {
        return refused(Reason::InterruptEntryReserved);
    }
    if !entry.accepts(source.requester()) {
        return refused(Reason::InterruptSource);
    }
    if entry.posted() {
        let notice = post::post(entry, unit.extended(), board).map_err(fault)?;
        return Ok(Arrival::Posted { descriptor: entry.descriptor(), notice });
    }
    let (address, data) = entry.message(unit.extended());
    Ok(Arrival::Message(address, data))
}
