//! How many frames an edit may take, whatever the table is like by then: what several edits together are given before the
//! first of them is made.
#![forbid(unsafe_code)]

use super::format::{is_page_start, page_shift};
use super::{Geometry, MapError, check};
use crate::addr::{IovaRange, Region};

impl Geometry {
    /// Tables that mapping `region` takes if there is none yet below the top; fails if it cannot be mapped.
    pub(crate) fn tables_to_map(self, region: Region) -> Result<usize, MapError> {
        check(region)?;
        self.check(region)?;
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        Ok(tables_below(self.levels, start, last, self.page_level(&region)))
    }

    /// Tables that splitting pages at both ends of `range` takes at most.
    pub(crate) fn tables_to_edit(self, range: IovaRange) -> usize {
        let (start, last) = (range.start().as_u64(), range.last().as_u64());
        (2..=self.max_leaf_level).map(|level| covered_in_part(level, start, last)).sum()
    }
}

/// Tables that mapping `start..=last` with pages up to `page_level` takes below entries at `level` that are absent: one for
/// each entry at each level that no page stands for.
pub(super) fn tables_below(level: u8, start: u64, last: u64, page_level: u8) -> usize {
    let entries = |level| {
        if level > page_level { touched(level, start, last) } else { covered_in_part(level, start, last) }
    };
    (2..=level).map(entries).sum()
}

/// How many entries at `level` the range touches.
fn touched(level: u8, start: u64, last: u64) -> usize {
    ((last >> page_shift(level)) - (start >> page_shift(level)) + 1) as usize
}

/// How many of them it does not cover whole.
fn covered_in_part(level: u8, start: u64, last: u64) -> usize {
    let inside = [start, last.wrapping_add(1)].into_iter().filter(|edge| !is_page_start(*edge, level)).count();
    inside.min(touched(level, start, last))
}
