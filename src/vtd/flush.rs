//! What a unit has to be told after changes of its structures: the shortest list that is right (S 6.5.3.3, table 28).
//!
//! Pure functions of the unit's capabilities and of what changed. What several changes ask for is collected, and a list made
//! of it once: what is asked for twice is told once, and what is too much to be told apart is told in one.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::cover::{Block, Blocks, Cost, MAX_BLOCKS};
use super::queue::Queue;
use super::{Capabilities, DeviceTlb, Invalidation};
use crate::addr::{Iova, PAGE_BYTES};
use crate::limits;
use crate::paging::Change;

/// Functions, and domain-ids, that are told apart in the context-cache.
const CONTEXTS: usize = 16;
/// More functions of one domain-id cost more than to fetch the context entries of the whole domain again.
const CONTEXTS_OF_DOMAIN: usize = 4;
/// Domain-ids that are told apart in the IOTLB.
const DOMAINS: usize = 16;
/// Ranges of pages that are told apart.
const RANGES: usize = 16;
/// So many blocks of pages do for one flush; from then on, domains are flushed as a whole.
const BLOCKS: usize = 32;
/// Devices with a device-TLB.
const DEVICES: usize = limits::DEVICE_TLBS;
/// So many invalidations of the unit itself do: the list is one batch, with room for one of each device.
const OF_UNIT: usize = Queue::BATCH - 2 * DEVICES;
/// The same, and what it may come to before it is found too long.
const LIST: usize = CONTEXTS + DOMAINS + BLOCKS + MAX_BLOCKS + RANGES + DEVICES;

/// Invalidations in the order in which they have to be done (R24), few enough for one batch.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    all: Vec<Invalidation, LIST>,
    /// How many are for the unit itself; the others are for devices.
    of_unit: usize,
}

impl List {
    fn add(&mut self, invalidation: Invalidation) {
        let full = self.all.push(invalidation).is_err();
        debug_assert!(!full, "the capacity is the sum of what there can be");
    }

    /// How many of devices there is room for: each may need a wait.
    fn room(&self) -> usize {
        (Queue::BATCH - self.of_unit) / 2 - (self.all.len() - self.of_unit)
    }

    /// For a unit that is told one at a time and takes long for each: two at most.
    pub(super) fn few(&self) -> Vec<Invalidation, 2> {
        let all = Vec::from_slice(&self.all);
        all.unwrap_or_else(|_| Vec::from_array(EVERYTHING))
    }

    /// Those for the unit itself, and those for devices.
    pub(super) fn parts(&self) -> (&[Invalidation], &[Invalidation]) {
        self.all.split_at_checked(self.of_unit).unwrap_or((&self.all, &[]))
    }
}

/// All that a unit has. The order is that of S 6.5.2.1.
const EVERYTHING: [Invalidation; 2] = [Invalidation::ContextGlobal, Invalidation::IotlbGlobal];

/// What the context-cache has to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Context {
    /// What is cached with this domain-id.
    Domain(u16),
    /// Of that, what there is of one function.
    Device { requester: u16, domain_id: u16 },
}

impl Context {
    fn domain_id(self) -> u16 {
        match self {
            Self::Domain(domain_id) | Self::Device { domain_id, .. } => domain_id,
        }
    }

    fn invalidation(self) -> Invalidation {
        match self {
            Self::Domain(domain_id) => Invalidation::ContextDomain(domain_id),
            Self::Device { requester, domain_id } => Invalidation::ContextDevice { requester, domain_id },
        }
    }
}

/// Pages of one domain-id whose entries changed. Those of one domain-id never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pages {
    domain_id: u16,
    /// No entry that leads to a table changed.
    leaves_only: bool,
    /// An entry that was present changed.
    was_present: bool,
    first: u64,
    last: u64,
}

impl Pages {
    /// The range that holds both.
    fn hull(self, other: Self) -> Self {
        Self {
            domain_id: self.domain_id,
            leaves_only: self.leaves_only && other.leaves_only,
            was_present: self.was_present || other.was_present,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.domain_id == other.domain_id && self.first <= other.last && other.first <= self.last
    }

    /// True if the two are one range, and alike.
    fn continues(self, other: Self) -> bool {
        let adjacent = self.last.wrapping_add(1) == other.first || other.last.wrapping_add(1) == self.first;
        let kind = |pages: Self| (pages.domain_id, pages.leaves_only, pages.was_present);
        adjacent && kind(self) == kind(other)
    }

    /// Pages between the two.
    fn gap(self, other: Self) -> u64 {
        self.first.saturating_sub(other.last).max(other.first.saturating_sub(self.last))
    }
}

/// A device-TLB that has to forget something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    device: DeviceTlb,
    /// The pages of this domain-id whose entries were present; all if `None`.
    pages_of: Option<u16>,
}

/// What a unit has to forget after one or more changes, or that its write buffer has to be flushed (R10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "hardware may go on with what it has cached"]
pub(crate) struct Flush {
    /// All of the context-cache, and all of the IOTLB, which has to follow (S 6.5.2.1).
    everything: bool,
    /// That, and all that the unit's devices have: whatever else was asked before is asked with it.
    makes_up: bool,
    contexts: Vec<Context, CONTEXTS>,
    /// All of the IOTLB.
    iotlb: bool,
    /// All that the IOTLB has with these domain-ids.
    domains: Vec<u16, DOMAINS>,
    pages: Vec<Pages, RANGES>,
    targets: Vec<Target, DEVICES>,
    write_buffer: bool,
    /// What was changed that asked for nothing.
    avoided: u32,
}

impl Flush {
    /// How long a batch of [everything](Self::everything) is at most; what is for devices counts twice.
    pub(super) const EVERYTHING: usize = EVERYTHING.len() + 2 * DEVICES;

    /// After a change that the unit cannot have cached anything of: it may stand in a write buffer (R10, R29).
    pub(super) fn not_cached(&mut self, unit: &Capabilities) {
        self.write_buffer |= unit.write_buffer_flush;
    }

    /// After a change of what was not present, on a unit that does not cache that.
    fn not_present(&mut self, unit: &Capabilities) {
        self.avoided = self.avoided.saturating_add((!unit.write_buffer_flush).into());
        self.not_cached(unit);
    }

    /// How many changes asked for nothing.
    pub(super) fn avoided(&self) -> u32 {
        self.avoided
    }

    /// All that the unit has, and its devices with these device-TLBs, which are all. That makes up for flushes that failed.
    pub(crate) fn everything(&mut self, device_tlbs: impl Iterator<Item = DeviceTlb>) {
        (self.everything, self.makes_up) = (true, true);
        device_tlbs.for_each(|device| self.device_tlb(device));
    }

    /// True if it makes up for flushes that failed.
    pub(super) fn makes_up(&self) -> bool {
        self.makes_up
    }

    /// Forgets what was collected.
    pub(crate) fn clear(&mut self) {
        if !self.is_empty() || self.write_buffer || self.avoided != 0 {
            *self = Self::default();
        }
    }

    /// After the root table pointer was set (R8).
    pub(super) fn root_pointer_set(&mut self, unit: &Capabilities) {
        self.everything |= !unit.root_pointer_invalidates;
    }

    /// After context entries of these requesters became present with `domain_id`. `root_entry`: an entry of the root
    /// table became present, too.
    ///
    /// The unit cannot have cached what was not present unless it has caching mode, but the entries may stand in a write
    /// buffer (R10, R29). With caching mode, an entry that is not present is cached with domain-id 0 (R33b), and a root
    /// entry asks for everything.
    pub(super) fn context_set(&mut self, unit: &Capabilities, requesters: &[u16], domain_id: u16, root_entry: bool) {
        match (unit.caching_mode, root_entry) {
            (false, _) => self.not_present(unit),
            (true, true) => self.everything = true,
            (true, false) => self.contexts(requesters, 0, domain_id),
        }
    }

    /// After context entries of these requesters, present with `domain_id`, were cleared. They let a device-TLB through if
    /// there is one.
    pub(super) fn context_cleared(&mut self, requesters: &[u16], domain_id: u16, device_tlb: Option<DeviceTlb>) {
        self.contexts(requesters, domain_id, domain_id);
        device_tlb.into_iter().for_each(|device| self.device_tlb(device));
    }

    /// All that a device-TLB has.
    pub(crate) fn device_tlb(&mut self, device: DeviceTlb) {
        self.target(Target { device, pages_of: None });
    }

    fn target(&mut self, target: Target) {
        // What a device says of itself may change from one cell to the next.
        match self.targets.iter_mut().find(|other| other.device.requester == target.device.requester) {
            Some(other) => {
                other.device.queue_depth = other.device.queue_depth.min(target.device.queue_depth);
                other.pages_of = other.pages_of.filter(|_| other.pages_of == target.pages_of);
            }
            None => {
                let full = self.targets.push(target).is_err();
                debug_assert!(!full, "there are no more devices than that");
            }
        }
    }

    /// Context entries, cached with `cached_as`, each with its own source-id (R45), and all that was translated with
    /// `domain_id`.
    fn contexts(&mut self, requesters: &[u16], cached_as: u16, domain_id: u16) {
        for &requester in requesters {
            self.context(Context::Device { requester, domain_id: cached_as });
        }
        self.domain(domain_id);
    }

    fn context(&mut self, context: Context) {
        let domain_id = context.domain_id();
        if self.contexts.contains(&context) || self.contexts.contains(&Context::Domain(domain_id)) {
            return;
        }
        let of_domain = self.contexts.iter().filter(|other| other.domain_id() == domain_id).count();
        let context = if of_domain < CONTEXTS_OF_DOMAIN {
            context
        } else {
            self.contexts.retain(|other| other.domain_id() != domain_id);
            Context::Domain(domain_id)
        };
        self.everything |= self.contexts.push(context).is_err();
    }

    fn domain(&mut self, domain_id: u16) {
        if !self.domains.contains(&domain_id) {
            self.iotlb |= self.domains.push(domain_id).is_err();
        }
    }

    /// After a change of the page table that the unit uses with `domain_id`: less rights or more (R30). `device_tlbs` are
    /// those of all functions that use it; they have nothing of what was not present, with caching mode, too (R29).
    pub(crate) fn page_table(
        &mut self,
        unit: &Capabilities,
        domain_id: u16,
        change: &Change,
        device_tlbs: impl Iterator<Item = DeviceTlb>,
    ) {
        if !change.was_present && !unit.caching_mode {
            return self.not_present(unit);
        }
        let page = |at: Iova| at.as_u64() / PAGE_BYTES;
        let (first, last) = (page(change.range.start()), page(change.range.last()));
        let was_present = change.was_present;
        let mut pages = Pages { domain_id, leaves_only: !change.tables, was_present, first, last };
        while let Some(other) =
            self.pages.iter().copied().find(|other| pages.overlaps(*other) || pages.continues(*other))
        {
            self.pages.retain(|kept| *kept != other);
            pages = pages.hull(other);
        }
        let told_apart = self.pages.push(pages).is_ok() || self.widen(pages);
        self.iotlb |= !told_apart;
        for device in device_tlbs.filter(|_| was_present) {
            self.target(Target { device, pages_of: told_apart.then_some(domain_id) });
        }
    }

    /// Takes in a range for which there is no room, together with the nearest of the domain and what is between them. False
    /// if there is none.
    fn widen(&mut self, pages: Pages) -> bool {
        let of_domain = self.pages.iter_mut().filter(|other| other.domain_id == pages.domain_id);
        let nearest = of_domain.min_by_key(|other| pages.gap(**other));
        nearest.map(|nearest| *nearest = nearest.hull(pages)).is_some()
    }

    /// True if the write buffer has to be flushed: an invalidation of the unit's own caches does that, too.
    pub(super) fn write_buffer(&self) -> bool {
        self.write_buffer && !self.is_for_unit()
    }

    /// True if there is nothing to invalidate.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_for_unit() && self.targets.is_empty()
    }

    /// True if there is something to invalidate in the unit itself: context entries never come without their domain, nor all
    /// of the IOTLB without the domains or pages that it stands for.
    fn is_for_unit(&self) -> bool {
        self.everything || !self.domains.is_empty() || !self.pages.is_empty()
    }

    /// Puts the invalidations, in order, into a list that is empty.
    pub(super) fn list(&self, unit: &Capabilities, list: &mut List) {
        if self.everything {
            list.add(Invalidation::ContextGlobal);
        } else {
            self.contexts.iter().for_each(|context| list.add(context.invalidation()));
        }
        if self.everything || self.iotlb {
            list.add(Invalidation::IotlbGlobal);
        } else {
            self.domains.iter().for_each(|domain_id| list.add(Invalidation::IotlbDomain(*domain_id)));
            self.list_pages(unit, list);
        }
        if list.all.len() > OF_UNIT {
            list.all.clear();
            EVERYTHING.into_iter().for_each(|one| list.add(one));
        }
        list.of_unit = list.all.len();
        self.list_targets(list);
    }

    /// For each domain-id that is not flushed as a whole, blocks for its pages, or all of it after all (R26, R27).
    fn list_pages(&self, unit: &Capabilities, list: &mut List) {
        let mut blocks = 0;
        for (index, &Pages { domain_id, .. }) in self.pages.iter().enumerate() {
            let pages = || self.pages_of(domain_id);
            let listed = self.pages.iter().take(index).any(|before| before.domain_id == domain_id);
            if listed || self.domains.contains(&domain_id) {
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
                        list.add(Invalidation::IotlbPages { domain_id, start, mask, leaves_only });
                    }
                }
                None => list.add(Invalidation::IotlbDomain(domain_id)),
            }
        }
    }

    fn pages_of(&self, domain_id: u16) -> impl Iterator<Item = Pages> + Clone + '_ {
        self.pages.iter().copied().filter(move |pages| pages.domain_id == domain_id)
    }

    /// Device-TLBs, after the IOTLB: a device may ask again at once (R24).
    fn list_targets(&self, list: &mut List) {
        let mut left = self.targets.len();
        for &Target { device, pages_of } in &self.targets {
            left -= 1;
            let cover = |domain_id| {
                let pages = self.pages_of(domain_id).filter(|pages| pages.was_present);
                Blocks::OF_DEVICE.cover(pages.map(|pages| (pages.first, pages.last)))
            };
            match pages_of.and_then(cover).filter(|blocks| blocks.len() + left <= list.room()) {
                Some(chosen) => {
                    for &Block { first, mask } in &chosen {
                        let start = Iova::new(first * PAGE_BYTES);
                        list.add(Invalidation::DeviceTlbPages { device, start, mask });
                    }
                }
                None => list.add(Invalidation::DeviceTlb(device)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
