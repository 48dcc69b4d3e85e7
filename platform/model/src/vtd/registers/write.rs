//! What a write of a register does (section 11.4).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::commands::protected;
use crate::vtd::commands::{command, queue, register_based};
use crate::vtd::registers::offset::{self, merge};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::event::Message;
use crate::vtd::state::global;

/// True if such a write of a register makes the unit take over a root table.
pub(crate) fn sets_root(offset: u32, value: u32) -> bool {
    offset == offset::GCMD && value & global::SRTP != 0
}

pub(crate) fn write(unit: &mut VtdUnit, at: u32, value: u32, board: &mut Board) {
    let iotlb = unit.capability.iotlb_offset();
    if let Some(at) = unit.capability.fault_record(at) {
        // The lower words of a 64-bit write of the record carry nothing that can be written.
        if at & 0xc == 0xc || value != 0 {
            unit.faults.write_record(at, value, &mut board.journal);
        }
        return;
    }
    match at & !7 {
        offset::RTADDR => {
            owned_by(unit, global::SRTP, "RTADDR", board);
            unit.root_register = merge(unit.root_register, at, value);
            return;
        }
        offset::IRTA => {
            owned_by(unit, global::SIRTP, "IRTA", board);
            if at & 4 == 0 && value & 1 << 11 != 0 && !unit.capability.has_extended_interrupts() {
                board.journal.violation("R57", "IRTA.EIME is set in a unit without ECAP.EIM");
            }
            unit.interrupt_register = merge(unit.interrupt_register, at, value);
            return;
        }
        offset::IQA => {
            owned_by(unit, global::QIE, "IQA", board);
            if unit.global.on(global::QIE) {
                board.journal.violation("R14", "IQA is written while the queue is on");
            }
            unit.queue.address = merge(unit.queue.address, at, value);
            return;
        }
        offset::CCMD => {
            unit.context_command = merge(unit.context_command, at, value);
            if at & 4 != 0 && value >> 31 != 0 {
                register_based::start_context(unit, board);
            }
            return;
        }
        offset::PHMBASE => return protected::set_high(unit, at, value, false, board),
        offset::PHMLIMIT => return protected::set_high(unit, at, value, true, board),
        offset::IQT => {
            if at & 4 == 0 {
                queue::ring(unit, value.into(), board);
            } else if value != 0 {
                board.journal.violation("R15", "the upper half of IQT is not zero");
            }
            return;
        }
        at8 if at8 == iotlb => {
            unit.iotlb_address = merge(unit.iotlb_address, at, value);
            return;
        }
        at8 if at8 == iotlb + 8 => {
            unit.iotlb_command = merge(unit.iotlb_command, at, value);
            if at & 4 != 0 && value >> 31 != 0 {
                register_based::start_iotlb(unit, board);
            }
            return;
        }
        _ => {}
    }
    let data_bits = if unit.config.narrow_events { 0x1ff } else { 0xffff };
    let event = |message: &mut Message, first: u32, board: &mut Board| match (at - first) / 4 {
        1 => message.data = value & data_bits,
        index => message.write(index, value, &mut board.journal),
    };
    match at {
        offset::GCMD => command::write(unit, value, board),
        offset::FSTS => {
            unit.faults.write_status(value, &mut board.journal);
            queue::schedule_fetch(unit, board);
        }
        offset::FECTL..=offset::FEUADDR => event(&mut unit.faults.event, offset::FECTL, board),
        offset::IECTL..=offset::IEUADDR => event(&mut unit.completion_event, offset::IECTL, board),
        offset::PECTL..=offset::PEUADDR if unit.capability.has_page_requests() => {
            event(&mut unit.page_event, offset::PECTL, board);
        }
        offset::ICS => {
            unit.completion &= !(value & 1);
            if unit.completion == 0 {
                unit.completion_event.settle();
            }
        }
        offset::PMEN => protected::enable(unit, value, board),
        offset::PLMBASE => protected::set_low(unit, value, false, board),
        offset::PLMLIMIT => protected::set_low(unit, value, true, board),
        _ => board.journal.violation("REG", format_args!("a write to {at:#x}, which cannot be written")),
    }
}

/// What a pending command reads belongs to hardware (section 6.9).
fn owned_by(unit: &VtdUnit, command: u32, register: &str, board: &mut Board) {
    if unit.global.pending(command) {
        board.journal.violation("R2", format_args!("{register} is written while a command that reads it is pending"));
    }
}
