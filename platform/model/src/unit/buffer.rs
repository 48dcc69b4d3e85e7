//! Write buffers of a root complex in front of a unit that reports RWBF = 1 (section 6.8): what is stored reaches the
//! unit only when they are flushed.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::{Board, Unit};
use crate::memory::arena::WORDS;
use crate::memory::lines::{LINE, STALE};

#[derive(Debug)]
pub(crate) struct Buffer {
    /// What the unit sees.
    words: Vec<u64>,
    /// Lines that wait, oldest first.
    lines: Vec<(usize, [u64; LINE])>,
}

impl Buffer {
    pub(super) fn new(frames: usize) -> Self {
        Self { words: vec![STALE; frames * WORDS], lines: Vec::new() }
    }

    pub(super) fn seen(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(STALE)
    }
}

impl Unit {
    /// Fresh frames are zero to a unit that snoops, and that is in the buffers as whatever else is stored.
    pub(crate) fn zeroed(&mut self, frames: Range<usize>) {
        if let Some(buffer) = &mut self.buffer {
            buffer.lines.extend((frames.start * WORDS / LINE..frames.end * WORDS / LINE).map(|line| (line, [0; LINE])));
        }
    }

    /// Memory, as a unit without buffers sees it, has a new line. `old` is what it replaces.
    pub(crate) fn line_arrived(&mut self, line: usize, new: [u64; LINE], old: &[u64; LINE], board: &mut Board) {
        match &mut self.buffer {
            Some(buffer) => buffer.lines.push((line, new)),
            None => self.changed(line * LINE, old, board),
        }
    }

    /// A store that a snooping unit sees.
    pub(crate) fn store_arrived(&mut self, index: usize, old: u64, board: &mut Board) {
        match &mut self.buffer {
            Some(buffer) => {
                let line = index / LINE;
                buffer.lines.push((line, std::array::from_fn(|word| board.memory.stored(line * LINE + word))));
            }
            None => self.changed(index, &[old], board),
        }
    }

    /// WBF, and implicitly before an invalidation.
    pub(super) fn flush_buffer(&mut self, board: &mut Board) {
        let Some(buffer) = &mut self.buffer else { return };
        for (line, new) in std::mem::take(&mut buffer.lines) {
            let mut old = new;
            if let Some(buffer) = &mut self.buffer
                && let Some(words) = buffer.words.get_mut(line * LINE..(line + 1) * LINE)
            {
                old.copy_from_slice(words);
                words.copy_from_slice(&new);
            }
            self.changed(line * LINE, &old, board);
        }
    }

    /// R10: nothing of what the unit reads waits in the buffers. `all` counts lines of frames that are not reached yet.
    pub(super) fn check_buffer(&self, all: bool, board: &mut Board) {
        let Some(buffer) = &self.buffer else { return };
        let counts = |line: usize| all || !self.reach.uses(line * LINE / WORDS).is_empty();
        // A line that was written back again, as it was, makes no difference.
        let differs = |line: usize, new: &[u64]| buffer.words.get(line * LINE..(line + 1) * LINE) != Some(new);
        if let Some((line, _)) = buffer.lines.iter().find(|(line, new)| counts(*line) && differs(*line, new)) {
            let address = board.arena.address(line * LINE);
            board.journal.violation("R10", format_args!("what was stored at {address:#x} waits in the write buffers"));
        }
    }
}
