//! How registers are accessed (sections 11.2 and 11.3).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::judge::journal::Event;
use crate::vtd::registers::offset::{WIDE, register};
use crate::vtd::registers::{read, write};
use crate::vtd::state::VtdUnit;

/// A 64-bit register, or a 64-bit part of a fault record.
fn is_wide(unit: &VtdUnit, at: u32) -> bool {
    let at = at & !7;
    let iotlb = unit.capability.iotlb_offset();
    WIDE.contains(&at) || at == iotlb || at == iotlb + 8 || unit.capability.fault_record(at).is_some()
}

fn accessible(unit: &VtdUnit, at: u32, width: u32, board: &mut Board) -> bool {
    if at.checked_add(width).is_none_or(|end| end > unit.config.bytes) || !at.is_multiple_of(width) {
        board.journal.violation("REG", format_args!("access of {width} bytes at {at:#x}: misaligned, or no register"));
        return false;
    }
    if width == 8 && !is_wide(unit, at) {
        board.journal.violation("REG", format_args!("access of 8 bytes to the 4-byte register at {at:#x}"));
    }
    true
}

fn answers(unit: &VtdUnit, board: &mut Board) -> bool {
    if unit.defects.all_ones {
        board.journal.violation("R4", "a unit that reads as all ones is written to");
    }
    !unit.defects.all_ones
}

pub(crate) fn read32(unit: &mut VtdUnit, at: u32, board: &mut Board) -> u32 {
    let value = if !accessible(unit, at, 4, board) || unit.defects.all_ones { u32::MAX } else { read::read(unit, at) };
    board.journal.push(Event::Read { unit: unit.number, register: register(at), value: value.into() });
    value
}

pub(crate) fn read64(unit: &mut VtdUnit, at: u32, board: &mut Board) -> u64 {
    let value = if !accessible(unit, at, 8, board) || unit.defects.all_ones {
        u64::MAX
    } else {
        u64::from(read::read(unit, at)) | u64::from(read::read(unit, at + 4)) << 32
    };
    board.journal.push(Event::Read { unit: unit.number, register: register(at), value });
    value
}

pub(crate) fn write32(unit: &mut VtdUnit, at: u32, value: u32, board: &mut Board) {
    board.journal.push(Event::Write { unit: unit.number, register: register(at), value: value.into() });
    if accessible(unit, at, 4, board) && answers(unit, board) {
        write::write(unit, at, value, board);
    }
}

pub(crate) fn write64(unit: &mut VtdUnit, at: u32, value: u64, board: &mut Board) {
    board.journal.push(Event::Write { unit: unit.number, register: register(at), value });
    if accessible(unit, at, 8, board) && answers(unit, board) {
        write::write(unit, at, value as u32, board);
        write::write(unit, at + 4, (value >> 32) as u32, board);
    }
}
