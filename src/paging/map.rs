#![forbid(unsafe_code)]

use super::format::{page_bytes, page_shift};
use super::needs::tables_below;
use super::table::Edit;
use super::walk::{Step, Table};
use super::{Change, Format, MapError, PageTable, Prealloc, check};
use crate::addr::{Iova, Region};
use crate::hal::{Hal, WORDS};

/// What is to be mapped, and the highest level of its pages.
struct Plan {
    region: Region,
    page_level: u8,
}

impl Plan {
    fn output(&self, at: u64) -> u64 {
        self.region.output.as_u64() + (at - self.region.input.start().as_u64())
    }
}

impl<F: Format> PageTable<F> {
    /// Gets the frames that mapping `region` needs. Changes nothing.
    ///
    /// # Errors
    ///
    /// The region cannot be mapped, or there are not enough frames.
    #[inline]
    pub fn prepare_map(&self, hal: &impl Hal, region: Region) -> Result<Prealloc, MapError> {
        if let Some((table, index)) = self.recent(region.input)
            && self.geometry.takes_output(region)
            && table.frame.load(hal, index) == 0
        {
            return Ok(Prealloc::none());
        }
        self.prepare_from_top(hal, region)
    }

    #[cold]
    fn prepare_from_top(&self, hal: &impl Hal, region: Region) -> Result<Prealloc, MapError> {
        check(region)?;
        self.geometry.check(region)?;
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        let needed = self.survey(hal, self.top(), start, last, self.geometry.page_level(&region))?;
        Ok(Prealloc::allocate(hal, needed, self.geometry)?)
    }

    /// How many tables are missing below this one for a range, all of which must be absent.
    fn survey(&self, hal: &impl Hal, table: Table, start: u64, last: u64, page_level: u8) -> Result<usize, MapError> {
        let mut needed = 0;
        for slot in table.slots(start, last) {
            needed += match self.step(hal, table, slot.index) {
                Step::Page { .. } => return Err(MapError::Occupied(Iova::new(slot.start))),
                Step::Table(next) => self.survey(hal, next, slot.start, slot.last, page_level)?,
                Step::Absent if slot.whole && table.level <= page_level => 0,
                Step::Absent => tables_below(table.level, slot.start, slot.last, page_level),
            }
        }
        Ok(needed)
    }

    /// Maps `region`, of which nothing is mapped, with the largest pages that its alignment permits, also together with what
    /// was mapped beside it before. `prealloc` comes from [`prepare_map`](Self::prepare_map) for the same region, with no edit
    /// between, or is as much as `Geometry::tables_to_map` says; what of it is not needed goes back.
    #[inline]
    pub fn map(&mut self, hal: &impl Hal, region: Region, prealloc: Prealloc) -> Change {
        if let Some((table, index)) = self.recent(region.input)
            && prealloc.0.is_empty()
        {
            let absent = |index| table.frame.load(hal, index) == 0;
            // With an absent neighbour the table does not become one page.
            if !self.geometry.joins(&region) || absent(index + 1) || absent(index + WORDS - 1) {
                table.frame.store(hal, index, self.format.page(region.output.as_u64(), region.rights, 1));
                self.stored(hal, table, index);
                return Change::none(region.input);
            }
        }
        self.map_from_top(hal, region, prealloc)
    }

    #[cold]
    fn map_from_top(&mut self, hal: &impl Hal, region: Region, prealloc: Prealloc) -> Change {
        let plan = Plan { region, page_level: self.geometry.page_level(&region) };
        let (start, last) = (region.input.start().as_u64(), region.input.last().as_u64());
        self.widen(region.input);
        let mut edit = self.begin(region.input, prealloc);
        self.fill(hal, self.top(), start, last, &plan, &mut edit);
        if plan.page_level > 1 {
            self.join(hal, self.top(), start, &mut edit);
            self.join(hal, self.top(), last, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Maps `start..=last` of the plan, which lies within the table.
    fn fill(&self, hal: &impl Hal, table: Table, start: u64, last: u64, plan: &Plan, edit: &mut Edit<F>) {
        edit.came_to(table, start, self.geometry);
        let mut writer = self.writer(hal, table);
        let mut rest = Some(start);
        while let Some(start) = rest {
            let mut slot = table.slot(start, last);
            if slot.whole && table.level <= plan.page_level {
                // So is what follows, up to the last entry that is covered whole.
                let shift = page_shift(table.level);
                let count = (last - start).wrapping_add(1) >> shift;
                let word = self.format.page(plan.output(start), plan.region.rights, table.level);
                writer.fill(slot.index, count as usize, word, page_bytes(table.level));
                slot.last = start + ((count << shift) - 1);
            } else if let Step::Table(next) = self.step(hal, table, slot.index) {
                self.fill(hal, next, start, slot.last, plan, edit);
            } else if let Some(next) = edit.fresh_table(hal, table.level - 1) {
                self.fill(hal, next, start, slot.last, plan, edit);
                self.finish(hal, next);
                if !table.fresh {
                    self.settle(hal);
                }
                writer.store(slot.index, self.link(next));
                edit.change.tables = true;
            }
            rest = (slot.last < last).then(|| slot.last + 1);
        }
    }
}
