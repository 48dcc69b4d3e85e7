//! What is mapped, as software reads it.
#![forbid(unsafe_code)]

use super::format::page_bytes;
use super::walk::{LinkedTable, Step};
use super::{Format, PageTable};
use crate::addr::{Iova, IovaRange, PhysAddr, Region, Rights};
use crate::hal::Hal;

impl<F: Format> PageTable<F> {
    /// Where `at` leads, and what may be done there; `None` if it is blocked.
    pub fn translate(&self, hal: &impl Hal, at: Iova) -> Option<(PhysAddr, Rights)> {
        let (level, output, rights) = self.walk(hal, at.as_u64()).filter(|_| self.geometry.reaches(at))?;
        let offset = at.as_u64() & (page_bytes(level) - 1);
        Some((PhysAddr::new_truncate(output + offset), rights))
    }

    /// What is mapped from `from` on, in ascending order: each as long as input and output go on together with the same
    /// rights, whatever the sizes of pages.
    pub fn mappings<'a, H: Hal>(&'a self, hal: &'a H, from: Iova) -> Mappings<'a, H, F> {
        let at = self.geometry.reaches(from).then_some(from);
        Mappings { table: self, hal, at, within: self.top(), ahead: None }
    }
}

/// The mappings of a page table, by [`PageTable::mappings`].
#[derive(Debug)]
pub struct Mappings<'a, H, F> {
    table: &'a PageTable<F>,
    hal: &'a H,
    /// Where to go on.
    at: Option<Iova>,
    /// A table that holds `at`.
    within: LinkedTable,
    /// What was read already.
    ahead: Option<Region>,
}

impl<H: Hal, F: Format> Mappings<'_, H, F> {
    /// The next page, or what is left of the one where this began.
    fn next_page(&mut self) -> Option<Region> {
        loop {
            let (at, within) = (self.at?.as_u64(), self.within);
            let step = self.table.step(self.hal, within, within.index(at));
            if let Step::Table(next) = step {
                self.within = next;
                continue;
            }
            let offset = at & (page_bytes(within.level) - 1);
            let last = at | (page_bytes(within.level) - 1);
            self.at = Iova::new(last).checked_add(1).filter(|next| self.table.geometry.reaches(*next));
            if self.at.is_some_and(|next| within.index(next.as_u64()) == 0) {
                self.within = self.table.top();
            }
            if let Step::Page { output, rights } = step {
                let input = IovaRange::new(Iova::new(at), last - at + 1)?;
                return Some(Region { input, output: PhysAddr::new_truncate(output + offset), rights });
            }
        }
    }
}

impl<H: Hal, F: Format> Iterator for Mappings<'_, H, F> {
    type Item = Region;

    fn next(&mut self) -> Option<Region> {
        let mut region = self.ahead.take().or_else(|| self.next_page())?;
        while let Some(page) = self.next_page() {
            let output = region.output.as_u64().wrapping_add(region.input.bytes());
            let follows = region.input.ends_before(page.input);
            if !follows || page.output.as_u64() != output || page.rights != region.rights {
                self.ahead = Some(page);
                break;
            }
            region.input = region.input.hull(page.input);
        }
        Some(region)
    }
}
