#![forbid(unsafe_code)]

use heapless::Vec;

use super::edit::TableEdit;
use super::format::{page_bytes, page_shift};
use super::geometry::MAX_LEVELS;
use super::needs::tables_below;
use super::walk::{LinkedTable, Step};
use super::write::Writer;
use super::{Change, Format, MapError, PageTable, Prealloc, check};
use crate::addr::{Iova, Region};
use crate::hal::{Hal, WORDS};

/// What is to be mapped, and the highest level of its pages.
struct Plan {
    region: Region,
    page_level: u8,
}

/// A table that is being filled.
struct Filling<'h, H: Hal> {
    writer: Writer<'h, H>,
    level: u8,
    fresh: bool,
    /// Nothing of it is still to be mapped.
    full: bool,
    /// The entry that leads, or is going to lead, to what is being filled below.
    index: u16,
}

impl<H: Hal> Filling<'_, H> {
    fn table(&self) -> LinkedTable {
        LinkedTable { frame: self.writer.frame, level: self.level, fresh: self.fresh }
    }
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
        let needed = self.survey(hal, start, last, self.geometry.page_level(&region))?;
        Ok(Prealloc::allocate(hal, needed, self.geometry)?)
    }

    /// How many tables are missing for a range, all of which must be absent.
    fn survey(&self, hal: &impl Hal, start: u64, last: u64, page_level: u8) -> Result<usize, MapError> {
        let (mut needed, mut table, mut start) = (0, self.top(), start);
        loop {
            let slot = table.slot(start, last);
            match self.step(hal, table, slot.index) {
                Step::Page { .. } => return Err(MapError::Occupied(Iova::new(start))),
                Step::Table(next) => {
                    table = next;
                    continue;
                }
                Step::Absent if slot.whole && table.level <= page_level => {}
                Step::Absent => needed += tables_below(table.level, slot.start, slot.last, page_level),
            }
            if slot.last == last {
                return Ok(needed);
            }
            start = slot.last + 1;
            if table.index(start) == 0 {
                // Beyond this table.
                table = self.top();
            }
        }
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
        self.fill(hal, start, last, &plan, &mut edit);
        if plan.page_level > 1 {
            self.join(hal, start, &mut edit);
            self.join(hal, last, &mut edit);
        }
        self.end(hal, edit)
    }

    /// Maps `start..=last` of the plan, from the top down: what is under way is on `path`, so that the stack does not grow with
    /// the levels. A fresh table is whole before anything leads to it.
    #[inline(never)]
    fn fill(&self, hal: &impl Hal, start: u64, last: u64, plan: &Plan, edit: &mut TableEdit<F>) {
        let (mut path, mut at) = (Vec::<Filling<'_, _>, MAX_LEVELS>::new(), start);
        drop(path.push(self.come_to(hal, self.top(), at, edit)));
        while let Some(filling) = path.last_mut() {
            if filling.full {
                let full = path.pop().map(|full| full.table());
                if let (Some(full), Some(above)) = (full.filter(|table| table.fresh), path.last_mut()) {
                    self.finish(hal, full);
                    if !above.fresh {
                        self.settle(hal);
                    }
                    above.writer.store(above.index.into(), self.link(full));
                    edit.change.tables = true;
                }
                continue;
            }
            let table = filling.table();
            let table_last = last.min(table.last_of(at));
            let slot = table.slot(at, table_last);
            filling.index = slot.index as u16;
            filling.full = slot.last == table_last;
            let below = if slot.whole && table.level <= plan.page_level {
                // So is what follows, up to the last entry that is covered whole.
                let shift = page_shift(table.level);
                let count = (table_last - at).wrapping_add(1) >> shift;
                let word = self.format.page(plan.output(at), plan.region.rights, table.level);
                filling.writer.fill(slot.index, count as usize, word, page_bytes(table.level));
                let filled = at + ((count << shift) - 1);
                filling.full = filled == table_last;
                at = filled.wrapping_add(1);
                continue;
            } else if let Step::Table(next) = self.step(hal, table, slot.index) {
                Some(next)
            } else {
                edit.fresh_table(hal, table.level - 1)
            };
            match below {
                Some(below) => drop(path.push(self.come_to(hal, below, at, edit))),
                None => at = slot.last.wrapping_add(1),
            }
        }
    }

    fn come_to<'h, H: Hal>(&self, hal: &'h H, table: LinkedTable, at: u64, edit: &mut TableEdit<F>) -> Filling<'h, H> {
        edit.came_to(table, at, self.geometry);
        let LinkedTable { level, fresh, .. } = table;
        Filling { writer: self.writer(hal, table), level, fresh, full: false, index: 0 }
    }
}
