//! The interrupt-remapping table of a unit (S 5.1.3).
#![forbid(unsafe_code)]

use super::entry;
use crate::addr::PhysAddr;
use crate::contract::{Features, InterruptConfig, TableOfInterrupts};
use crate::hal::{Frames, Hal, NoFrame, PairStore};
use crate::interrupt::{Course, Senders, SlotBlock};
use crate::invalidation::Flush;

/// What IRTA_REG has for a table: the address in 63:12, EIME in 11, and in 3:0 S, for 2^(S + 1) entries (S 11.4.10).
pub(in crate::vtd) fn pointer(table: TableOfInterrupts) -> u64 {
    let size = table.entries.checked_ilog2().unwrap_or(1).saturating_sub(1);
    table.address.as_u64() | u64::from(table.extended) << 11 | u64::from(size & 0xf)
}

/// The table that IRTA_REG leads to.
pub(in crate::vtd) fn at(pointer: u64) -> TableOfInterrupts {
    let address = PhysAddr::new_truncate(pointer & !0xfff);
    TableOfInterrupts { address, entries: 2 << (pointer & 0xf), extended: pointer >> 11 & 1 != 0 }
}

/// A table. Its entries are edited by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(in crate::vtd) struct InterruptTable {
    frames: Frames,
    /// It has 2^`order` entries.
    order: u8,
    /// Destinations have 32 bits (EIME).
    extended: bool,
    /// The unit snoops the CPU's caches when it reads entries.
    coherent: bool,
    pairs: PairStore,
}

impl InterruptTable {
    /// A table of 2^`order` entries, 1 to 16, all of which block what names them.
    pub(in crate::vtd) fn new(
        hal: &impl Hal,
        InterruptConfig { order, extended, pairs }: InterruptConfig,
        host_bits: u8,
        coherent: bool,
    ) -> Result<Self, NoFrame> {
        // A frame has 256 entries.
        let frames = Frames::allocate(hal, order.saturating_sub(8), host_bits)?;
        let table = Self { frames, order, extended, coherent, pairs };
        table.written(hal, 0, table.frames.words());
        Ok(table)
    }

    /// What IRTA_REG has for it.
    pub(in crate::vtd) fn pointer(&self) -> u64 {
        let (address, entries) = (self.frames.base(), 1 << self.order);
        pointer(TableOfInterrupts { address, entries, extended: self.extended })
    }

    /// True if it can take the place of another without a moment in which its entries are read in the wrong mode.
    pub(in crate::vtd) fn may_follow(&self, found: TableOfInterrupts) -> bool {
        self.extended == found.extended
    }

    /// How many frames it takes.
    pub(in crate::vtd) fn frames(&self) -> u32 {
        self.frames.count()
    }

    /// Has what `senders` send by this entry take this course from now on, or blocks it. It is so once `flush` is done; until then an
    /// interrupt takes the old course or the new one, and no mixture: one store changes the entry (R54).
    pub(in crate::vtd) fn set(
        &self,
        hal: &impl Hal,
        unit: &Features,
        slot: u16,
        to: Option<(Course, Senders)>,
        flush: &mut Flush<'_>,
    ) {
        let word = usize::from(slot) * 2;
        let was_present = entry::is_present(self.frames.load(hal, word));
        let entry = to.map(|(course, senders)| entry::words(course, senders, self.extended));
        self.frames.store_pair(hal, self.pairs, slot.into(), entry.unwrap_or_default());
        self.written(hal, word, 2);
        flush.interrupts_set(unit, SlotBlock { first: slot, order: 0 }, was_present);
    }

    /// Writes part of the table back, where the unit does not snoop (R37), and orders it before what follows.
    fn written(&self, hal: &impl Hal, word: usize, words: usize) {
        if !self.coherent {
            self.frames.write_back(hal, word, words);
        }
        hal.fence();
    }

    /// Gives its frames back.
    ///
    /// # Safety
    ///
    /// The unit has confirmed that it does not remap interrupts.
    pub(in crate::vtd) fn into_frames(self) -> Frames {
        self.frames
    }
}
