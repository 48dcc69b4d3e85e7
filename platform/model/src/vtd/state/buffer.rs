//! Write buffers of a root complex in front of a unit that reports RWBF = 1 (section 6.8): what is stored reaches the
//! unit only when they are flushed.
#![forbid(unsafe_code)]

use crate::memory::arena::WORDS;
use crate::memory::lines::{LINE, STALE};

#[derive(Debug)]
pub(crate) struct Buffer {
    /// What the unit sees.
    pub(crate) words: Vec<u64>,
    /// Lines that wait, oldest first.
    pub(crate) lines: Vec<(usize, [u64; LINE])>,
}

impl Buffer {
    pub(crate) fn new(frames: usize) -> Self {
        Self { words: vec![STALE; frames * WORDS], lines: Vec::new() }
    }

    pub(crate) fn seen(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(STALE)
    }
}
