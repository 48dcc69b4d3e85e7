//! What each global command needs before, and does (sections 6.5.2, 6.6, 6.7 and 11.4.4.1).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::caches::{buffer, contexts, invalidate, settle};
use crate::vtd::commands::queue;
use crate::vtd::interrupts::table;
use crate::vtd::state::global::{self, Command};
use crate::vtd::state::progress::{InterruptState, RootState};
use crate::vtd::state::{FIRMWARE_TABLES, VtdUnit};
use crate::vtd::walks::translate;

/// A write of GCMD.
pub(crate) fn write(unit: &mut VtdUnit, value: u32, board: &mut Board) {
    for (bit, set) in unit.global.write(value, &mut board.journal) {
        check(unit, bit, set, board);
        match bit {
            // RTPS and IRTPS are cleared at once and set when the command is done.
            global::SRTP | global::SIRTP => unit.global.status &= !bit,
            global::WBF => unit.global.status |= bit,
            _ => {}
        }
        if let Some(command) = unit.global.command.take() {
            finish(unit, command, board);
        }
        unit.global.command = Some(Command { bit, set, due: board.journal.now + unit.defects.latency() });
    }
}

fn check(unit: &mut VtdUnit, bit: u32, set: bool, board: &mut Board) {
    if bit == global::SRTP {
        buffer::check(unit, true, board);
    }
    let journal = &mut board.journal;
    match (bit, set) {
        (global::SRTP, true) => {
            let aborts = unit.root_register >> 10 & 3 == 3 && unit.capability.aborts();
            if unit.translates() && unit.root == FIRMWARE_TABLES && !aborts {
                journal.violation("R69", "a root table is set while the translation that firmware left is on");
            }
            if aborts && unit.global.on(global::QIE) && !unit.queue.wide() {
                journal.violation("R15", "abort mode is entered with a queue of 128-bit descriptors");
            }
            let mode_changes = (unit.root ^ unit.root_register) >> 10 & 3 != 0;
            if unit.translates() && mode_changes && !unit.capability.root_table_flushes() {
                journal.violation("R9", "RTADDR.TTM changes while translation is on");
            }
        }
        (global::TE, true) => match unit.root_state {
            RootState::NotSet => journal.violation("R7", "translation is switched on, but no root table was set"),
            RootState::Ready => {}
            _ => journal.violation("R8", "translation is switched on, and caches are not invalidated since SRTP"),
        },
        (global::QIE, true) => {
            unit.queue.check_enable(&unit.capability, journal);
            // While anything is remapped, a fault may come at any moment; it does not stop the queue.
            let counts = if unit.translates() || unit.remaps() { 0x70 } else { 0x73 };
            let status = unit.faults.status();
            if unit.faults.stops_queue() || status & counts != 0 {
                journal.violation("R16", format_args!("the queue is switched on with FSTS = {status:#x}"));
            }
        }
        (global::QIE, false) => unit.queue.check_disable(journal),
        (global::SIRTP, true) if unit.remaps() && !unit.global.on(global::QIE) => {
            journal.violation("R61", "a table takes over without the queue, by which its cache would be invalidated");
        }
        (global::IRE, true) => {
            match unit.interrupt_state {
                InterruptState::NotSet => {
                    journal.violation("R52", "interrupt remapping is switched on, but no table was set");
                }
                InterruptState::Set => {
                    let text = "interrupt remapping is switched on, and its cache is not invalidated since SIRTP";
                    journal.violation("R52", text);
                }
                InterruptState::Ready => {}
            }
            if !unit.global.on(global::QIE) {
                journal.violation("R61", "interrupt remapping is switched on without the queue");
            }
        }
        (global::CFI, true) => journal.violation("R53", "compatibility format interrupts are let through"),
        _ => {}
    }
    if bit == global::TE && set && !unit.capability.can_translate() {
        journal.violation("R4", "translation is switched on in a unit that has no page-table format");
    }
}

/// A command is done.
pub(crate) fn finish(unit: &mut VtdUnit, command: Command, board: &mut Board) {
    let Command { bit, set, .. } = command;
    match bit {
        global::SRTP => {
            let flushes = unit.capability.root_table_flushes();
            set_root(unit, board);
            unit.root_state = if flushes { RootState::Ready } else { RootState::Set };
        }
        global::WBF => buffer::flush(unit, board),
        global::SIRTP => {
            let flushes = unit.capability.interrupt_table_flushes();
            table::set(unit, board);
            unit.interrupt_state = if flushes { InterruptState::Ready } else { InterruptState::Set };
        }
        global::IRE if set => {
            unit.stale.interrupts.clear();
            settle::check_memory(unit, board);
        }
        global::IRE => unit.interrupt_state = InterruptState::NotSet,
        global::TE if set && !unit.capability.can_translate() => return,
        global::TE if set => {
            invalidate::all(unit, board);
            settle::check_memory(unit, board);
        }
        global::TE if !set => unit.root_state = RootState::NotSet,
        global::QIE if !set => {
            unit.queue.head = 0;
            unit.queue.in_flight.clear();
            unit.outstanding.clear();
        }
        _ => {}
    }
    unit.global.complete(bit, set);
    if bit == global::QIE && set {
        queue::schedule_fetch(unit, board);
    }
    if !unit.global.on(global::TE | global::IRE) {
        unit.faults.reset_index();
    }
}

/// SRTP: another root table, which has to translate alike if translation is on (section 6.6).
fn set_root(unit: &mut VtdUnit, board: &mut Board) {
    let old = std::mem::replace(&mut unit.root, unit.root_register);
    contexts::unlink_root(unit, old, board);
    contexts::link_root(unit, board);
    // Abort mode has no table, blocks everything and caches nothing.
    let aborts = [old, unit.root].iter().any(|root| root >> 10 & 3 == 3);
    let stale = &unit.stale.contexts;
    if !aborts && stale.iter().any(|(source, entry)| *entry != translate::current(unit, *source, board).effect()) {
        board.journal.violation("R9", "a root table is set while translation is on, and it translates differently");
    }
    if unit.capability.root_table_flushes() {
        invalidate::all(unit, board);
    }
}
