//! The tables in which a unit looks up what happens to a function's requests: a root table with an entry for each bus, and
//! behind it a context table for each bus that has a function with an entry (S 3.4, 9.1 to 9.4).
//!
//! They are those of legacy mode; how its entries are coded is in [`legacy`].

mod legacy;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::addr::{PhysAddr, Requester};
use crate::contract::{DomainId, Features, Stage, Translation};
use crate::hal::{FrameList, Frames, Hal, NoFrame, WORDS};
use crate::invalidation::{DeviceTlb, Flush};
use legacy::context_entry::{self, ContextEntry};
use legacy::root_entry;

/// The tables of one unit. They are edited by one caller at a time; the front's lock sees to that.
#[derive(Debug)]
pub(super) struct Tables {
    root: Frames,
    /// The unit snoops the CPU's caches when it reads them.
    coherent: bool,
    /// An entry of the root table became present that was not flushed yet: the next entry that becomes present asks for
    /// everything.
    root_changed: AtomicBool,
    frames: AtomicU32,
    /// Sum of the addresses of all tables, modulo 2^64: what an audit has to find.
    sum: AtomicU64,
}

impl Tables {
    /// Tables in which no function has an entry: the unit blocks every request.
    pub(super) fn new(hal: &impl Hal, host_bits: u8, coherent: bool) -> Result<Self, NoFrame> {
        let tables = Self {
            root: Frames::allocate(hal, 0, host_bits)?,
            coherent,
            root_changed: AtomicBool::new(false),
            frames: AtomicU32::new(0),
            sum: AtomicU64::new(0),
        };
        tables.publish(hal, &tables.root);
        Ok(tables)
    }

    /// Where the root table is: what RTADDR_REG has in legacy mode.
    pub(super) fn root(&self) -> PhysAddr {
        self.root.base()
    }

    /// Sum of the addresses of the root table and of all context tables, modulo 2^64.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Frames in use.
    pub(super) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Counts a fresh table and has the unit see it as it is.
    fn publish(&self, hal: &impl Hal, table: &Frames) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(table.base().as_u64(), Ordering::Relaxed);
        self.written(hal, table, 0, WORDS);
    }

    /// Writes part of a table back, where the unit does not snoop (R37), and orders it before what follows.
    fn written(&self, hal: &impl Hal, table: &Frames, word: usize, words: usize) {
        if !self.coherent {
            table.write_back(hal, word, words);
        }
        hal.fence();
    }

    /// The context table of a bus, if there is one.
    fn context_table(&self, hal: &impl Hal, bus: u8) -> Option<Frames> {
        let base = root_entry::context_table(self.root.load(hal, root_entry::word(bus)))?;
        // SAFETY: the root entry leads to a context table of ours, which is not freed before the root table.
        Some(unsafe { Frames::at(hal, base) })
    }

    /// How many frames [`attach`](Self::attach) or [`mute`](Self::mute) takes for these requesters: one for each bus without
    /// a context table.
    pub(super) fn frames_needed(&self, hal: &impl Hal, requesters: impl Iterator<Item = Requester>) -> usize {
        let mut seen = [0_u64; 4];
        let mut needed = 0;
        for bus in requesters.map(Requester::bus) {
            let Some(word) = seen.get_mut(usize::from(bus >> 6)) else { continue };
            let bit = 1 << (bus & 63);
            needed += usize::from(*word & bit == 0 && self.context_table(hal, bus).is_none());
            *word |= bit;
        }
        needed
    }

    /// Makes sure that a bus has a context table, out of `frames` if it has none.
    fn ensure_context_table(&self, hal: &impl Hal, bus: u8, frames: &mut FrameList) {
        if self.context_table(hal, bus).is_some() {
            return;
        }
        if let Some(table) = frames.pop(hal).map(Frames::from) {
            self.publish(hal, &table);
            let word = root_entry::word(bus);
            self.root.store(hal, word, root_entry::present(table.base()));
            self.written(hal, &self.root, word, 1);
            self.root_changed.store(true, Ordering::Relaxed);
        }
    }

    /// Has the requests of these requesters translated, which were blocked until now (R35). They are once `flush` is done.
    /// Those that are muted stay so. `frames` has what [`frames_needed`](Self::frames_needed) says.
    pub(super) fn attach(
        &self,
        hal: &impl Hal,
        unit: &Features,
        requesters: &[Requester],
        to: Translation,
        frames: &mut FrameList,
        flush: &mut Flush<'_>,
    ) {
        let Stage::Table { root, levels } = to.stage;
        let entry = ContextEntry::second_stage(root, levels, to.domain.get(), to.device_tlb);
        for &requester in requesters {
            self.ensure_context_table(hal, requester.bus(), frames);
            self.for_entry(hal, requester, |table, word| entry.write(hal, table, word));
        }
        flush.entry_set(unit, requesters, Some(to.domain), self.take_root_changed());
    }

    fn take_root_changed(&self) -> bool {
        self.root_changed.swap(false, Ordering::Relaxed)
    }

    /// Blocks the requests of these requesters, whose entries have this domain's id. Once `flush` is done, none is under way
    /// and nothing of the domain is cached for them; [`erase`](Self::erase) comes then. May be repeated.
    pub(super) fn block(
        &self,
        hal: &impl Hal,
        requesters: &[Requester],
        from: Option<DomainId>,
        device_tlb: Option<DeviceTlb>,
        flush: &mut Flush<'_>,
    ) {
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| context_entry::block(hal, table, word));
        }
        flush.entry_cleared(requesters, from, device_tlb);
    }

    /// Clears what is left of the entries of requesters that are blocked. The unit need not see that at once; with the
    /// next `flush` it does.
    pub(super) fn erase(&self, hal: &impl Hal, unit: &Features, requesters: &[Requester], flush: &mut Flush<'_>) {
        for &requester in requesters {
            self.for_entry(hal, requester, |table, word| context_entry::erase(hal, table, word));
        }
        flush.not_cached(unit);
    }

    /// Has no faults of a requester recorded, or has them recorded again, whether its entry is present or not (S 9.3): FPD
    /// outlives P.
    ///
    /// FPD alone changes, by one store of the half that holds it, so the entry says before and after what it has to; a
    /// 16-byte store would only be needed if the domain-id changed, too (R36, S 6.2.2.1).
    pub(super) fn mute(
        &self,
        hal: &impl Hal,
        unit: &Features,
        requester: Requester,
        muted: bool,
        frames: &mut FrameList,
        flush: &mut Flush<'_>,
    ) {
        self.ensure_context_table(hal, requester.bus(), frames);
        self.for_entry(hal, requester, |table, word| {
            let Some(entry) = context_entry::set_fpd(hal, table, word, muted) else { return };
            match entry.domain_id() {
                Some(id) => flush.entry_cleared(&[requester], DomainId::new(id), None),
                // As for any other entry, what is not present is cached with domain-id 0, if at all.
                None => flush.entry_set(unit, &[requester], None, self.take_root_changed()),
            }
        });
    }

    /// Edits a context entry, given its table and the index of its lower half, and makes the edit visible.
    fn for_entry(&self, hal: &impl Hal, requester: Requester, edit: impl FnOnce(&Frames, usize)) {
        if let Some(table) = self.context_table(hal, requester.bus()) {
            let word = context_entry::word(requester.devfn());
            edit(&table, word);
            self.written(hal, &table, word, 2);
        }
    }

    /// Gives all frames back.
    ///
    /// # Safety
    ///
    /// The unit has confirmed that it does not translate.
    pub(super) unsafe fn free(self, hal: &impl Hal) {
        for bus in 0..=u8::MAX {
            if let Some(table) = self.context_table(hal, bus) {
                // SAFETY: the caller says that the unit walks no table.
                unsafe { table.free(hal) };
            }
        }
        // SAFETY: as above.
        unsafe { self.root.free(hal) };
    }
}
