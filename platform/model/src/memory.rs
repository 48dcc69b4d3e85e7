//! Frames: who owns them, what came through the seam, and what hardware sees of it.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use crate::arena::{Arena, WORDS};
use crate::journal::{Event, Journal};
use crate::random::Random;

/// What a freed frame is filled with, so that a use after that shows.
pub(crate) const FREED: u64 = 0x5c5c_5c5c_5c5c_5c5c;
/// What memory holds behind a fresh frame whose zeros are still in the CPU's caches.
pub(crate) const STALE: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// Words of one cache line.
pub(crate) const LINE: usize = 8;

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
    /// What a unit sees that does not snoop. Empty if all of them do.
    memory: Vec<u64>,
    /// Bit n: line n of the frame differs, or may differ, between the two.
    dirty: Vec<u64>,
    /// Lines on their way to memory, with what they held when that was asked for.
    pending: Vec<(usize, [u64; LINE])>,
    /// Order + 1 in the first frame of an allocation, `INSIDE` in the others, 0 in free ones.
    owner: Vec<u8>,
    next: usize,
    in_use: usize,
    /// How many allocations still succeed, if that is limited.
    pub(crate) allocations_left: Option<u64>,
    /// Lines that were stored to, where a seed chooses which of them are evicted.
    recent: Option<Vec<usize>>,
}

const INSIDE: u8 = u8::MAX;

impl Memory {
    pub(crate) fn new(arena: Arc<Arena>, frames: usize, all_snoop: bool, evicts: bool) -> Self {
        let words = frames * WORDS;
        Self {
            arena,
            stored: vec![0; words],
            memory: if all_snoop { Vec::new() } else { vec![0; words] },
            dirty: vec![0; frames],
            pending: Vec::new(),
            owner: vec![0; frames],
            next: 0,
            in_use: 0,
            allocations_left: None,
            recent: (evicts && !all_snoop).then(Vec::new),
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
        words.clone().for_each(|word| self.arena.set(word, cpu));
        if let Some(stored) = self.stored.get_mut(words.clone()) {
            stored.fill(cpu);
        }
        if let Some(view) = self.memory.get_mut(words.clone()) {
            view.fill(memory);
            self.pending.retain(|(line, _)| !words.contains(&(line * LINE)));
            if let Some(recent) = &mut self.recent {
                recent.retain(|line| !words.contains(&(line * LINE)));
            }
        }
        if let Some(state) = self.owner.get_mut(frame) {
            *state = owner;
        }
        if let Some(lines) = self.dirty.get_mut(frame) {
            *lines = if owner == 0 { 0 } else { u64::MAX };
        }
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

    /// True if memory holds all that was stored to the frame.
    pub(crate) fn is_written_back(&self, frame: usize) -> bool {
        let lines = frame * WORDS / LINE..(frame + 1) * WORDS / LINE;
        self.dirty.get(frame) == Some(&0) && !self.pending.iter().any(|(line, _)| lines.contains(line))
    }

    /// A store of the driver. Returns what was there before, as it came through the seam.
    pub(crate) fn store(&mut self, index: usize, value: u64, journal: &mut Journal) -> u64 {
        let old = self.stored(index);
        journal.push(Event::Store { address: self.arena.address(index), old, new: value });
        self.check_seam(index, journal);
        self.set(index, value);
        if let Some(lines) = self.dirty.get_mut(index / WORDS) {
            *lines |= 1 << (index % WORDS / LINE);
        }
        if let Some(recent) = &mut self.recent {
            recent.push(index / LINE);
        }
        old
    }

    /// A line that the CPU's cache gives up by itself now: memory has it, but the driver still owes its write-back.
    pub(crate) fn evict(&mut self, random: &mut Random) -> Option<(usize, [u64; LINE])> {
        let recent = self.recent.as_mut().filter(|recent| !recent.is_empty())?;
        let line = recent.swap_remove(random.below(recent.len() as u64) as usize);
        // Memory never goes back: what was on its way there is older.
        self.pending.retain(|(other, _)| *other != line);
        Some((line, std::array::from_fn(|word| self.stored(line * LINE + word))))
    }

    /// A store of hardware: always seen by the CPU (section 11.4.3, ECAP.C).
    pub(crate) fn set(&mut self, index: usize, value: u64) {
        self.arena.set(index, value);
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
            View::Memory => self.memory.get(index).copied().unwrap_or(STALE),
        }
    }

    /// Starts to write lines back. Memory holds them after the next [`fence`](Self::fence), at the latest.
    pub(crate) fn write_back(&mut self, index: usize, bytes: usize, journal: &mut Journal) {
        let address = self.arena.address(index);
        journal.push(Event::WriteBack { address, bytes });
        if self.memory.is_empty() || bytes == 0 {
            return;
        }
        for line in index / LINE..=(index * 8 + bytes - 1) / 8 / LINE {
            let content = std::array::from_fn(|word| self.stored(line * LINE + word));
            self.pending.push((line, content));
            if let Some(lines) = self.dirty.get_mut(line * LINE / WORDS) {
                *lines &= !(1 << (line % (WORDS / LINE)));
            }
        }
    }

    /// The lines that were pending: memory takes them over one by one through [`arrive`](Self::arrive). With a seed, in any
    /// order, but for those of one line.
    pub(crate) fn fence(&mut self, random: Option<&mut Random>, journal: &mut Journal) -> Vec<(usize, [u64; LINE])> {
        journal.push(Event::Fence);
        let mut lines = std::mem::take(&mut self.pending);
        if let Some(random) = random {
            let salt = (random.below(u64::MAX) << 11) as usize | 1;
            lines.sort_by_key(|(line, _)| line.wrapping_mul(salt));
        }
        lines
    }

    /// A line arrives in memory. Returns what was there before.
    pub(crate) fn arrive(&mut self, line: usize, content: [u64; LINE]) -> [u64; LINE] {
        let mut old = content;
        if let Some(words) = self.memory.get_mut(line * LINE..(line + 1) * LINE) {
            old.copy_from_slice(words);
            words.copy_from_slice(&content);
        }
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            memory.arrive(line, content);
        }
    }

    #[test]
    fn memory_has_what_was_there_at_the_write_back_after_the_fence() {
        let (mut memory, mut journal, index) = memory(false);
        assert_eq!((memory.seen(View::Snooped, index), memory.seen(View::Memory, index)), (2, STALE));
        fence(&mut memory, &mut journal);
        assert_eq!(memory.seen(View::Memory, index), 1);
        assert!(!memory.is_written_back(0));
    }

    #[test]
    fn write_backs_come_in_any_order_but_for_those_of_one_line() {
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
        memory.arrive(line, content);
        fence(&mut memory, &mut journal);
        assert_eq!(memory.seen(View::Memory, index), 2);
    }
}
