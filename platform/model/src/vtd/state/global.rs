//! GCMD and GSTS: one command at a time, confirmed by the status (sections 11.4.4 and 6.9).
#![forbid(unsafe_code)]

use crate::judge::journal::Journal;

pub(crate) const TE: u32 = 1 << 31;
pub(crate) const SRTP: u32 = 1 << 30;
pub(crate) const WBF: u32 = 1 << 27;
pub(crate) const QIE: u32 = 1 << 26;
pub(crate) const IRE: u32 = 1 << 25;
pub(crate) const SIRTP: u32 = 1 << 24;
pub(crate) const CFI: u32 = 1 << 23;

/// Commands that are given by setting the bit, and that clearing does not take back.
const ONE_SHOT: u32 = SRTP | WBF | SIRTP;
/// What a new command is made from (section 11.4.4.1, step 2).
const KEPT: u32 = 0x96ff_ffff;

/// A command that hardware works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub(crate) bit: u32,
    pub(crate) set: bool,
    pub(crate) due: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Global {
    pub(crate) status: u32,
    pub(crate) command: Option<Command>,
    /// A command that is done, but whose status nobody has read yet.
    unseen: Option<u32>,
}

impl Global {
    pub(crate) fn on(&self, bit: u32) -> bool {
        self.status & bit != 0
    }

    pub(crate) fn pending(&self, bit: u32) -> bool {
        self.command.is_some_and(|command| command.bit == bit)
    }

    pub(crate) fn read(&mut self) -> u32 {
        self.unseen = None;
        self.status
    }

    /// Takes a write of GCMD apart. Returns the bits to change, one after the other.
    pub(crate) fn write(&mut self, value: u32, journal: &mut Journal) -> Vec<(u32, bool)> {
        let changed = value ^ self.status & KEPT;
        let commands = TE | QIE | IRE | CFI | ONE_SHOT;
        if changed & !commands != 0 {
            journal.violation("R1", format_args!("GCMD := {value:#x} sets reserved bits"));
        }
        if changed.count_ones() != 1 {
            let count = changed.count_ones();
            let status = self.status;
            journal.violation("R1", format_args!("GCMD := {value:#x} changes {count} bits of GSTS {status:#x}"));
        }
        if self.command.is_some() {
            journal.violation("R2", format_args!("GCMD := {value:#x} while a command is pending"));
        } else if self.unseen.is_some() {
            journal.violation("R1", format_args!("GCMD := {value:#x} before GSTS has confirmed the last command"));
        }
        (0..32)
            .map(|shift| 1 << shift)
            .filter(|bit| changed & commands & bit != 0)
            .map(|bit| (bit, value & bit != 0))
            .collect()
    }

    /// The status follows a command that is done.
    pub(crate) fn complete(&mut self, bit: u32, set: bool) {
        // WBFS shows that the flush is under way (section 11.4.4.2); all others show what holds.
        let set = set && bit != WBF;
        self.status = if set { self.status | bit } else { self.status & !bit };
        self.unseen = Some(bit);
    }
}
