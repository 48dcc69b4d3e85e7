//! The shortest right list of invalidations for what a flush asks for (S 6.5.3.3, table 28): a pure function of that and of
//! the unit's capabilities. For a queue each becomes a descriptor, as `descriptor.rs` codes it.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::Invalidation;
use super::descriptor::{Descriptor, Encoder};
use super::queue::Queue;
use crate::addr::{Iova, PAGE_BYTES};
use crate::invalidation::{
    Block, Blocks, Cost, DOMAINS, ENTRIES, Flush, MAX_BLOCKS, Pages, RANGES, StaleDeviceTlb, StaleEntry,
};
use crate::limits::{self, Carver, Full};
use crate::vtd::Capabilities;

/// So many blocks of pages do for one flush; from then on, domains are flushed as a whole.
const BLOCKS: usize = 32;
/// What a list may come to before it is found too long for the unit itself.
const MOST: usize = 1 + ENTRIES + DOMAINS + BLOCKS + MAX_BLOCKS + RANGES;

/// All translations that a unit has. The order is that of S 6.5.2.1.
const TRANSLATIONS: [Invalidation; 2] = [Invalidation::ContextGlobal, Invalidation::IotlbGlobal];
/// All that a unit has which remaps interrupts.
const WITH_INTERRUPTS: [Invalidation; 3] =
    [Invalidation::InterruptsGlobal, Invalidation::ContextGlobal, Invalidation::IotlbGlobal];

/// All that a unit has, which `remaps` interrupts or not.
pub(in crate::vtd) const fn everything(remaps: bool) -> &'static [Invalidation] {
    if remaps { &WITH_INTERRUPTS } else { &TRANSLATIONS }
}

/// Invalidations in the order in which they have to be done (R24), few enough for one batch.
#[derive(Debug)]
pub(crate) struct CommandList<'s> {
    all: limits::List<'s, Invalidation>,
    /// So many device-TLBs there may be.
    device_tlbs: usize,
    /// How many are for the unit itself; the others are for devices.
    of_unit: usize,
    /// Room to work in, for the blocks of one domain.
    chosen: Vec<Block, MAX_BLOCKS>,
}

impl<'s> CommandList<'s> {
    /// A list with room for nothing.
    pub(crate) const fn without_room() -> Self {
        Self { all: limits::List::without_room(), device_tlbs: 0, of_unit: 0, chosen: Vec::new() }
    }

    /// How many invalidations a list has to have room for.
    const fn room_for(device_tlbs: usize) -> usize {
        MOST.saturating_add(device_tlbs)
    }

    /// How many words that takes.
    pub(crate) const fn words(device_tlbs: usize) -> usize {
        limits::words_of::<Invalidation>(Self::room_for(device_tlbs))
    }

    /// A list for units with so many device-TLBs.
    pub(crate) fn cut(carver: &mut Carver<'s>, device_tlbs: usize) -> Result<Self, Full> {
        Ok(Self { all: carver.list(Self::room_for(device_tlbs))?, device_tlbs, of_unit: 0, chosen: Vec::new() })
    }

    /// How long a batch of [everything](Flush::everything) is at most; what is for devices counts twice.
    pub(in crate::vtd) fn longest_of_everything(device_tlbs: usize) -> usize {
        WITH_INTERRUPTS.len() + 2 * device_tlbs
    }

    /// So many invalidations of the unit itself do: the list is one batch, with room for one of each device.
    fn most_of_unit(&self) -> usize {
        Queue::BATCH.saturating_sub(2 * self.device_tlbs)
    }

    /// Takes what `flush` asks of a unit, which `remaps` interrupts or not, in place of what was there.
    #[inline(never)]
    pub(crate) fn fill(&mut self, unit: &Capabilities, remaps: bool, flush: &Flush<'_>) {
        self.all.clear();
        if remaps {
            self.add_interrupts(unit, flush);
        }
        self.add_entries(flush);
        match flush.translations() {
            None => self.add(Invalidation::IotlbGlobal),
            Some((domains, pages)) => self.add_pages(unit, flush, domains, pages),
        }
        self.shorten(remaps);
        self.add_targets(flush);
    }

    /// Interrupts, ahead of all that is for devices (S 6.5.2.12).
    fn add_interrupts(&mut self, unit: &Capabilities, flush: &Flush<'_>) {
        match flush.interrupts() {
            Some(Some(block)) if block.order <= unit.interrupt_block_order => {
                self.add(Invalidation::Interrupts(block));
            }
            Some(_) => self.add(Invalidation::InterruptsGlobal),
            None => {}
        }
    }

    #[inline(never)]
    fn add_entries(&mut self, flush: &Flush<'_>) {
        match flush.device_entries() {
            None => self.add(Invalidation::ContextGlobal),
            Some(entries) => entries.iter().for_each(|entry| self.add(context(*entry))),
        }
    }

    /// What is for the unit itself is no longer than one batch has room for.
    #[inline(never)]
    fn shorten(&mut self, remaps: bool) {
        if self.all.len() > self.most_of_unit() {
            self.all.clear();
            everything(remaps).iter().for_each(|one| self.add(*one));
        }
        self.of_unit = self.all.len();
    }

    /// For a unit that does one at a time and takes long for each: two at most.
    pub(in crate::vtd) fn few(&self) -> Vec<Invalidation, 2> {
        let all = Vec::from_slice(&self.all);
        all.unwrap_or_else(|_| Vec::from_array(TRANSLATIONS))
    }

    /// The descriptors for the unit itself, and those for devices.
    pub(in crate::vtd) fn descriptors(
        &self,
        encoder: Encoder,
    ) -> [impl ExactSizeIterator<Item = Descriptor> + Clone + '_; 2] {
        let (unit, devices) = self.parts();
        [unit, devices].map(|part| encoder.encode_all(part))
    }

    /// Those for the unit itself, and those for devices.
    fn parts(&self) -> (&[Invalidation], &[Invalidation]) {
        self.all.split_at_checked(self.of_unit).unwrap_or((&self.all, &[]))
    }

    fn add(&mut self, invalidation: Invalidation) {
        push(&mut self.all, invalidation);
    }

    /// How many of devices there is room for: each may need a wait.
    fn room(&self) -> usize {
        (Queue::BATCH.saturating_sub(self.of_unit) / 2).saturating_sub(self.all.len().saturating_sub(self.of_unit))
    }

    /// Domain-ids that are flushed as a whole, and for each other one, blocks for its pages, or all of it after all (R26, R27).
    #[inline(never)]
    fn add_pages(&mut self, unit: &Capabilities, flush: &Flush<'_>, domains: &[u16], all: &[Pages]) {
        domains.iter().for_each(|domain_id| self.add(Invalidation::IotlbDomain(*domain_id)));
        let (mut blocks, Self { all: list, chosen, .. }) = (0, self);
        for (index, &Pages { tag: domain_id, .. }) in all.iter().enumerate() {
            let pages = || flush.pages_of(domain_id);
            let listed = all.iter().take(index).any(|before| before.tag == domain_id);
            if listed || domains.contains(&domain_id) {
                continue;
            }
            let page = 9 * (unit.max_leaf_level.max(1) - 1);
            let mut cover = |widest: u8| {
                let changed = pages().map(|pages| (pages.first, pages.last));
                Blocks { cost: Cost::IOTLB, widest, page }.cover(changed, chosen)
            };
            if !unit.page_selective.filter(|_| blocks < BLOCKS).is_some_and(&mut cover) {
                push(list, Invalidation::IotlbDomain(domain_id));
                continue;
            }
            blocks += chosen.len();
            for &Block { first, mask } in chosen.iter() {
                let last = first + ((1 << mask) - 1);
                // R28.
                let leaves_only = pages().all(|part| part.leaves_only || part.first > last || part.last < first);
                let start = Iova::new(first * PAGE_BYTES);
                push(list, Invalidation::IotlbPages { domain_id, start, mask, leaves_only });
            }
        }
    }

    /// Device-TLBs, after the IOTLB: a device may ask for a translation again at once (R24).
    #[inline(never)]
    fn add_targets(&mut self, flush: &Flush<'_>) {
        let mut left = flush.targets().len();
        for &StaleDeviceTlb { device, pages_of } in flush.targets() {
            left -= 1;
            let room = self.room();
            let Self { all: list, chosen, .. } = &mut *self;
            let cover = |domain_id| {
                let pages = flush.pages_of(domain_id).filter(|pages| pages.was_present);
                Blocks::OF_DEVICE.cover(pages.map(|pages| (pages.first, pages.last)), chosen)
            };
            if !pages_of.is_some_and(cover) || chosen.len() + left > room {
                push(list, Invalidation::DeviceTlb(device));
                continue;
            }
            for &Block { first, mask } in chosen.iter() {
                let start = Iova::new(first * PAGE_BYTES);
                push(list, Invalidation::DeviceTlbPages { device, start, mask });
            }
        }
    }
}

fn push(all: &mut limits::List<'_, Invalidation>, invalidation: Invalidation) {
    let full = all.push(invalidation).is_err();
    debug_assert!(!full, "the capacity is the sum of what there can be");
}

/// A device entry is a context entry, and its tag the domain-id that it is cached with.
fn context(entry: StaleEntry) -> Invalidation {
    match entry {
        StaleEntry::Domain(domain_id) => Invalidation::ContextDomain(domain_id),
        StaleEntry::Device { requester, tag: domain_id } => Invalidation::ContextDevice { requester, domain_id },
    }
}

#[cfg(test)]
mod tests;
