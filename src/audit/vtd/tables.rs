//! Root and context tables, from the root table address on.
#![forbid(unsafe_code)]

use super::LiveRegisters;
use super::context_entry::{LiveContextEntry, LiveTarget};
use super::root_entry::RootEntry;
use crate::addr::{PhysAddr, Requester};
use crate::audit::{Difference, Reach};
use crate::hal::{Hal, RegisterWindow};

/// What is found, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// Something that is wrong by itself.
    Wrong(Difference),
    /// A context table.
    ContextTable(u64),
    /// The context entry of this requester is not present, and not all zero.
    Absent(Requester, Difference),
    /// The requests of this requester are let through.
    Function(Requester, LiveTarget),
    /// What a page table leads to, ascending.
    Run(Reach),
}

/// The tables of a unit in legacy mode.
pub(crate) struct LiveTables<'h, H> {
    pub(super) hal: &'h H,
    pub(super) window: RegisterWindow,
    pub(super) registers: LiveRegisters,
    pub(super) host_bits: u8,
    root: PhysAddr,
}

impl<'h, H: Hal> LiveTables<'h, H> {
    pub(crate) fn new(
        hal: &'h H,
        window: RegisterWindow,
        registers: LiveRegisters,
        root: PhysAddr,
        host_bits: u8,
    ) -> Self {
        Self { hal, window, registers, host_bits: host_bits.min(52), root }
    }

    pub(crate) fn root(&self) -> PhysAddr {
        self.root
    }

    /// The word at `index` of a table; `None` if the platform does not let it be read.
    pub(super) fn word(&self, table: u64, index: u64) -> Option<u64> {
        self.hal.word_at(PhysAddr::try_new(table.checked_add(index * 8)?).ok()?)
    }

    fn pair(&self, table: u64, index: u64) -> Option<[u64; 2]> {
        Some([self.word(table, 2 * index)?, self.word(table, 2 * index + 1)?])
    }

    /// Where the requests of one requester go, if they are let through.
    pub(crate) fn target(&self, requester: Requester) -> Option<LiveTarget> {
        let root = RootEntry(self.pair(self.root.as_u64(), requester.bus().into())?);
        let table = root.context_table().filter(|_| root.reserved(self.host_bits) == [0, 0])?;
        let entry = LiveContextEntry(self.pair(table, requester.devfn().into())?);
        let valid = entry.is_present() && entry.reserved(&self.registers, self.host_bits) == [0, 0];
        if valid { entry.target() } else { None }
    }

    /// Goes through all entries of the root table and of each context table.
    pub(crate) fn functions(&self, each: &mut dyn FnMut(Seen)) {
        let root = self.root.as_u64();
        for bus in 0..=u8::MAX {
            let Some(words) = self.pair(root, bus.into()) else { return self.unreadable(root, each) };
            let entry = RootEntry(words);
            match entry.context_table() {
                None => self.ignored_bits(root, bus, words, each),
                Some(table) if entry.reserved(self.host_bits) == [0, 0] => {
                    each(Seen::ContextTable(table));
                    self.context_table(bus, table, each);
                }
                Some(table) => {
                    each(Seen::ContextTable(table));
                    self.malformed(root, bus, entry.reserved(self.host_bits), each);
                }
            }
        }
    }

    fn context_table(&self, bus: u8, table: u64, each: &mut dyn FnMut(Seen)) {
        for devfn in 0..=u8::MAX {
            let Some(words) = self.pair(table, devfn.into()) else { return self.unreadable(table, each) };
            let entry = LiveContextEntry(words);
            let requester = Requester::new(u16::from(bus) << 8 | u16::from(devfn));
            if !entry.is_present() {
                for &(at, bits) in halves(table, devfn, entry.ignored()).iter().filter(|(_, bits)| *bits != 0) {
                    each(Seen::Absent(requester, Difference::IgnoredBits { unit: self.window, at, bits }));
                }
                continue;
            }
            self.ignored_bits(table, devfn, entry.ignored(), each);
            match (entry.reserved(&self.registers, self.host_bits), entry.target()) {
                ([0, 0], Some(target)) => each(Seen::Function(requester, target)),
                (bits, _) => self.malformed(table, devfn, bits, each),
            }
        }
    }

    pub(super) fn unreadable(&self, table: u64, each: &mut dyn FnMut(Seen)) {
        each(Seen::Wrong(Difference::Unreadable { unit: self.window, table }));
    }

    #[inline(never)]
    fn ignored_bits(&self, table: u64, entry: u8, bits: [u64; 2], each: &mut dyn FnMut(Seen)) {
        for &(at, bits) in halves(table, entry, bits).iter().filter(|(_, bits)| *bits != 0) {
            each(Seen::Wrong(Difference::IgnoredBits { unit: self.window, at, bits }));
        }
    }

    #[inline(never)]
    fn malformed(&self, table: u64, entry: u8, bits: [u64; 2], each: &mut dyn FnMut(Seen)) {
        for &(at, bits) in halves(table, entry, bits).iter().filter(|(_, bits)| *bits != 0) {
            each(Seen::Wrong(Difference::Malformed { unit: self.window, at, bits }));
        }
    }
}

/// The halves of an entry of 128 bits: where they are, and what `bits` has of them.
fn halves(table: u64, entry: u8, [lower, upper]: [u64; 2]) -> [(PhysAddr, u64); 2] {
    let first = table.wrapping_add(16 * u64::from(entry));
    [(PhysAddr::new_truncate(first), lower), (PhysAddr::new_truncate(first.wrapping_add(8)), upper)]
}
