//! What hardware can see of an edit, store by store.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

each_format! {
    every_edit_is_written_back_in_order_each_line_once,
    no_line_is_written_back_that_was_not_touched,
}

const LINE: u64 = 64;

/// Hardware that walks a table while it is edited.
///
/// Memory holds a word once its line was written back and a fence followed; until then hardware may find what was there
/// before, also the word that a fresh frame had before it was zeroed. A coherent table is in memory at once.
pub(super) struct Watch<F> {
    format: F,
    coherent: bool,
    root: u64,
    levels: u8,
    words: BTreeMap<u64, u64>,
    /// The tables that hardware can walk: their level, and the entry that leads to each.
    tables: BTreeMap<u64, (u8, Option<u64>)>,
    /// Stored, and not in memory yet.
    pending: BTreeSet<u64>,
    flushing: BTreeSet<u64>,
    /// What the journal held in all.
    fences: usize,
    lines: usize,
    runs: usize,
}

impl<F: Format> Watch<F> {
    pub(super) fn new(table: &PageTable<F>) -> Self {
        let (coherent, root, levels) = (table.coherent, table.root().as_u64(), table.geometry.levels);
        let (words, pending, flushing) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let tables = BTreeMap::from([(root, (levels, None))]);
        let format = table.format;
        Self { format, coherent, root, levels, words, tables, pending, flushing, fences: 0, lines: 0, runs: 0 }
    }

    /// Goes through what was done since the last call.
    pub(super) fn check(&mut self, hal: &Fake) {
        for deed in hal.journal() {
            match deed {
                Deed::Allocate { at } => {
                    let words = (at..at + 4096).step_by(8);
                    words.clone().for_each(|word| _ = self.words.insert(word, 0));
                    if !self.coherent {
                        self.pending.extend(words);
                    }
                }
                Deed::Free { at } => {
                    assert!(!self.tables.contains_key(&at), "freed while something leads there (R31)");
                    let gone = |word: &u64| *word & !0xfff != at;
                    self.words.retain(|word, _| gone(word));
                    self.pending.retain(gone);
                }
                Deed::Store { at, value } => self.store(at, value),
                Deed::WriteBack { at, bytes } => {
                    assert!(!self.coherent && bytes > 0, "nothing to write back");
                    self.runs += 1;
                    for line in (at & !(LINE - 1)..at + bytes as u64).step_by(LINE as usize) {
                        self.lines += 1;
                        assert!(self.pending.range(line..line + LINE).next().is_some(), "{line:#x} was not touched");
                        assert!(self.flushing.insert(line), "{line:#x} is written back twice");
                    }
                }
                Deed::Fence => {
                    self.fences += 1;
                    for word in std::mem::take(&mut self.flushing).into_iter().flat_map(|line| line..line + LINE) {
                        self.pending.remove(&word);
                    }
                }
            }
        }
        let lost = self.tables.keys().flat_map(|&table| self.pending.range(table..table + 4096)).next();
        assert_eq!(lost, None, "never written back (R37)");
    }

    fn store(&mut self, at: u64, value: u64) {
        let mut links = false;
        if let Some(&(level, leads_here)) = self.tables.get(&(at & !0xfff)) {
            let way = leads_here.is_some_and(|word| self.pending.contains(&word));
            assert!(!way, "changed before the way there was in memory (R32)");
            let old = self.format.decode(self.words[&at], level);
            if matches!(old, Entry::Table(_)) {
                let entry = self.words[&at];
                for below in self.below(entry, level).into_keys().filter(|_| value != 0) {
                    let pending = self.pending.range(below..below + 4096).next();
                    assert_eq!(pending, None, "joined before its parts were in memory (R32)");
                }
            }
            let new = self.format.decode(value, level);
            links = matches!(old, Entry::Table(_)) || matches!(new, Entry::Table(_));
            if let (Entry::Table(_), Entry::Page { .. }) | (Entry::Page { .. }, Entry::Table(_)) = (old, new) {
                assert_eq!(self.one_page(self.words[&at], level), self.one_page(value, level), "not alike (R32)");
            }
            for below in self.below(value, level).into_keys() {
                let pending = self.pending.range(below..below + 4096).next();
                assert_eq!(pending, None, "linked before it was in memory (R37)");
            }
        }
        self.words.insert(at, value);
        if links {
            self.tables = self.reachable();
        }
        self.flushing.remove(&(at & !(LINE - 1)));
        if !self.coherent {
            self.pending.insert(at);
        }
    }

    fn reachable(&self) -> BTreeMap<u64, (u8, Option<u64>)> {
        let mut all = BTreeMap::from([(self.root, (self.levels, None))]);
        self.add_below(self.root, self.levels, &mut all);
        all
    }

    fn below(&self, entry: u64, level: u8) -> BTreeMap<u64, (u8, Option<u64>)> {
        let mut all = BTreeMap::new();
        if let Entry::Table(next) = self.format.decode(entry, level) {
            all.insert(next.as_u64(), (level - 1, None));
            self.add_below(next.as_u64(), level - 1, &mut all);
        }
        all
    }

    fn add_below(&self, table: u64, level: u8, all: &mut BTreeMap<u64, (u8, Option<u64>)>) {
        if level == 1 {
            return;
        }
        for (&word, &entry) in self.words.range(table..table + 4096).filter(|(_, entry)| **entry != 0) {
            if let Entry::Table(next) = self.format.decode(entry, level) {
                assert!(all.insert(next.as_u64(), (level - 1, Some(word))).is_none(), "two ways to one table");
                self.add_below(next.as_u64(), level - 1, all);
            }
        }
    }

    /// The page that all below this entry is, if it is one.
    fn one_page(&self, entry: u64, level: u8) -> Option<(u64, Rights)> {
        match self.format.decode(entry, level) {
            Entry::Absent => None,
            Entry::Page { output, rights } => Some((output, rights)),
            Entry::Table(next) => {
                let words = self.words.range(next.as_u64()..next.as_u64() + 4096);
                let pages: Option<Vec<_>> = words.map(|(_, &word)| self.one_page(word, level - 1)).collect();
                let pages = pages?;
                let (first, rights) = pages[0];
                let alike = |(page, at): (&(u64, Rights), u64)| *page == (first + at * page_bytes(level - 1), rights);
                pages.iter().zip(0..).all(alike).then_some((first, rights))
            }
        }
    }
}

pub(super) fn watched<F: Sample>(geometry: Geometry, coherent: bool) -> (Bench<F>, Watch<F>) {
    let hal = Fake::new(96);
    let table = PageTable::new(&hal, F::FORMAT, geometry, coherent).unwrap();
    let mut watch = Watch::new(&table);
    watch.check(&hal);
    (Bench { hal, table }, watch)
}

fn every_edit_is_written_back_in_order_each_line_once<F: Sample>() {
    for coherent in [false, true] {
        let (mut bench, mut watch) = watched::<F>(F::GEOMETRY, coherent);
        let (input, hole) = (GIB - MIB2 - KIB4, GIB + 3 * MIB2 + 7 * KIB4);
        let _ = bench.map(input, input, GIB + 9 * MIB2);
        watch.check(&bench.hal);
        let _ = bench.map(8 * GIB, KIB4, 700 * KIB4);
        watch.check(&bench.hal);
        for count in [1, 700] {
            let _ = bench.unmap(hole, count * KIB4);
            watch.check(&bench.hal);
            let unlinked = bench.table.unlinked();
            let _ = bench.map(hole, hole, count * KIB4);
            watch.check(&bench.hal);
            assert_eq!(bench.table.unlinked() - unlinked, 1 + (count as usize).div_ceil(512), "whole again");
        }
        for rights in [Rights::READ, RW] {
            let _ = bench.protect(hole, 600 * KIB4, rights);
            watch.check(&bench.hal);
        }
        let _ = bench.unmap(0, 1 << 40);
        watch.check(&bench.hal);
        assert_eq!(watch.fences == 0, coherent);
        assert_eq!(watch.lines == 0, coherent);
    }
}

/// Lines written back and fences since the last call.
fn cost<F: Format>(bench: &Bench<F>, watch: &mut Watch<F>) -> (usize, usize) {
    (watch.lines, watch.fences) = (0, 0);
    watch.check(&bench.hal);
    (watch.lines, watch.fences)
}

fn no_line_is_written_back_that_was_not_touched<F: Sample>() {
    let (mut bench, mut watch) = watched::<F>(Geometry { max_leaf_level: 1, ..F::GEOMETRY }, false);
    let _ = bench.map(0, KIB4, KIB4);
    assert_eq!(
        cost(&bench, &mut watch),
        ((F::LEVELS - 1) * 64 + 1, 2),
        "the fresh tables whole, before the entry that leads there"
    );
    let _ = bench.map(7 * KIB4, KIB4, 2 * KIB4);
    assert_eq!(cost(&bench, &mut watch), (2, 1));
    let _ = bench.map(100 * KIB4, KIB4, KIB4);
    assert_eq!(cost(&bench, &mut watch), (1, 1));
    let _ = bench.map(120 * KIB4, KIB4, 16 * KIB4);
    assert_eq!(cost(&bench, &mut watch), (2, 1));
    let _ = bench.unmap(8 * KIB4, 120 * KIB4);
    assert_eq!(cost(&bench, &mut watch), (3, 1), "what was absent stays in memory as it is");
    let _ = bench.unmap(7 * KIB4, KIB4);
    assert_eq!(cost(&bench, &mut watch), (1, 1));
    let _ = bench.unmap(0, MIB2);
    assert_eq!(cost(&bench, &mut watch), (1, 1), "a table that is let go is not written");
    let _ = bench.map(0, KIB4, 64 * KIB4);
    let _ = bench.unmap(0, KIB4);
    watch.check(&bench.hal);
    watch.runs = 0;
    let _ = bench.unmap(4 * KIB4, 30 * KIB4);
    assert_eq!((cost(&bench, &mut watch), watch.runs), ((5, 1), 1), "lines that follow each other in one go");
    let _ = bench.unmap(0, MIB2);
    watch.check(&bench.hal);
    let _ = bench.map(GIB - MIB2, 0, 2 * MIB2);
    assert_eq!(cost(&bench, &mut watch), ((F::LEVELS + 1) * 64 + 1, 2), "one fence for all the fresh tables");
    let _ = bench.protect(GIB - 2 * KIB4, 4 * KIB4, Rights::READ);
    assert_eq!(cost(&bench, &mut watch), (2, 1));
    let change = bench.protect(GIB - 2 * KIB4, 4 * KIB4, Rights::READ);
    assert_eq!((cost(&bench, &mut watch), change.was_present), ((0, 1), false), "nothing is new");
}
