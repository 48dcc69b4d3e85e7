//! The register set: offsets, widths, what a read shows and what a write does (chapter 11).
#![forbid(unsafe_code)]

use super::faults::Message;
use super::{Board, Unit, global};
use crate::judge::journal::{Event, Register};

/// Offsets (section 11.4).
pub(crate) mod offset {
    pub(crate) const VER: u32 = 0x00;
    pub(crate) const CAP: u32 = 0x08;
    pub(crate) const ECAP: u32 = 0x10;
    pub(crate) const GCMD: u32 = 0x18;
    pub(crate) const GSTS: u32 = 0x1c;
    pub(crate) const RTADDR: u32 = 0x20;
    pub(crate) const CCMD: u32 = 0x28;
    pub(crate) const FSTS: u32 = 0x34;
    pub(crate) const FECTL: u32 = 0x38;
    pub(crate) const FEUADDR: u32 = 0x44;
    pub(crate) const PMEN: u32 = 0x64;
    pub(crate) const PLMBASE: u32 = 0x68;
    pub(crate) const PLMLIMIT: u32 = 0x6c;
    pub(crate) const PHMBASE: u32 = 0x70;
    pub(crate) const PHMLIMIT: u32 = 0x78;
    pub(crate) const IQH: u32 = 0x80;
    pub(crate) const IQT: u32 = 0x88;
    pub(crate) const IQA: u32 = 0x90;
    pub(crate) const ICS: u32 = 0x9c;
    pub(crate) const IECTL: u32 = 0xa0;
    pub(crate) const IEUADDR: u32 = 0xac;
    pub(crate) const IQERCD: u32 = 0xb0;
    pub(crate) const IRTA: u32 = 0xb8;
}

/// Registers of 64 bits at fixed places; all others there have 32.
const WIDE: [u32; 11] = [
    offset::CAP,
    offset::ECAP,
    offset::RTADDR,
    offset::CCMD,
    offset::PHMBASE,
    offset::PHMLIMIT,
    offset::IQH,
    offset::IQT,
    offset::IQA,
    offset::IQERCD,
    offset::IRTA,
];

/// The abbreviation of a register at a fixed place.
fn name(at: u32) -> Option<&'static str> {
    let upper = WIDE.contains(&(at & !7));
    Some(match if upper { at & !7 } else { at } {
        offset::VER => "VER",
        offset::CAP => "CAP",
        offset::ECAP => "ECAP",
        offset::GCMD => "GCMD",
        offset::GSTS => "GSTS",
        offset::RTADDR => "RTADDR",
        offset::CCMD => "CCMD",
        offset::FSTS => "FSTS",
        offset::FECTL..=offset::FEUADDR => "fault event",
        offset::PMEN => "PMEN",
        offset::IQH => "IQH",
        offset::IQT => "IQT",
        offset::IQA => "IQA",
        offset::ICS => "ICS",
        offset::IECTL..=offset::IEUADDR => "completion event",
        offset::IQERCD => "IQERCD",
        offset::IRTA => "IRTA",
        _ => return None,
    })
}

/// A register as the journal knows it.
fn register(offset: u32) -> Register {
    Register { offset, name: name(offset) }
}

/// Lower or upper half of a 64-bit register.
fn half(value: u64, at: u32) -> u32 {
    (value >> (8 * (at & 4))) as u32
}

/// The register with one half replaced.
fn merge(old: u64, at: u32, value: u32) -> u64 {
    let shift = 8 * (at & 4);
    old & !(0xffff_ffff << shift) | u64::from(value) << shift
}

impl Unit {
    /// A 64-bit register, or a 64-bit part of a fault record.
    fn is_wide(&self, at: u32) -> bool {
        let at = at & !7;
        let iotlb = self.capability.iotlb_offset();
        WIDE.contains(&at) || at == iotlb || at == iotlb + 8 || self.fault_record(at).is_some()
    }

    fn fault_record(&self, at: u32) -> Option<u32> {
        let bytes = self.capability.fault_records() as u32 * 16;
        at.checked_sub(self.capability.fault_offset()).filter(|at| *at < bytes)
    }

    fn accessible(&self, at: u32, width: u32, board: &mut Board) -> bool {
        if at.checked_add(width).is_none_or(|end| end > self.config.bytes) || !at.is_multiple_of(width) {
            board
                .journal
                .violation("REG", format_args!("access of {width} bytes at {at:#x}: misaligned, or no register"));
            return false;
        }
        if width == 8 && !self.is_wide(at) {
            board.journal.violation("REG", format_args!("access of 8 bytes to the 4-byte register at {at:#x}"));
        }
        true
    }

    fn answers(&self, board: &mut Board) -> bool {
        if self.defects.all_ones {
            board.journal.violation("R4", "a unit that reads as all ones is written to");
        }
        !self.defects.all_ones
    }

    pub(crate) fn read32(&mut self, at: u32, board: &mut Board) -> u32 {
        let value = if !self.accessible(at, 4, board) || self.defects.all_ones { u32::MAX } else { self.read(at) };
        board.journal.push(Event::Read { unit: self.number, register: register(at), value: value.into() });
        value
    }

    pub(crate) fn read64(&mut self, at: u32, board: &mut Board) -> u64 {
        let value = if !self.accessible(at, 8, board) || self.defects.all_ones {
            u64::MAX
        } else {
            u64::from(self.read(at)) | u64::from(self.read(at + 4)) << 32
        };
        board.journal.push(Event::Read { unit: self.number, register: register(at), value });
        value
    }

    pub(crate) fn write32(&mut self, at: u32, value: u32, board: &mut Board) {
        board.journal.push(Event::Write { unit: self.number, register: register(at), value: value.into() });
        if self.accessible(at, 4, board) && self.answers(board) {
            self.write(at, value, board);
        }
    }

    pub(crate) fn write64(&mut self, at: u32, value: u64, board: &mut Board) {
        board.journal.push(Event::Write { unit: self.number, register: register(at), value });
        if self.accessible(at, 8, board) && self.answers(board) {
            self.write(at, value as u32, board);
            self.write(at + 4, (value >> 32) as u32, board);
        }
    }

    fn read(&mut self, at: u32) -> u32 {
        let iotlb = self.capability.iotlb_offset();
        let queue = self.capability.has_queue();
        if let Some(at) = self.fault_record(at) {
            return self.faults.read_record(at).unwrap_or(0);
        }
        match at & !7 {
            offset::CAP => return half(self.capability.cap, at),
            offset::ECAP => return half(self.capability.ecap, at),
            offset::RTADDR => return half(self.root_register, at),
            offset::CCMD => return half(self.context_command, at),
            offset::PHMBASE => return half(self.protected.high.0, at),
            offset::PHMLIMIT => return half(self.protected.high.1, at),
            offset::IQH if queue => return half(self.queue.head, at),
            offset::IQT if queue => return half(self.queue.tail, at),
            offset::IQA if queue => return half(self.queue.address, at),
            offset::IQERCD if queue => return half(self.faults.queue_error, at),
            offset::IRTA if self.capability.remaps_interrupts() => return half(self.interrupt_register, at),
            at8 if at8 == iotlb + 8 => return half(self.iotlb_command, at),
            _ => {}
        }
        match at {
            offset::VER => self.capability.ver,
            offset::GSTS => self.global.read() & !self.defects.stuck_low | self.defects.stuck_high,
            offset::FSTS => self.faults.status(),
            offset::FECTL..=offset::FEUADDR => self.faults.event.read((at - offset::FECTL) / 4),
            offset::PMEN => self.protected.enable,
            offset::PLMBASE => self.protected.low.0,
            offset::PLMLIMIT => self.protected.low.1,
            offset::ICS => self.completion,
            offset::IECTL..=offset::IEUADDR if queue => self.completion_event.read((at - offset::IECTL) / 4),
            _ => 0,
        }
    }

    fn write(&mut self, at: u32, value: u32, board: &mut Board) {
        let iotlb = self.capability.iotlb_offset();
        if let Some(at) = self.fault_record(at) {
            // The lower words of a 64-bit write of the record carry nothing that can be written.
            if at & 0xc == 0xc || value != 0 {
                self.faults.write_record(at, value, &mut board.journal);
            }
            return;
        }
        match at & !7 {
            offset::RTADDR => {
                self.owned_by(global::SRTP, "RTADDR", board);
                self.root_register = merge(self.root_register, at, value);
                return;
            }
            offset::IRTA => {
                self.owned_by(global::SIRTP, "IRTA", board);
                if at & 4 == 0 && value & 1 << 11 != 0 && !self.capability.has_extended_interrupts() {
                    board.journal.violation("R57", "IRTA.EIME is set in a unit without ECAP.EIM");
                }
                self.interrupt_register = merge(self.interrupt_register, at, value);
                return;
            }
            offset::IQA => {
                self.owned_by(global::QIE, "IQA", board);
                if self.global.on(global::QIE) {
                    board.journal.violation("R14", "IQA is written while the queue is on");
                }
                self.queue.address = merge(self.queue.address, at, value);
                return;
            }
            offset::CCMD => {
                self.context_command = merge(self.context_command, at, value);
                if at & 4 != 0 && value >> 31 != 0 {
                    self.start_context_command(board);
                }
                return;
            }
            offset::PHMBASE => return self.protect_high(at, value, false, board),
            offset::PHMLIMIT => return self.protect_high(at, value, true, board),
            offset::IQT => {
                if at & 4 == 0 {
                    self.ring(value.into(), board);
                } else if value != 0 {
                    board.journal.violation("R15", "the upper half of IQT is not zero");
                }
                return;
            }
            at8 if at8 == iotlb => {
                self.iotlb_address = merge(self.iotlb_address, at, value);
                return;
            }
            at8 if at8 == iotlb + 8 => {
                self.iotlb_command = merge(self.iotlb_command, at, value);
                if at & 4 != 0 && value >> 31 != 0 {
                    self.start_iotlb_command(board);
                }
                return;
            }
            _ => {}
        }
        let event = |message: &mut Message, first: u32, board: &mut Board| {
            message.write((at - first) / 4, value, &mut board.journal);
        };
        match at {
            offset::GCMD => self.command(value, board),
            offset::FSTS => {
                self.faults.write_status(value, &mut board.journal);
                self.schedule_fetch(board);
            }
            offset::FECTL..=offset::FEUADDR => event(&mut self.faults.event, offset::FECTL, board),
            offset::IECTL..=offset::IEUADDR => event(&mut self.completion_event, offset::IECTL, board),
            offset::ICS => {
                self.completion &= !(value & 1);
                if self.completion == 0 {
                    self.completion_event.settle();
                }
            }
            offset::PMEN => self.protect(value, board),
            offset::PLMBASE => self.protect_low(value, false, board),
            offset::PLMLIMIT => self.protect_low(value, true, board),
            _ => board.journal.violation("REG", format_args!("a write to {at:#x}, which cannot be written")),
        }
    }

    /// What a pending command reads belongs to hardware (section 6.9).
    fn owned_by(&self, command: u32, register: &str, board: &mut Board) {
        if self.global.pending(command) {
            board
                .journal
                .violation("R2", format_args!("{register} is written while a command that reads it is pending"));
        }
    }
}
