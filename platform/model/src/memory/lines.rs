//! Lines of the CPU's caches that are not written back, and what a unit sees that does not snoop them.
#![forbid(unsafe_code)]

use crate::memory::arena::WORDS;
use crate::random::Random;

/// What memory holds behind a fresh frame whose zeros are still in the CPU's caches.
pub(crate) const STALE: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// Words of one cache line.
pub(crate) const LINE: usize = 8;

/// So many lines are kept in mind that may be evicted.
const RECENT: usize = 256;

/// A line by its number, with its words.
pub(crate) type Line = (usize, [u64; LINE]);

#[derive(Debug)]
pub(crate) struct Lines {
    /// What a unit sees that does not snoop. Empty if all of them do.
    memory: Vec<u64>,
    /// Bit n: line n of the frame differs, or may differ, between the CPU's caches and memory.
    dirty: Vec<u64>,
    /// Lines on their way to memory, with what they held when the write-back began.
    pending: Vec<Line>,
    /// Lines that were stored to lately, where a seed chooses which of them are evicted.
    recent: Option<Vec<usize>>,
}

fn line(stored: &[u64], line: usize) -> [u64; LINE] {
    std::array::from_fn(|word| stored.get(line * LINE + word).copied().unwrap_or(STALE))
}

impl Lines {
    pub(crate) fn new(frames: usize, all_snoop: bool, evicts: bool) -> Self {
        Self {
            memory: if all_snoop { Vec::new() } else { vec![0; frames * WORDS] },
            dirty: vec![0; frames],
            pending: Vec::new(),
            recent: (evicts && !all_snoop).then(Vec::new),
        }
    }

    /// The word that memory holds.
    pub(crate) fn seen(&self, index: usize) -> u64 {
        self.memory.get(index).copied().unwrap_or(STALE)
    }

    /// A frame gets an owner or loses it: memory holds `word` all over, and no line of it is on its way any more.
    pub(crate) fn fill(&mut self, frame: usize, word: u64, owned: bool) {
        let words = frame * WORDS..(frame + 1) * WORDS;
        if let Some(view) = self.memory.get_mut(words.clone()) {
            view.fill(word);
            self.pending.retain(|(line, _)| !words.contains(&(line * LINE)));
            if let Some(recent) = &mut self.recent {
                recent.retain(|line| !words.contains(&(line * LINE)));
            }
        }
        if let Some(lines) = self.dirty.get_mut(frame) {
            *lines = if owned { u64::MAX } else { 0 };
        }
    }

    /// The CPU has stored to a word.
    pub(crate) fn stored_to(&mut self, index: usize) {
        if let Some(lines) = self.dirty.get_mut(index / WORDS) {
            *lines |= 1 << (index % WORDS / LINE);
        }
        if let Some(recent) = &mut self.recent {
            if recent.len() == RECENT {
                recent.swap_remove(0);
            }
            recent.push(index / LINE);
        }
    }

    /// True if memory holds all that was stored to the frame.
    pub(crate) fn is_written_back(&self, frame: usize) -> bool {
        let lines = frame * WORDS / LINE..(frame + 1) * WORDS / LINE;
        self.dirty.get(frame) == Some(&0) && !self.pending.iter().any(|(line, _)| lines.contains(line))
    }

    /// Starts to write lines back, as they are now in `stored`.
    pub(crate) fn write_back(&mut self, index: usize, bytes: usize, stored: &[u64]) {
        if self.memory.is_empty() || bytes == 0 {
            return;
        }
        for number in index / LINE..=(index * 8 + bytes - 1) / 8 / LINE {
            self.pending.push((number, line(stored, number)));
            if let Some(lines) = self.dirty.get_mut(number * LINE / WORDS) {
                *lines &= !(1 << (number % (WORDS / LINE)));
            }
        }
    }

    /// The lines that were pending. With a seed, in any order, except that those of one line keep theirs.
    pub(crate) fn take_pending(&mut self, random: Option<&mut Random>) -> Vec<Line> {
        let mut lines = std::mem::take(&mut self.pending);
        if let Some(random) = random {
            let salt = (random.below(u64::MAX) << 11) as usize | 1;
            lines.sort_by_key(|(line, _)| line.wrapping_mul(salt));
        }
        lines
    }

    /// A line that the CPU's cache gives up by itself now: memory has it, but the driver still has to write it back.
    pub(crate) fn evict(&mut self, random: &mut Random, stored: &[u64]) -> Option<Line> {
        let recent = self.recent.as_mut().filter(|recent| !recent.is_empty())?;
        let number = recent.swap_remove(random.below(recent.len() as u64) as usize);
        // Memory never goes back: what was on its way there is older.
        self.pending.retain(|(other, _)| *other != number);
        Some((number, line(stored, number)))
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
