//! What a cell is granted, as plain extents of pages.

use std::collections::BTreeMap;
use std::ops::Range;

use cofferdam::addr::Rights;

/// Pages that continue each other on both sides, with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Behind its last page.
    pub(crate) end: u64,
    /// The page that its first page leads to.
    pub(crate) output: u64,
    pub(crate) rights: Rights,
    /// Others may have the memory, too.
    pub(crate) shared: bool,
}

impl Extent {
    /// Behind the page that its last page leads to.
    pub(crate) fn output_end(&self, first: u64) -> u64 {
        self.output + (self.end - first)
    }

    /// Its memory as a range of pages.
    pub(crate) fn outputs(&self, first: u64) -> Range<u64> {
        self.output..self.output_end(first)
    }
}

/// True if two ranges have a page in common.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Extents by their first page. No two overlap, and none continues another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pages(BTreeMap<u64, Extent>);

impl Pages {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Extent)> + '_ {
        self.0.iter().map(|(first, extent)| (*first, *extent))
    }

    /// The same, whoever else may have them.
    pub(crate) fn unshared(&self) -> Self {
        let mut pages = Self::default();
        self.iter().for_each(|(first, extent)| pages.add(first, Extent { shared: false, ..extent }));
        pages
    }

    /// Where a page leads.
    pub(crate) fn at(&self, page: u64) -> Option<(u64, Rights)> {
        let (first, extent) = self.0.range(..=page).next_back()?;
        (page < extent.end).then(|| (extent.output + (page - first), extent.rights))
    }

    /// True if just this extent begins here.
    pub(crate) fn has(&self, first: u64, extent: Extent) -> bool {
        self.0.get(&first) == Some(&extent)
    }

    /// The same pages, as tables have them: they do not know what is shared.
    pub(crate) fn in_tables(&self) -> Self {
        let mut all = Self::default();
        self.iter().for_each(|(first, extent)| all.add(first, Extent { shared: false, ..extent }));
        all
    }

    /// True if a page from `first` up to `end` is granted.
    pub(crate) fn any(&self, first: u64, end: u64) -> bool {
        self.0.range(..end).next_back().is_some_and(|(_, extent)| extent.end > first)
    }

    /// True if all of them are.
    pub(crate) fn all(&self, first: u64, end: u64) -> bool {
        let mut next = first;
        while next < end {
            match self.0.range(..=next).next_back() {
                Some((_, extent)) if extent.end > next => next = extent.end,
                _ => return false,
            }
        }
        true
    }

    pub(crate) fn add(&mut self, first: u64, extent: Extent) {
        self.0.insert(first, extent);
        self.join(first);
        self.join(extent.end);
    }

    pub(crate) fn remove(&mut self, first: u64, end: u64) {
        self.cut(first);
        self.cut(end);
        for start in self.starts(first, end) {
            self.0.remove(&start);
        }
    }

    pub(crate) fn protect(&mut self, first: u64, end: u64, rights: Rights) {
        self.cut(first);
        self.cut(end);
        self.0.range_mut(first..end).for_each(|(_, extent)| extent.rights = rights);
        let starts = self.starts(first, end);
        starts.into_iter().chain([end]).for_each(|start| self.join(start));
    }

    /// What is left of these pages if all is taken away that `after` does not grant, and no page is granted more.
    pub(crate) fn without_grants(&self, after: &Self) -> Self {
        let mut left = self.clone();
        let edges = |pages: &Self| pages.iter().flat_map(|(first, extent)| [first, extent.end]).collect::<Vec<_>>();
        edges(after).into_iter().for_each(|edge| left.cut(edge));
        let first_pages: Vec<u64> = left.0.keys().copied().collect();
        for first in first_pages {
            let extent = left.0[&first];
            match after.at(first) {
                Some((output, rights)) if output == extent.output => {
                    left.0.insert(first, Extent { rights: kept(extent.rights, rights), ..extent });
                }
                _ => {
                    left.0.remove(&first);
                }
            }
        }
        left.0.retain(|_, extent| !extent.rights.is_empty());
        let starts: Vec<u64> = left.0.keys().copied().collect();
        starts.into_iter().for_each(|start| left.join(start));
        left
    }

    /// Memory that is behind these pages, and not behind the same pages of `other`.
    pub(crate) fn elsewhere_in(&self, other: &Self) -> Vec<Range<u64>> {
        let with_all = |pages: &Self| {
            let mut all = Self::default();
            pages
                .iter()
                .for_each(|(first, extent)| all.add(first, Extent { rights: Rights::all(), shared: false, ..extent }));
            all
        };
        let mut left = with_all(self);
        let same = left.without_grants(&with_all(other));
        same.iter().for_each(|(first, extent)| left.remove(first, extent.end));
        left.iter().map(|(first, extent)| extent.outputs(first)).collect()
    }

    fn starts(&self, first: u64, end: u64) -> Vec<u64> {
        if first >= end { Vec::new() } else { self.0.range(first..end).map(|(start, _)| *start).collect() }
    }

    /// Has an extent begin at `page`, if there is one there.
    fn cut(&mut self, page: u64) {
        if let Some((&first, &extent)) = self.0.range(..page).next_back()
            && extent.end > page
        {
            self.0.insert(first, Extent { end: page, ..extent });
            self.0.insert(page, Extent { output: extent.output + (page - first), ..extent });
        }
    }

    /// Joins the extent that begins at `page` with the one that it continues, if there are such.
    fn join(&mut self, page: u64) {
        if let Some(&high) = self.0.get(&page)
            && let Some((&first, low)) = self.0.range_mut(..page).next_back()
            && low.end == page
            && low.output + (page - first) == high.output
            && (low.rights, low.shared) == (high.rights, high.shared)
        {
            low.end = high.end;
            self.0.remove(&page);
        }
    }
}

/// The rights of a page that were to be changed by a change that fails.
fn kept(before: Rights, after: Rights) -> Rights {
    before & after
}
