//! Root and context tables, from the root table address on.
#![forbid(unsafe_code)]

use super::LiveRegisters;
use super::context_entry::{LiveContextEntry, LiveTarget};
use super::root_entry::RootEntry;
use crate::addr::{PhysAddr, Requester};
use crate::audit::{Difference, Findings};
use crate::hal::{Hal, RegisterWindow};

/// What root and context tables have, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// A context table.
    ContextTable(u64),
    /// The context entry of this requester is not present, and not all zero.
    Absent(Requester, Ignored),
    /// The requests of this requester are let through.
    Function(Requester, LiveTarget),
}

/// Bits that are set in an entry of 128 bits and that its unit ignores: where each half of the entry is, and its bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ignored {
    unit: RegisterWindow,
    halves: [(PhysAddr, u64); 2],
}

impl Ignored {
    pub(crate) fn report(&self, findings: &mut Findings<'_>) {
        for &(at, bits) in self.halves.iter().filter(|(_, bits)| *bits != 0) {
            findings.report(Difference::IgnoredBits { unit: self.unit, at, bits });
        }
    }
}

/// All entries of the root table and of each context table, as [`LiveTables::functions`] begins with them.
pub(crate) struct TableEntries<'t, 'h, H> {
    tables: &'t LiveTables<'h, H>,
    /// The root entry that is read next.
    bus: u16,
    /// The context table that is being read: that of the bus before.
    table: Option<u64>,
    /// The context entry that is read next.
    devfn: u16,
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
    pub(crate) fn functions(&self) -> TableEntries<'_, 'h, H> {
        TableEntries { tables: self, bus: 0, table: None, devfn: 0 }
    }

    pub(super) fn unreadable(&self, table: u64, findings: &mut Findings<'_>) {
        findings.report(Difference::Unreadable { unit: self.window, table });
    }

    fn ignored(&self, table: u64, entry: u8, bits: [u64; 2]) -> Ignored {
        Ignored { unit: self.window, halves: halves(table, entry, bits) }
    }

    #[inline(never)]
    fn malformed(&self, table: u64, entry: u8, bits: [u64; 2], findings: &mut Findings<'_>) {
        for &(at, bits) in halves(table, entry, bits).iter().filter(|(_, bits)| *bits != 0) {
            findings.report(Difference::Malformed { unit: self.window, at, bits });
        }
    }
}

impl<H: Hal> TableEntries<'_, '_, H> {
    /// Goes on to what the next entry has that is not all zero; `None` at the end. Reports what is wrong by itself on the way.
    #[inline(never)]
    pub(crate) fn next(&mut self, findings: &mut Findings<'_>) -> Option<Seen> {
        loop {
            let seen = match self.table {
                None => self.root_entry(u8::try_from(self.bus).ok()?, findings),
                Some(table) => self.context_entry(table, findings),
            };
            if seen.is_some() {
                return seen;
            }
        }
    }

    fn root_entry(&mut self, bus: u8, findings: &mut Findings<'_>) -> Option<Seen> {
        let (tables, root) = (self.tables, self.tables.root.as_u64());
        self.bus += 1;
        let Some(words) = tables.pair(root, bus.into()) else {
            self.bus = u16::MAX;
            tables.unreadable(root, findings);
            return None;
        };
        let entry = RootEntry(words);
        let Some(table) = entry.context_table() else {
            tables.ignored(root, bus, words).report(findings);
            return None;
        };
        match entry.reserved(tables.host_bits) {
            [0, 0] => (self.table, self.devfn) = (Some(table), 0),
            bits => tables.malformed(root, bus, bits, findings),
        }
        Some(Seen::ContextTable(table))
    }

    fn context_entry(&mut self, table: u64, findings: &mut Findings<'_>) -> Option<Seen> {
        let (tables, bus) = (self.tables, self.bus - 1);
        let Ok(devfn) = u8::try_from(self.devfn) else {
            self.table = None;
            return None;
        };
        self.devfn += 1;
        let Some(words) = tables.pair(table, devfn.into()) else {
            self.table = None;
            tables.unreadable(table, findings);
            return None;
        };
        let (entry, requester) = (LiveContextEntry(words), Requester::new(bus << 8 | u16::from(devfn)));
        let ignored = tables.ignored(table, devfn, entry.ignored());
        if !entry.is_present() {
            return (entry.ignored() != [0, 0]).then_some(Seen::Absent(requester, ignored));
        }
        ignored.report(findings);
        match (entry.reserved(&tables.registers, tables.host_bits), entry.target()) {
            ([0, 0], Some(target)) => Some(Seen::Function(requester, target)),
            (bits, _) => {
                tables.malformed(table, devfn, bits, findings);
                None
            }
        }
    }
}

/// The halves of an entry of 128 bits: where they are, and what `bits` has of them.
fn halves(table: u64, entry: u8, [lower, upper]: [u64; 2]) -> [(PhysAddr, u64); 2] {
    let first = table.wrapping_add(16 * u64::from(entry));
    [(PhysAddr::new_truncate(first), lower), (PhysAddr::new_truncate(first.wrapping_add(8)), upper)]
}
