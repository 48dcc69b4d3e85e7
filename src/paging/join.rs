//! One page in the place of a table, where it translates alike: the opposite of a split.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::edit::TableEdit;
use super::format::{is_page_start, page_bytes};
use super::geometry::MAX_LEVELS;
use super::walk::{LinkedTable, Step};
use super::{Format, PageTable};
use crate::hal::{Hal, WORDS};

impl<F: Format> PageTable<F> {
    /// Joins what can be joined on the way from the top to `at`, from below: pages that were joined may make another.
    pub(super) fn join(&self, hal: &impl Hal, at: u64, edit: &mut TableEdit<F>) {
        let (mut above, mut table) = (Vec::<LinkedTable, MAX_LEVELS>::new(), self.top());
        while let Step::Table(next) = self.step(hal, table, table.index(at)) {
            let _ = above.push(table);
            table = next;
        }
        while let Some(next) = above.pop() {
            self.join_table(hal, next, table, at, edit);
            table = next;
        }
    }

    /// Joins the pages of `below`, to which the entry of `table` for `at` leads, if they are one: with one store, so that
    /// requests under way find the same page before and after (R32: only the size changes).
    fn join_table(&self, hal: &impl Hal, table: LinkedTable, below: LinkedTable, at: u64, edit: &mut TableEdit<F>) {
        if table.level > self.geometry.max_leaf_level {
            return;
        }
        let Some(word) = self.one_page(hal, below, below.index(at)) else { return };
        // What this edit stored below is seen before (R32).
        self.settle(hal);
        self.writer(hal, table).store(table.index(at), word);
        edit.change.touch(at, table.level);
        edit.small = edit.small.saturating_sub(usize::from(below.level == 1));
        edit.unlinked.push_joined(hal, below.frame);
    }

    /// The entry that translates as all of `table` does, if there is one. Asks first beside `index`: where pages are mapped
    /// one after the other, whichever way, that mostly settles it.
    fn one_page(&self, hal: &impl Hal, table: LinkedTable, index: usize) -> Option<u64> {
        let Step::Page { output, rights } = self.step(hal, table, index) else { return None };
        let bytes = page_bytes(table.level);
        let output = output.wrapping_sub(index as u64 * bytes);
        if !is_page_start(output, table.level + 1) {
            return None;
        }
        let mut word = self.format.page(output, rights, table.level);
        let continues = |index: usize| table.frame.load(hal, index) == word + index as u64 * bytes;
        if !continues((index + 1) % WORDS) || !continues((index + WORDS - 1) % WORDS) {
            return None;
        }
        for index in 0..WORDS {
            if table.frame.load(hal, index) != word {
                return None;
            }
            word += bytes;
        }
        Some(self.format.page(output, rights, table.level + 1))
    }
}
