//! Memory that has to stay as it was.
#![forbid(unsafe_code)]

use core::ops::Range;

use cofferdam_pc::Block;

/// What memory holds that nobody has written since.
const KEPT: u64 = 0x6b65_7074_6b65_7074;

/// Fills part of some memory, by its offsets.
pub fn keep(memory: &Block, part: Range<u64>) {
    part.step_by(8).for_each(|offset| memory.write(offset, KEPT));
}

/// Where something was written to that part since, what is `left_out` of it aside.
pub fn touched(memory: &Block, part: Range<u64>, left_out: Range<u64>) -> Option<u64> {
    all_touched(memory, part).find(|offset| !left_out.contains(offset))
}

/// Each word of that part that something was written to since.
pub fn all_touched(memory: &Block, part: Range<u64>) -> impl Iterator<Item = u64> {
    part.step_by(8).filter(|offset| memory.read(*offset) != KEPT)
}
