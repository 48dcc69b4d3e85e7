//! The shortest right list of invalidations for what a flush asks for (S 6.5.3.3, table 28): a pure function of that and of
//! the unit's capabilities.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::Invalidation;
use super::queue::Queue;
use crate::addr::{Iova, PAGE_BYTES};
use crate::invalidation::{
    Block, Blocks, Cost, DEVICES, DOMAINS, ENTRIES, Entry, Flush, MAX_BLOCKS, Pages, RANGES, Target,
};
use crate::vtd::Capabilities;

/// So many blocks of pages do for one flush; from then on, domains are flushed as a whole.
const BLOCKS: usize = 32;
/// So many invalidations of the unit itself do: the list is one batch, with room for one of each device.
const OF_UNIT: usize = Queue::BATCH - 2 * DEVICES;
/// The same, and what it may come to before it is found too long.
const LIST: usize = ENTRIES + DOMAINS + BLOCKS + MAX_BLOCKS + RANGES + DEVICES;

/// All that a unit has. The order is that of S 6.5.2.1.
const EVERYTHING: [Invalidation; 2] = [Invalidation::ContextGlobal, Invalidation::IotlbGlobal];

/// Invalidations in the order in which they have to be done (R24), few enough for one batch.
#[derive(Clone, Debug, Default)]
pub(in crate::vtd) struct List {
    all: Vec<Invalidation, LIST>,
    /// How many are for the unit itself; the others are for devices.
    of_unit: usize,
}

impl List {
    /// How long a batch of [everything](Flush::everything) is at most; what is for devices counts twice.
    pub(in crate::vtd) const EVERYTHING: usize = EVERYTHING.len() + 2 * DEVICES;

    /// Takes what `flush` asks of a unit in place of what was there.
    pub(in crate::vtd) fn fill(&mut self, unit: &Capabilities, flush: &Flush) {
        self.all.clear();
        match flush.device_entries() {
            None => self.add(Invalidation::ContextGlobal),
            Some(entries) => entries.iter().for_each(|entry| self.add(context(*entry))),
        }
        match flush.translations() {
            None => self.add(Invalidation::IotlbGlobal),
            Some((domains, pages)) => {
                domains.iter().for_each(|domain_id| self.add(Invalidation::IotlbDomain(*domain_id)));
                self.add_pages(unit, flush, domains, pages);
            }
        }
        if self.all.len() > OF_UNIT {
            self.all.clear();
            EVERYTHING.into_iter().for_each(|one| self.add(one));
        }
        self.of_unit = self.all.len();
        self.add_targets(flush);
    }

    /// For a unit that does one at a time and takes long for each: two at most.
    pub(in crate::vtd) fn few(&self) -> Vec<Invalidation, 2> {
        let all = Vec::from_slice(&self.all);
        all.unwrap_or_else(|_| Vec::from_array(EVERYTHING))
    }

    /// Those for the unit itself, and those for devices.
    pub(in crate::vtd) fn parts(&self) -> (&[Invalidation], &[Invalidation]) {
        self.all.split_at_checked(self.of_unit).unwrap_or((&self.all, &[]))
    }

    fn add(&mut self, invalidation: Invalidation) {
        let full = self.all.push(invalidation).is_err();
        debug_assert!(!full, "the capacity is the sum of what there can be");
    }

    /// How many of devices there is room for: each may need a wait.
    fn room(&self) -> usize {
        (Queue::BATCH - self.of_unit) / 2 - (self.all.len() - self.of_unit)
    }

    /// For each domain-id that is not flushed as a whole, blocks for its pages, or all of it after all (R26, R27).
    fn add_pages(&mut self, unit: &Capabilities, flush: &Flush, domains: &[u16], all: &[Pages]) {
        let mut blocks = 0;
        for (index, &Pages { tag: domain_id, .. }) in all.iter().enumerate() {
            let pages = || flush.pages_of(domain_id);
            let listed = all.iter().take(index).any(|before| before.tag == domain_id);
            if listed || domains.contains(&domain_id) {
                continue;
            }
            let cover = |widest| {
                let page = 9 * (unit.largest_page.max(1) - 1);
                Blocks { cost: Cost::IOTLB, widest, page }.cover(pages().map(|pages| (pages.first, pages.last)))
            };
            match unit.page_selective.filter(|_| blocks < BLOCKS).and_then(cover) {
                Some(chosen) => {
                    blocks += chosen.len();
                    for &Block { first, mask } in &chosen {
                        let last = first + ((1 << mask) - 1);
                        // R28.
                        let leaves_only =
                            pages().all(|part| part.leaves_only || part.first > last || part.last < first);
                        let start = Iova::new(first * PAGE_BYTES);
                        self.add(Invalidation::IotlbPages { domain_id, start, mask, leaves_only });
                    }
                }
                None => self.add(Invalidation::IotlbDomain(domain_id)),
            }
        }
    }

    /// Device-TLBs, after the IOTLB: a device may ask for a translation again at once (R24).
    fn add_targets(&mut self, flush: &Flush) {
        let mut left = flush.targets().len();
        for &Target { device, pages_of } in flush.targets() {
            left -= 1;
            let cover = |domain_id| {
                let pages = flush.pages_of(domain_id).filter(|pages| pages.was_present);
                Blocks::OF_DEVICE.cover(pages.map(|pages| (pages.first, pages.last)))
            };
            match pages_of.and_then(cover).filter(|blocks| blocks.len() + left <= self.room()) {
                Some(chosen) => {
                    for &Block { first, mask } in &chosen {
                        let start = Iova::new(first * PAGE_BYTES);
                        self.add(Invalidation::DeviceTlbPages { device, start, mask });
                    }
                }
                None => self.add(Invalidation::DeviceTlb(device)),
            }
        }
    }
}

/// A device entry is a context entry, and its tag the domain-id that it is cached with.
fn context(entry: Entry) -> Invalidation {
    match entry {
        Entry::Domain(domain_id) => Invalidation::ContextDomain(domain_id),
        Entry::Device { requester, tag: domain_id } => Invalidation::ContextDevice { requester, domain_id },
    }
}

#[cfg(test)]
mod tests;
