//! The memory of a cell, filled so that every word tells whose it is and where.
#![forbid(unsafe_code)]

use core::ops::Range;

use cofferdam_pc::{Block, Pc};
use cofferdam_tests_qemu::Words;

pub(crate) const PAGE: u64 = 4096;
/// What a cell gets.
pub(crate) const CELL_BYTES: u64 = 64 << 20;
const LARGE_PAGE: u64 = 2 << 20;

/// Memory whose words follow from an owner's mark and their place.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) block: Block,
    mark: u64,
}

impl Memory {
    /// `bytes` of memory, filled.
    pub(crate) fn new(pc: &Pc, bytes: u64, mark: u8) -> Result<Self, Words> {
        let align = if bytes >= LARGE_PAGE { LARGE_PAGE } else { PAGE };
        let block = pc.allocate_block(bytes, align).ok_or_else(|| {
            let free = pc.free_bytes() >> 20;
            Words::new(format_args!(
                "too little memory: no {} KiB in one piece for a cell, {free} MiB are free",
                bytes >> 10
            ))
        })?;
        let memory = Self { block, mark: u64::from(mark) << 56 };
        memory.restore(0..bytes);
        Ok(memory)
    }

    /// What belongs at `offset`.
    fn expected(&self, offset: u64) -> u64 {
        self.mark | offset
    }

    /// Fills part of the memory as it was at the beginning.
    pub(crate) fn restore(&self, part: Range<u64>) {
        for offset in part.step_by(8) {
            self.block.write(offset, self.expected(offset));
        }
    }

    /// Where the first word is that is not as it was, `part` left aside.
    pub(crate) fn touched_outside(&self, part: Range<u64>) -> Option<u64> {
        let differs = |offset: &u64| self.block.read(*offset) != self.expected(*offset) && !part.contains(offset);
        (0..self.block.bytes()).step_by(8).find(differs)
    }

    /// True if the page at `offset` holds a copy of what belongs to the page at `original`.
    pub(crate) fn holds_copy(&self, offset: u64, original: u64) -> bool {
        (0..PAGE).step_by(8).all(|word| self.block.read(offset + word) == self.expected(original + word))
    }
}
