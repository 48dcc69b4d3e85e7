//! Long histories of edits, each compared with a list of what is mapped.

use std::collections::BTreeMap;

use cofferdam_support::random::Random;

use super::journal::Watch;
use super::*;
use crate::addr::meets_interrupts;

each_format! {
    histories_of_3_levels,
    histories_of_4_levels,
    histories_of_5_levels,
    histories_of_6_levels,
    histories_as_hardware_sees_them,
}

/// What is mapped: from each key to a last address, to an output, with rights. No two overlap.
#[derive(Default)]
struct Expected(BTreeMap<u64, (u64, u64, Rights)>);

impl Expected {
    fn overlapping(&self, start: u64, last: u64) -> Vec<(u64, (u64, u64, Rights))> {
        let mut all: Vec<_> = self.0.range(..=last).map(|(&key, &value)| (key, value)).collect();
        all.retain(|(_, (end, ..))| *end >= start);
        all
    }

    /// Takes a range out and gives what was mapped there.
    fn take(&mut self, start: u64, last: u64) -> Vec<(u64, (u64, u64, Rights))> {
        let mut taken = Vec::new();
        for (first, (end, output, rights)) in self.overlapping(start, last) {
            self.0.remove(&first);
            if first < start {
                self.0.insert(first, (start - 1, output, rights));
            }
            if end > last {
                self.0.insert(last + 1, (end, output + (last + 1 - first), rights));
            }
            let from = first.max(start);
            taken.push((from, (end.min(last), output + (from - first), rights)));
        }
        taken
    }

    fn translate(&self, at: u64) -> Option<(PhysAddr, Rights)> {
        let (&first, &(last, output, rights)) = self.0.range(..=at).next_back()?;
        (at <= last).then(|| (PhysAddr::new(output + (at - first)), rights))
    }

    /// The mappings from `from` on, with what goes on put together.
    fn mappings(&self, from: u64) -> Vec<Region> {
        let mut all: Vec<Region> = Vec::new();
        for (&first, &(last, output, rights)) in self.0.iter().filter(|(_, (last, ..))| *last >= from) {
            let start = first.max(from);
            let next = region(start, output + (start - first), last - start + 1, rights);
            match all.last_mut() {
                Some(before)
                    if before.input.last().as_u64() + 1 == start
                        && before.output + before.input.bytes() == next.output
                        && before.rights == rights =>
                {
                    before.input = before.input.hull(next.input);
                }
                _ => all.push(next),
            }
        }
        all
    }
}

/// Frames of a table and those below; no table but the top one is empty, and none could be one page.
fn count_frames<F: Sample>(content: &BTreeMap<u64, Vec<u64>>, geometry: Geometry, table: u64, level: u8) -> usize {
    let words = &content[&table];
    assert!(level == geometry.levels || words.iter().any(|word| *word != 0), "an empty table at level {level}");
    if level < geometry.max_leaf_level
        && let Entry::Page { output, rights } = F::FORMAT.decode(words[0], level)
        && output.is_multiple_of(page_bytes(level + 1))
    {
        let page = |at: usize| F::FORMAT.page(output + at as u64 * page_bytes(level), rights, level);
        assert!(!words.iter().enumerate().all(|(at, word)| *word == page(at)), "a table that could be a page");
    }
    let below = words.iter().map(|word| match F::FORMAT.decode(*word, level) {
        Entry::Table(next) => count_frames::<F>(content, geometry, next.as_u64(), level - 1),
        Entry::Page { .. } => {
            assert!(level <= geometry.max_leaf_level);
            0
        }
        Entry::Absent => 0,
    });
    1 + below.sum::<usize>()
}

struct History<F> {
    bench: Bench<F>,
    expected: Expected,
    random: Random,
    watch: Option<Watch<F>>,
}

impl<F: Sample> History<F> {
    fn new(seed: u64, geometry: Geometry, coherent: bool, watched: bool) -> Self {
        let hal = Fake::new(24 + 4 * usize::from(geometry.levels));
        let table = PageTable::new(&hal, F::FORMAT, geometry, coherent).unwrap();
        let watch = watched.then(|| Watch::new(&table));
        let (random, expected) = (Random::new(seed), Expected::default());
        Self { bench: Bench { hal, table }, expected, random, watch }
    }

    /// A range at or around the places where tables meet, and inside of them.
    fn range(&mut self) -> (u64, u64) {
        let top = 1u64 << self.bench.table.geometry.input_bits;
        let random = &mut self.random;
        let places = [0, GIB, 3 * GIB, 512 * GIB, top / 2, top];
        let place = random.of(&places).min(top);
        let steps = [KIB4, KIB4, KIB4, MIB2, GIB];
        let mut near = |at: u64| {
            let step = random.of(&steps);
            let by = random.between(0, 6) * step;
            if random.one_in(2) { at.saturating_sub(by) } else { (at + by).min(top) }
        };
        let start = near(place);
        let start = near(start);
        let end = near(start);
        let (start, end) = (start.min(end), start.max(end));
        if start < top && start == end { (start, start + KIB4 - 1) } else { (start.min(end - KIB4), end - 1) }
    }

    fn step(&mut self) {
        let (start, last) = self.range();
        let (edited, rights) = (range(start, last - start + 1), self.random.of(&[Rights::READ, RW]));
        let (used, unlinked) = (self.bench.hal.used(), self.bench.table.unlinked());
        let Bench { hal, table } = &mut self.bench;
        let (change, needed) = match self.random.below(8) {
            0..4 => {
                // Outputs that go on where neighbours end, aligned like the input and otherwise.
                let apart = self.random.of(&[0, 0, 0, KIB4, MIB2, GIB]);
                let output = range((start & ((1 << 44) - 1)) + apart, last - start + 1);
                let region = Region { input: edited, output: PhysAddr::new(output.start().as_u64()), rights };
                let meets = |range: IovaRange| meets_interrupts(range.start().as_u64(), range.last().as_u64());
                let holes = table.geometry.holes;
                let occupied = self.expected.overlapping(start, last).first().map(|(first, _)| (*first).max(start));
                match (table.prepare_map(hal, region), occupied) {
                    (Err(MapError::Occupied(at)), Some(occupied)) => return assert_eq!(at, Iova::new(occupied)),
                    (Err(MapError::InputHole { hole, .. }), _) => {
                        let hole = (hole.first.as_u64(), hole.last.as_u64());
                        assert!(holes.iter().any(|known| (known.first.as_u64(), known.last.as_u64()) == hole));
                        return assert!(hole.0 <= last && start <= hole.1);
                    }
                    (Err(MapError::OutputInterrupts(_)), _) => return assert!(meets(output)),
                    (Err(MapError::NoFrame(_)), None) => return assert_eq!(hal.used(), used),
                    (Ok(prealloc), None) => {
                        self.expected.0.insert(start, (last, region.output.as_u64(), rights));
                        let needed = prealloc.0.len();
                        (table.map(hal, region, prealloc), needed)
                    }
                    (result, occupied) => panic!("{region}: {result:?}, but {occupied:x?}"),
                }
            }
            kind => {
                let Ok(prealloc) = table.prepare_edit(hal, edited) else { return assert_eq!(hal.used(), used) };
                let needed = prealloc.0.len();
                let taken = self.expected.take(start, last);
                if kind == 7 {
                    let differ = taken.iter().any(|(.., (_, _, old))| *old != rights);
                    for (first, (end, output, _)) in taken {
                        self.expected.0.insert(first, (end, output, rights));
                    }
                    let change = table.protect(hal, edited, rights, prealloc);
                    assert!(change.was_present || !differ);
                    (change, needed)
                } else {
                    let change = table.unmap(hal, edited, prealloc);
                    assert_eq!(change.was_present, !taken.is_empty());
                    (change, needed)
                }
            }
        };
        assert!(change.range.contains(edited));
        assert!(table.unlinked() == unlinked || change.was_present && change.tables);
        // What was prepared is in use, or has come back: to the last frame.
        assert_eq!(hal.used(), used + needed, "prepared too much");
        assert_eq!(hal.used(), table.frames() + table.unlinked());
        if !self.random.one_in(4) {
            // SAFETY: no hardware walks this table.
            unsafe { table.free_unlinked(hal) };
        }
        match &mut self.watch {
            Some(watch) => watch.check(hal),
            None => drop(hal.journal()),
        }
        for at in [start.wrapping_sub(1), start, last, last + 1, start.midpoint(last)] {
            assert_eq!(table.translate(hal, Iova::new(at)), self.expected.translate(at), "{at:#x}");
        }
    }

    fn compare(&mut self) {
        let from = if self.random.one_in(2) { 0 } else { self.range().0 + self.random.below(KIB4) };
        let mappings = self.bench.table.mappings(&self.bench.hal, Iova::new(from));
        assert_eq!(Vec::from_iter(mappings), self.expected.mappings(from));
        let Bench { hal, table } = &self.bench;
        let content = BTreeMap::from_iter(hal.content());
        let frames = count_frames::<F>(&content, table.geometry, table.root().as_u64(), table.geometry.levels);
        assert_eq!((table.frames(), hal.used()), (frames, frames + table.unlinked()));
    }
}

fn histories<F: Sample>(levels: u8, steps: usize, watched: bool) {
    for (max_leaf_level, coherent) in [(1, true), (2, true), (3, true), (1, false), (2, false), (3, false)] {
        let input_bits = (12 + 9 * levels).min(63);
        let geometry = Geometry::new(levels, max_leaf_level, input_bits, 46, F::GEOMETRY.holes).unwrap();
        let mut history = History::<F>::new(u64::from(max_leaf_level), geometry, coherent, watched);
        for step in 0..steps {
            history.step();
            if step % 64 == 0 {
                history.compare();
            }
        }
        let Bench { hal, table } = history.bench;
        // SAFETY: no hardware walks this table.
        unsafe { table.into_frames(&hal).free(&hal) };
        assert_eq!(hal.used(), 0);
    }
}

fn histories_of_3_levels<F: Sample>() {
    histories::<F>(3, 3_000, false);
}

fn histories_of_4_levels<F: Sample>() {
    histories::<F>(4, 3_000, false);
}

fn histories_of_5_levels<F: Sample>() {
    histories::<F>(5, 3_000, false);
}

fn histories_of_6_levels<F: Sample>() {
    histories::<F>(6, 3_000, false);
}

fn histories_as_hardware_sees_them<F: Sample>() {
    for levels in 3..=6 {
        histories::<F>(levels, 100, true);
    }
}
