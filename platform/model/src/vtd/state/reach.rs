//! Which frames a unit can reach, and how: the graph behind the question "may this frame be freed?".
#![forbid(unsafe_code)]

use crate::vtd::formats::entry::page_bytes;

/// What leads to a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// Context entries with this domain-id, in memory or in a cache.
    Domain(u16),
    /// An entry of another table: its frame and index.
    Entry(usize, u16),
    /// A paging-structure cache entry that memory does not hold any more.
    Stale(u32),
}

/// What a frame is to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Root,
    /// The context table of a bus.
    Contexts(u8),
    Table {
        level: u8,
        parent: Parent,
    },
    /// Part of the interrupt-remapping table: 256 entries from 256 times this on.
    Interrupts(u8),
}

#[derive(Debug)]
pub(crate) struct Reach {
    /// For each frame its uses, with how many there are of each.
    frames: Vec<Vec<(Use, u32)>>,
}

impl Reach {
    pub(crate) fn new(frames: usize) -> Self {
        Self { frames: vec![Vec::new(); frames] }
    }

    pub(crate) fn uses(&self, frame: usize) -> &[(Use, u32)] {
        self.frames.get(frame).map_or(&[], Vec::as_slice)
    }

    /// The levels at which a frame is a page table, each once.
    pub(crate) fn levels(&self, frame: usize) -> impl Iterator<Item = u8> + use<> {
        let levels = self.uses(frame).iter().fold(0_u8, |levels, (what, _)| match what {
            Use::Table { level, .. } => levels | 1 << level,
            _ => levels,
        });
        (1..=5).filter(move |level| levels >> level & 1 != 0)
    }

    fn is_table(&self, frame: usize, at: u8) -> bool {
        self.uses(frame).iter().any(|(what, _)| matches!(what, Use::Table { level, .. } if *level == at))
    }

    /// Adds a use. True if the frame's entries were not followed for such a use before.
    pub(crate) fn add(&mut self, frame: usize, what: Use) -> bool {
        let new = match what {
            Use::Table { level, .. } => !self.is_table(frame, level),
            _ => !self.uses(frame).iter().any(|(other, _)| *other == what),
        };
        if let Some(uses) = self.frames.get_mut(frame) {
            match uses.iter_mut().find(|(other, _)| *other == what) {
                Some((_, count)) => *count += 1,
                None => uses.push((what, 1)),
            }
        }
        new
    }

    /// Removes one use. True if the frame's entries are not to be followed for such a use any more.
    pub(crate) fn remove(&mut self, frame: usize, what: Use) -> bool {
        let Some(uses) = self.frames.get_mut(frame) else { return false };
        let Some(position) = uses.iter().position(|(other, _)| *other == what) else { return false };
        if let Some((_, count)) = uses.get_mut(position)
            && *count > 1
        {
            *count -= 1;
            return false;
        }
        uses.swap_remove(position);
        match what {
            Use::Table { level, .. } => !self.is_table(frame, level),
            _ => true,
        }
    }

    /// Calls `found` with each domain-id that reaches the table, and the input address of the table's first entry.
    /// `stale` tells the same of a cached entry that memory does not hold any more.
    pub(crate) fn owners(
        &self,
        frame: usize,
        level: u8,
        stale: &dyn Fn(u32) -> Option<(u16, u64)>,
        found: &mut dyn FnMut(u16, u64),
    ) {
        for (what, _) in self.uses(frame) {
            match *what {
                Use::Table { level: at, parent } if at == level => match parent {
                    Parent::Domain(domain) => found(domain, 0),
                    Parent::Stale(id) => {
                        if let Some((domain, base)) = stale(id) {
                            found(domain, base);
                        }
                    }
                    Parent::Entry(parent, index) => {
                        let offset = u64::from(index) * page_bytes(level + 1);
                        self.owners(parent, level + 1, stale, &mut |domain, base| found(domain, base + offset));
                    }
                },
                _ => {}
            }
        }
    }
}
