//! What each global command needs before, and does (sections 6.5.2, 6.6, 6.7 and 11.4.4.1).
#![forbid(unsafe_code)]

use super::global::Command;
use super::{Board, Unit, global, registers};

/// Where the tables are of a unit that firmware left running.
const FIRMWARE_TABLES: u64 = 0x0800_0000;

/// Rules 7 and 8: the steps from a new root table to translation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RootState {
    /// No SRTP since reset, or since translation was last switched off.
    #[default]
    NotSet,
    /// SRTP done; caches may hold what the last table said.
    Set,
    /// Context-cache invalidated after that.
    ContextFlushed,
    /// And the IOTLB.
    Ready,
}

/// Rule 52: the same for interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum InterruptState {
    #[default]
    NotSet,
    /// SIRTP done; the interrupt-entry-cache may hold what the last table said.
    Set,
    Ready,
}

impl Unit {
    /// What firmware left on: an empty queue and a root table without entries, both in memory that is not the driver's.
    pub(super) fn left_running(&mut self) {
        self.global.status = global::TE | global::SRTP;
        self.root = FIRMWARE_TABLES;
        self.root_register = FIRMWARE_TABLES;
        self.root_state = RootState::Ready;
        if self.capability.has_queue() {
            self.global.status |= global::QIE;
            self.queue.address = FIRMWARE_TABLES + 0x1000;
            (self.queue.head, self.queue.tail) = (0x40, 0x40);
            self.queue.last_was_wait = true;
        }
    }

    /// A write of GCMD.
    pub(super) fn command(&mut self, value: u32, board: &mut Board) {
        for (bit, set) in self.global.write(value, &mut board.journal) {
            self.check_command(bit, set, board);
            match bit {
                // RTPS and IRTPS are cleared at once and set when the command is done.
                global::SRTP | global::SIRTP => self.global.status &= !bit,
                global::WBF => self.global.status |= bit,
                _ => {}
            }
            if let Some(command) = self.global.command.take() {
                self.finish(command, board);
            }
            self.global.command = Some(Command { bit, set, due: board.journal.now + self.latency() });
        }
    }

    fn check_command(&mut self, bit: u32, set: bool, board: &mut Board) {
        if bit == global::SRTP {
            self.check_buffer(true, board);
        }
        let journal = &mut board.journal;
        match (bit, set) {
            (global::SRTP, true) => {
                let aborts = self.root_register >> 10 & 3 == 3 && self.capability.aborts();
                if self.global.on(global::TE) && self.root == FIRMWARE_TABLES && !aborts {
                    journal.violation("R69", "a root table is set while the translation that firmware left is on");
                }
                let mode_changes = (self.root ^ self.root_register) >> 10 & 3 != 0;
                if self.global.on(global::TE) && mode_changes && !self.capability.root_table_flushes() {
                    journal.violation("R9", "RTADDR.TTM changes while translation is on");
                }
            }
            (global::TE, true) => match self.root_state {
                RootState::NotSet => journal.violation("R7", "translation is switched on, but no root table was set"),
                RootState::Ready => {}
                _ => journal.violation("R8", "translation is switched on, and caches are not invalidated since SRTP"),
            },
            (global::QIE, true) => {
                self.queue.check_enable(&self.capability, journal);
                // While translation is on, a fault may come at any moment; it does not stop the queue.
                let counts = if self.global.on(global::TE) { 0x70 } else { 0x73 };
                let status = self.faults.status();
                if self.faults.stops_queue() || status & counts != 0 {
                    journal.violation("R16", format_args!("the queue is switched on with FSTS = {status:#x}"));
                }
            }
            (global::QIE, false) => self.queue.check_disable(journal),
            (global::IRE, true) => {
                match self.interrupt_state {
                    InterruptState::NotSet => {
                        journal.violation("R52", "interrupt remapping is switched on, but no table was set");
                    }
                    InterruptState::Set => {
                        let text = "interrupt remapping is switched on, and its cache is not invalidated since SIRTP";
                        journal.violation("R52", text);
                    }
                    InterruptState::Ready => {}
                }
                if !self.global.on(global::QIE) {
                    journal.violation("R61", "interrupt remapping is switched on without the queue");
                }
            }
            (global::CFI, true) => journal.violation("R53", "compatibility format interrupts are let through"),
            _ => {}
        }
        if bit == global::TE && set && !self.capability.can_translate() {
            journal.violation("R4", "translation is switched on in a unit that has no page-table format");
        }
    }

    /// A command is done.
    pub(super) fn finish(&mut self, command: Command, board: &mut Board) {
        let Command { bit, set, .. } = command;
        match bit {
            global::SRTP => {
                let flushes = self.capability.root_table_flushes();
                self.set_root(board);
                self.root_state = if flushes { RootState::Ready } else { RootState::Set };
            }
            global::WBF => self.flush_buffer(board),
            global::SIRTP => {
                let flushes = self.capability.interrupt_table_flushes();
                self.set_interrupt_table(board);
                self.interrupt_state = if flushes { InterruptState::Ready } else { InterruptState::Set };
            }
            global::IRE if set => {
                self.stale.interrupts.clear();
                self.settle_memory(board);
            }
            global::IRE => self.interrupt_state = InterruptState::NotSet,
            global::TE if set && !self.capability.can_translate() => return,
            global::TE if set => {
                self.drop_caches(board);
                self.settle_memory(board);
            }
            global::TE if !set => self.root_state = RootState::NotSet,
            global::QIE if !set => {
                self.queue.head = 0;
                self.queue.in_flight.clear();
                self.outstanding.clear();
            }
            _ => {}
        }
        self.global.complete(bit, set);
        if bit == global::QIE && set {
            self.schedule_fetch(board);
        }
        if !self.global.on(global::TE | global::IRE) {
            self.faults.reset_index();
        }
    }

    /// SRTP: another root table, which has to translate alike if translation is on (section 6.6).
    fn set_root(&mut self, board: &mut Board) {
        let old = std::mem::replace(&mut self.root, self.root_register);
        self.unlink_root(old, board);
        self.link_root(board);
        let stale = &self.stale.contexts;
        if stale.iter().any(|(source, entry)| entry.unwrap_or_default() != self.current(*source, board)) {
            board.journal.violation("R9", "a root table is set while translation is on, and it translates differently");
        }
        if self.capability.root_table_flushes() {
            self.drop_caches(board);
        }
    }

    /// True if such a write of a register makes the unit take over a root table.
    pub(crate) fn sets_root(&self, offset: u32, value: u32) -> bool {
        offset == registers::offset::GCMD && value & global::SRTP != 0
    }
}
