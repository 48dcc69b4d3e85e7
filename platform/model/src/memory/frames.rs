//! Frames: who owns them, what came through the seam, and what hardware sees of it.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use crate::judge::journal::{Event, Journal};
use crate::memory::arena::{Arena, WORDS};
use crate::memory::lines::{Line, Lines, STALE};
use crate::random::Random;

/// What a freed frame is filled with, so that a use after that shows.
pub(crate) const FREED: u64 = 0x5c5c_5c5c_5c5c_5c5c;

/// What a unit sees of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum View {
    /// It snoops the CPU's caches (ECAP.C = 1): each store at once.
    Snooped,
    /// It does not (ECAP.C = 0): what was written back.
    Memory,
}

#[derive(Debug)]
pub(crate) struct Memory {
    arena: Arc<Arena>,
    /// What came through `store`, and what hardware wrote: the coherent truth.
    stored: Vec<u64>,
    pub(crate) lines: Lines,
    /// Order + 1 in the first frame of an allocation, `INSIDE` in the others, 0 in free ones.
    owner: Vec<u8>,
    next: usize,
    in_use: usize,
    /// How many allocations still succeed, if that is limited.
    pub(crate) allocations_left: Option<u64>,
}

const INSIDE: u8 = u8::MAX;

impl Memory {
    pub(crate) fn new(arena: Arc<Arena>, frames: usize, all_snoop: bool, evicts: bool) -> Self {
        let words = frames * WORDS;
        Self {
            arena,
            stored: vec![0; words],
            lines: Lines::new(frames, all_snoop, evicts),
            owner: vec![0; frames],
            next: 0,
            in_use: 0,
            allocations_left: None,
        }
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// The address of each frame that is allocated, and what was stored there.
    pub(crate) fn snapshot(&self, base: u64) -> Vec<(u64, Vec<u64>)> {
        let frames = self.stored.chunks(WORDS).zip(&self.owner).zip((base..).step_by(4096));
        frames.filter(|((_, owner), _)| **owner != 0).map(|((words, _), address)| (address, words.to_vec())).collect()
    }

    /// True if the word at `index` is in a frame that is allocated.
    pub(crate) fn is_allocated(&self, index: usize) -> bool {
        self.owner.get(index / WORDS).is_some_and(|owner| *owner != 0)
    }

    pub(crate) fn index(&self, address: u64) -> Option<usize> {
        self.arena.index(address)
    }

    pub(crate) fn allocate(&mut self, order: u8, journal: &mut Journal) -> Option<u64> {
        if let Some(left) = &mut self.allocations_left {
            *left = left.checked_sub(1)?;
        }
        let count = 1_usize.checked_shl(order.into())?;
        let slots = self.owner.len() / count;
        let start = self.next / count;
        let slot = (0..slots).map(|step| (start + step) % slots).find(|slot| {
            self.owner
                .get(slot * count..(slot + 1) * count)
                .is_some_and(|frames| frames.iter().all(|owner| *owner == 0))
        })?;
        let first = slot * count;
        for frame in first..first + count {
            let owner = if frame == first { order + 1 } else { INSIDE };
            self.fill(frame, owner, 0, STALE);
        }
        self.next = first + count;
        self.in_use += count;
        let address = self.arena.address(first * WORDS);
        journal.push(Event::Allocate { address, order });
        Some(address)
    }

    fn fill(&mut self, frame: usize, owner: u8, cpu: u64, memory: u64) {
        let words = frame * WORDS..(frame + 1) * WORDS;
        self.arena.fill(words.clone(), cpu);
        if let Some(stored) = self.stored.get_mut(words) {
            stored.fill(cpu);
        }
        if let Some(state) = self.owner.get_mut(frame) {
            *state = owner;
        }
        self.lines.fill(frame, memory, owner != 0);
    }

    /// The frames of an allocation; `None` if there is none like that.
    pub(crate) fn allocation(&self, address: u64, order: u8) -> Option<Range<usize>> {
        let first = self.index(address)? / WORDS;
        let owned = *self.owner.get(first)? == order + 1 && address.is_multiple_of(4096);
        owned.then(|| first..first + (1 << order))
    }

    /// Takes the frames of an allocation back.
    pub(crate) fn release(&mut self, frames: Range<usize>) {
        self.in_use -= frames.len();
        for frame in frames {
            self.fill(frame, 0, FREED, FREED);
        }
    }

    pub(crate) fn frames(&self) -> usize {
        self.owner.len()
    }

    /// A store of the driver. Returns what was there before, as it came through the seam.
    pub(crate) fn store(&mut self, index: usize, value: u64, journal: &mut Journal) -> u64 {
        let old = self.stored(index);
        journal.push(Event::Store { address: self.arena.address(index), old, new: value });
        self.check_seam(index, journal);
        self.set(index, value);
        self.lines.stored_to(index);
        old
    }

    /// A store of hardware: always seen by the CPU (section 11.4.3, ECAP.C).
    pub(crate) fn set(&mut self, index: usize, value: u64) {
        self.arena.set(index, value);
        if let Some(word) = self.stored.get_mut(index) {
            *word = value;
        }
    }

    /// Hardware sets bits of a word that the CPU may change at the same time.
    pub(crate) fn set_bits(&mut self, index: usize, bits: u64) {
        let value = self.arena.set_bits(index, bits);
        if let Some(word) = self.stored.get_mut(index) {
            *word = value;
        }
    }

    /// Finds a store that went past the seam.
    fn check_seam(&self, index: usize, journal: &mut Journal) {
        let (cpu, stored) = (self.arena.get(index), self.stored(index));
        if cpu != stored {
            let address = self.arena.address(index);
            journal.violation("HAL", format_args!("{address:#x} holds {cpu:#x}, which did not come through `store`"));
        }
    }

    /// The same for all words of a frame.
    pub(crate) fn check_frame(&self, frame: usize, journal: &mut Journal) {
        (frame * WORDS..(frame + 1) * WORDS).for_each(|index| self.check_seam(index, journal));
    }

    pub(crate) fn stored(&self, index: usize) -> u64 {
        self.stored.get(index).copied().unwrap_or(STALE)
    }

    /// What a unit with this view reads at a word.
    pub(crate) fn seen(&self, view: View, index: usize) -> u64 {
        match view {
            View::Snooped => self.stored(index),
            View::Memory => self.lines.seen(index),
        }
    }

    /// Starts to write lines back. Memory holds them after the next [`fence`](Self::fence), at the latest.
    pub(crate) fn write_back(&mut self, index: usize, bytes: usize, journal: &mut Journal) {
        journal.push(Event::WriteBack { address: self.arena.address(index), bytes });
        self.lines.write_back(index, bytes, &self.stored);
    }

    /// The lines that were pending: memory takes them over one by one through [`Lines::arrive`].
    pub(crate) fn fence(&mut self, random: Option<&mut Random>, journal: &mut Journal) -> Vec<Line> {
        journal.push(Event::Fence);
        self.lines.take_pending(random)
    }

    /// A line that the CPU's cache gives up by itself now.
    pub(crate) fn evict(&mut self, random: &mut Random) -> Option<Line> {
        self.lines.evict(random, &self.stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::lines::LINE;

    fn memory(evicts: bool) -> (Memory, Journal, usize) {
        let (mut memory, mut journal) = (Memory::new(Arc::new(Arena::new(0, 2)), 2, false, evicts), Journal::default());
        memory.allocate(0, &mut journal).unwrap();
        let index = 8;
        memory.store(index, 1, &mut journal);
        memory.write_back(index, 8, &mut journal);
        memory.store(index, 2, &mut journal);
        (memory, journal, index)
    }

    fn fence(memory: &mut Memory, journal: &mut Journal) {
        for (line, content) in memory.fence(None, journal) {
            memory.lines.arrive(line, content);
        }
    }

    #[test]
    fn memory_has_what_was_there_at_the_write_back_after_the_fence() {
        let (mut memory, mut journal, index) = memory(false);
        assert_eq!((memory.seen(View::Snooped, index), memory.seen(View::Memory, index)), (2, STALE));
        fence(&mut memory, &mut journal);
        assert_eq!(memory.seen(View::Memory, index), 1);
        assert!(!memory.lines.is_written_back(0));
    }

    #[test]
    fn write_backs_come_in_any_order_except_those_of_one_line() {
        let (mut first, mut random) = (Vec::new(), Random::new(0));
        for _ in 0..16 {
            let (mut memory, mut journal, index) = memory(false);
            memory.write_back(index + LINE, 8, &mut journal);
            memory.write_back(index, 8, &mut journal);
            let lines = memory.fence(Some(&mut random), &mut journal);
            first.push(lines[0].0 == index / LINE);
            let of_one: Vec<u64> = lines.iter().filter(|(line, _)| *line == index / LINE).map(|(_, w)| w[0]).collect();
            assert_eq!((lines.len(), of_one), (3, vec![1, 2]));
        }
        assert!(first.contains(&true) && first.contains(&false));
    }

    #[test]
    fn a_line_that_was_evicted_never_goes_back() {
        let (mut memory, mut journal, index) = memory(true);
        let (line, content) = memory.evict(&mut Random::new(0)).unwrap();
        memory.lines.arrive(line, content);
        fence(&mut memory, &mut journal);
        assert_eq!(memory.seen(View::Memory, index), 2);
    }
}
