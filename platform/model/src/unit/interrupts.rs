//! Interrupt remapping: the table, requests, and the interrupt-entry-cache (sections 5.1, 6.4 and 9.9).
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use super::faults::{Fault, Reason};
use super::reach::Use;
use super::{Board, Unit, global};
use crate::memory::arena::WORDS;

/// Section 9.9, remapped interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterruptEntry(pub(crate) [u64; 2]);

impl InterruptEntry {
    pub(crate) fn present(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// FPD.
    fn silent(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// SVT: 0 for no validation.
    fn validation(self) -> u64 {
        self.0[1] >> 18 & 3
    }

    /// Bits that are reserved in DST without extended interrupt mode.
    fn destination_reserved(self, extended: bool) -> bool {
        !extended && self.0[0] >> 32 & 0xffff_00ff != 0
    }

    /// All other reserved bits; posted interrupts (IM) are not supported.
    fn reserved(self) -> bool {
        self.0[0] & 0xff00_f000 != 0 || self.0[1] >> 20 != 0 || self.validation() == 3
    }

    /// Source validation by SVT, SQ and SID.
    fn accepts(self, source: u16) -> bool {
        let id = self.0[1] as u16;
        match self.validation() {
            0 => true,
            1 => {
                let ignored = match self.0[1] >> 16 & 3 {
                    0 => 0,
                    1 => 4,
                    2 => 6,
                    _ => 7,
                };
                (id ^ source) & !ignored == 0
            }
            _ => (id >> 8..=id & 0xff).contains(&(source >> 8)),
        }
    }

    /// The message that goes to the interrupt controllers, in compatibility format; destination bits 31:8 in address
    /// bits 63:40 (section 5.1.6).
    fn message(self, extended: bool) -> (u64, u32) {
        let low = self.0[0];
        let destination = if extended { low >> 32 } else { low >> 40 & 0xff };
        let address = 0xfee0_0000 | (destination & 0xff) << 12 | low & 0xc | (destination >> 8) << 40;
        let data = low >> 16 & 0xff | (low >> 5 & 7) << 8 | 1 << 14 | (low >> 4 & 1) << 15;
        (address, data as u32)
    }
}

impl Unit {
    pub(super) fn remaps(&self) -> bool {
        self.global.on(global::IRE)
    }

    /// IRTA.EIME as SIRTP took it over.
    fn extended(&self) -> bool {
        self.interrupt_table & 1 << 11 != 0
    }

    /// Number of entries (IRTA.S).
    fn interrupt_entries(&self) -> u32 {
        2 << (self.interrupt_table & 0xf)
    }

    /// SIRTP (section 6.7).
    pub(super) fn set_interrupt_table(&mut self, board: &mut Board) {
        self.link_interrupts(false, board);
        self.interrupt_table = self.interrupt_register;
        self.link_interrupts(true, board);
        if self.capability.interrupt_table_flushes() {
            self.stale.interrupts.clear();
        }
    }

    fn link_interrupts(&mut self, link: bool, board: &mut Board) {
        if self.interrupt_table == 0 {
            return;
        }
        let base = self.interrupt_table & !0xfff;
        for part in 0..self.interrupt_entries().div_ceil(256) {
            let address = base + u64::from(part) * 4096;
            let what = Use::Interrupts(part as u8);
            match board.memory.index(address).filter(|index| board.memory.is_allocated(*index)) {
                Some(index) if link => {
                    self.reach.add(index / WORDS, what);
                }
                Some(index) => {
                    self.reach.remove(index / WORDS, what);
                }
                None if link => {
                    let text = format_args!("the interrupt table at {address:#x} is in no frame that is allocated");
                    board.journal.violation("R31", text);
                }
                None => {}
            }
        }
    }

    fn interrupt_entry(&self, index: u16, board: &Board) -> InterruptEntry {
        let place = (self.interrupt_table & !0xfff) + u64::from(index) * 16;
        InterruptEntry([self.read_memory(place, board), self.read_memory(place + 8, board)])
    }

    /// An interrupt request: the message that results (section 5.1.4).
    pub(crate) fn interrupt(
        &mut self,
        source: SourceId,
        address: u64,
        data: u32,
        board: &mut Board,
    ) -> Result<(u64, u32), Fault> {
        if !self.remaps() {
            return Ok((address, data));
        }
        self.remap(source, address, data, board).map_err(|(reason, index, recorded)| {
            let fault = Fault { source, address: Iova::new(address), write: true, reason };
            if recorded {
                self.faults.record(&fault, u64::from(index) << 48, &mut board.journal);
            }
            fault
        })
    }

    fn remap(
        &self,
        source: SourceId,
        address: u64,
        data: u32,
        board: &Board,
    ) -> Result<(u64, u32), (Reason, u16, bool)> {
        // Address bit 4: remappable format.
        if address & 0x10 == 0 {
            let passes = self.global.on(global::CFI) && !self.extended();
            return if passes { Ok((address, data)) } else { Err((Reason::CompatibilityFormat, 0, true)) };
        }
        let handle = (address >> 5 & 0x7fff | (address >> 2 & 1) << 15) as u32;
        let with_subhandle = address & 8 != 0;
        if with_subhandle && data >> 16 != 0 {
            return Err((Reason::InterruptReserved, 0, true));
        }
        let index = if with_subhandle { handle + data } else { handle };
        if index >= self.interrupt_entries() {
            return Err((Reason::InterruptIndex, index as u16, true));
        }
        let index = index as u16;
        let entry = match self.stale.interrupts.get(&index) {
            Some(cached) => cached.unwrap_or_default(),
            None => self.interrupt_entry(index, board),
        };
        let refused = |reason| Err((reason, index, !entry.silent()));
        if !entry.present() {
            return refused(Reason::InterruptNotPresent);
        }
        if entry.reserved() || entry.destination_reserved(self.extended()) {
            return refused(Reason::InterruptEntryReserved);
        }
        if !entry.accepts(source.requester()) {
            return refused(Reason::InterruptSource);
        }
        Ok(entry.message(self.extended()))
    }

    /// An entry has changed, as this unit sees it.
    pub(super) fn interrupt_changed(
        &mut self,
        index: u16,
        old: InterruptEntry,
        new: InterruptEntry,
        board: &mut Board,
    ) {
        if old == new || !old.present() && !new.present() {
            return;
        }
        if self.remaps() {
            let cached = self.stale.interrupts.get(&index).copied().flatten();
            if !old.present() && cached.is_some_and(|cached| cached != new) {
                let text = format_args!("interrupt index {index} is used anew before it was invalidated");
                board.journal.violation("R54", text);
            }
            let remembers = old.present() || self.capability.caching_mode();
            if remembers && Self::fills(board) {
                self.stale.interrupts.entry(index).or_insert(old.present().then_some(old));
            }
        }
        if new.present() {
            self.check_interrupt(index, new, board);
        }
    }

    fn check_interrupt(&self, index: u16, entry: InterruptEntry, board: &mut Board) {
        if entry.validation() == 0 {
            let text = format_args!("interrupt entry {index} accepts any source");
            board.journal.violation("R56", text);
        }
        if entry.destination_reserved(self.extended()) {
            let text = format_args!("the destination of interrupt entry {index} has bits that this mode does not have");
            board.journal.violation("R57", text);
        }
        if entry.reserved() {
            board.journal.violation("R58", format_args!("reserved bits in interrupt entry {index}"));
        }
    }

    /// R54: the half with the source never changes while the entry is present. The other half is one atomic store.
    pub(super) fn check_interrupt_store(&self, index: usize, value: u64, board: &mut Board) {
        let upper = index % 2 == 1;
        if self.remaps() && upper && board.memory.stored(index - 1) & 1 != 0 && board.memory.stored(index) != value {
            let address = board.arena.address(index - 1);
            let text =
                format_args!("the upper half of the interrupt entry at {address:#x} changes while it is present");
            board.journal.violation("R54", text);
        }
    }

    /// Takes entries out of the cache: all, or `count` from the aligned index on.
    pub(super) fn invalidate_interrupts(&mut self, scope: Option<(u16, u32)>) {
        match scope {
            None => self.stale.interrupts.clear(),
            Some((index, count)) => {
                let mask = !((count - 1) as u16);
                self.stale.interrupts.retain(|other, _| (other ^ index) & mask != 0);
            }
        }
    }

    /// R55, after a change is done.
    pub(super) fn settle_interrupts(&self, board: &mut Board) {
        let mut old: Vec<u16> = self
            .stale
            .interrupts
            .iter()
            .filter(|(index, cached)| cached.unwrap_or_default() != self.interrupt_entry(**index, board))
            .map(|(index, _)| *index)
            .collect();
        old.sort_unstable();
        for index in old {
            let text = format_args!("the interrupt-entry-cache still has the old entry {index}");
            board.journal.violation("R55", text);
        }
    }
}
