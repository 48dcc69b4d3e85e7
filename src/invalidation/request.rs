//! What a unit has to invalidate after changes of its structures, collected: what is asked for twice is asked once, and what
//! is too much to be told apart is asked together. Each vendor makes the shortest right list of commands from it.
#![forbid(unsafe_code)]

use heapless::Vec;

use super::DeviceTlb;
use crate::addr::{Iova, PAGE_BYTES, Requester};
use crate::contract::{DomainId, Features};
use crate::interrupt::SlotBlock;
use crate::limits::List;
use crate::paging::Change;

/// Device entries, and domains, that are told apart.
pub(crate) const ENTRIES: usize = 16;
/// More entries of one domain cost more than to fetch all entries of the domain again.
const ENTRIES_OF_DOMAIN: usize = 4;
/// Domains whose translations are told apart.
pub(crate) const DOMAINS: usize = 16;
/// Ranges of pages that are told apart.
pub(crate) const RANGES: usize = 16;

/// What a unit tags cached entries with: a domain's id, or 0 for what was not present.
pub(crate) fn tag(domain: Option<DomainId>) -> u16 {
    domain.map_or(0, DomainId::get)
}

/// Which device entries the unit has to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleEntry {
    /// All that are cached with this tag.
    Domain(u16),
    /// Of those, the one of this function.
    Device { requester: Requester, tag: u16 },
}

impl StaleEntry {
    fn tag(self) -> u16 {
        match self {
            Self::Domain(tag) | Self::Device { tag, .. } => tag,
        }
    }
}

/// Pages of one domain whose entries changed. Those of one domain never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    pub tag: u16,
    /// No entry that leads to a table changed.
    pub leaves_only: bool,
    /// An entry that was present changed.
    pub was_present: bool,
    pub first: u64,
    pub last: u64,
}

impl Pages {
    /// The range that holds both.
    fn hull(self, other: Self) -> Self {
        Self {
            tag: self.tag,
            leaves_only: self.leaves_only && other.leaves_only,
            was_present: self.was_present || other.was_present,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.tag == other.tag && self.first <= other.last && other.first <= self.last
    }

    /// True if the two are one range, and alike.
    fn continues(self, other: Self) -> bool {
        let adjacent = self.last.wrapping_add(1) == other.first || other.last.wrapping_add(1) == self.first;
        let kind = |pages: Self| (pages.tag, pages.leaves_only, pages.was_present);
        adjacent && kind(self) == kind(other)
    }

    /// Pages between the two.
    fn gap(self, other: Self) -> u64 {
        self.first.saturating_sub(other.last).max(other.first.saturating_sub(self.last))
    }
}

/// A device-TLB that has to invalidate something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaleDeviceTlb {
    pub device: DeviceTlb,
    /// The pages with this tag whose entries were present; all that it has if `None`.
    pub pages_of: Option<u16>,
}

/// What a unit has to invalidate after one or more changes, or that its write buffer has to be flushed (R10).
#[derive(Debug)]
#[must_use = "hardware may go on with what it has cached"]
pub(crate) struct Flush<'s> {
    /// All that the unit itself has cached.
    everything: bool,
    /// That, and all that the unit's devices have: whatever else was asked before is asked with it.
    repeats_failed: bool,
    /// The smallest block that holds all entries of interrupts.
    interrupts: Option<SlotBlock>,
    entries: Vec<StaleEntry, ENTRIES>,
    /// All translations.
    translations: bool,
    /// All translations with these tags.
    domains: Vec<u16, DOMAINS>,
    pages: Vec<Pages, RANGES>,
    targets: List<'s, StaleDeviceTlb>,
    write_buffer: bool,
    /// How many changes asked for nothing.
    avoided: u32,
}

/// What changes ask for.
impl<'s> Flush<'s> {
    /// Nothing yet, with room for so many device-TLBs.
    pub(crate) fn new(targets: List<'s, StaleDeviceTlb>) -> Self {
        Self {
            everything: false,
            repeats_failed: false,
            interrupts: None,
            entries: Vec::new(),
            translations: false,
            domains: Vec::new(),
            pages: Vec::new(),
            targets,
            write_buffer: false,
            avoided: 0,
        }
    }

    /// After a change that the unit cannot have cached anything of: it may stand in a write buffer (R10, R29).
    pub(crate) fn not_cached(&mut self, unit: &Features) {
        self.write_buffer |= unit.write_buffer;
    }

    /// After a change of what was not present, on a unit that does not cache that.
    fn not_present(&mut self, unit: &Features) {
        self.avoided = self.avoided.saturating_add((!unit.write_buffer).into());
        self.not_cached(unit);
    }

    /// All that the unit has, and its devices with these device-TLBs, which are all. That repeats flushes that failed.
    pub(crate) fn everything(&mut self, device_tlbs: impl Iterator<Item = DeviceTlb>) {
        (self.everything, self.repeats_failed) = (true, true);
        device_tlbs.for_each(|device| self.device_tlb(device));
    }

    /// Forgets what was collected.
    pub(crate) fn clear(&mut self) {
        let Self {
            everything,
            repeats_failed,
            interrupts,
            entries,
            translations,
            domains,
            pages,
            targets,
            write_buffer,
            avoided,
        } = self;
        (*everything, *repeats_failed, *translations, *write_buffer, *avoided) = (false, false, false, false, 0);
        *interrupts = None;
        entries.clear();
        domains.clear();
        pages.clear();
        targets.clear();
    }

    /// After entries of these requesters became present with the domain's id, or without one. `new_table`: an entry of a
    /// table that leads to them became present, too.
    ///
    /// The unit cannot have cached what was not present unless it caches that, but the entries may stand in a write buffer
    /// (R10, R29). Where absence is cached, it is with the tag 0 (R33b), and a new table asks for everything.
    pub(crate) fn entry_set(
        &mut self,
        unit: &Features,
        requesters: &[Requester],
        domain: Option<DomainId>,
        new_table: bool,
    ) {
        match (unit.caches_absent, new_table) {
            (false, _) => self.not_present(unit),
            (true, true) => self.everything = true,
            (true, false) => self.entries(requesters, 0, tag(domain)),
        }
    }

    /// After entries of these requesters, present with the domain's id, were cleared. They let a device-TLB through if
    /// there is one.
    pub(crate) fn entry_cleared(
        &mut self,
        requesters: &[Requester],
        domain: Option<DomainId>,
        device_tlb: Option<DeviceTlb>,
    ) {
        self.entries(requesters, tag(domain), tag(domain));
        device_tlb.into_iter().for_each(|device| self.device_tlb(device));
    }

    /// After entries of interrupts changed, some of which were present, or none.
    pub(crate) fn interrupts_set(&mut self, unit: &Features, block: SlotBlock, was_present: bool) {
        if !was_present && !unit.caches_absent {
            return self.not_present(unit);
        }
        self.interrupts = Some(self.interrupts.map_or(block, |others| others.hull(block)));
    }

    /// All that a device-TLB has.
    pub(crate) fn device_tlb(&mut self, device: DeviceTlb) {
        self.target(StaleDeviceTlb { device, pages_of: None });
    }

    fn target(&mut self, target: StaleDeviceTlb) {
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

    /// Entries that are cached with one tag, each with its own source-id (R45), and all that was translated with the other.
    fn entries(&mut self, requesters: &[Requester], cached_as: u16, tag: u16) {
        for &requester in requesters {
            self.entry(StaleEntry::Device { requester, tag: cached_as });
        }
        self.domain(tag);
    }

    fn entry(&mut self, entry: StaleEntry) {
        let tag = entry.tag();
        if self.entries.contains(&entry) || self.entries.contains(&StaleEntry::Domain(tag)) {
            return;
        }
        let of_domain = self.entries.iter().filter(|other| other.tag() == tag).count();
        let entry = if of_domain < ENTRIES_OF_DOMAIN {
            entry
        } else {
            self.entries.retain(|other| other.tag() != tag);
            StaleEntry::Domain(tag)
        };
        self.everything |= self.entries.push(entry).is_err();
    }

    fn domain(&mut self, tag: u16) {
        if !self.domains.contains(&tag) {
            self.translations |= self.domains.push(tag).is_err();
        }
    }

    /// After a change of the domain's page table: less rights or more (R30). `device_tlbs` are those of all functions that
    /// use it; they have nothing of what was not present, on any unit (R29).
    pub(crate) fn page_table(
        &mut self,
        unit: &Features,
        domain: DomainId,
        change: &Change,
        device_tlbs: impl Iterator<Item = DeviceTlb>,
    ) {
        if !change.was_present && !unit.caches_absent {
            return self.not_present(unit);
        }
        let page = |at: Iova| at.as_u64() / PAGE_BYTES;
        let (first, last) = (page(change.range.start()), page(change.range.last()));
        let (tag, was_present) = (domain.get(), change.was_present);
        let mut pages = Pages { tag, leaves_only: !change.tables, was_present, first, last };
        while let Some(other) =
            self.pages.iter().copied().find(|other| pages.overlaps(*other) || pages.continues(*other))
        {
            self.pages.retain(|kept| *kept != other);
            pages = pages.hull(other);
        }
        let told_apart = self.pages.push(pages).is_ok() || self.widen(pages);
        self.translations |= !told_apart;
        for device in device_tlbs.filter(|_| was_present) {
            self.target(StaleDeviceTlb { device, pages_of: told_apart.then_some(tag) });
        }
    }

    /// Takes in a range for which there is no room, together with the nearest of the domain and what is between them. False
    /// if there is none.
    fn widen(&mut self, pages: Pages) -> bool {
        let of_domain = self.pages.iter_mut().filter(|other| other.tag == pages.tag);
        let nearest = of_domain.min_by_key(|other| pages.gap(**other));
        nearest.map(|nearest| *nearest = nearest.hull(pages)).is_some()
    }
}

/// What a unit makes its list from.
impl Flush<'_> {
    /// How many changes asked for nothing.
    pub(crate) fn avoided(&self) -> u32 {
        self.avoided
    }

    /// True if it repeats flushes that failed.
    pub(crate) fn repeats_failed(&self) -> bool {
        self.repeats_failed
    }

    /// True if the write buffer has to be flushed: an invalidation of the unit's own caches does that, too.
    pub(crate) fn write_buffer(&self) -> bool {
        self.write_buffer && !self.is_for_unit()
    }

    /// True if there is nothing to invalidate.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_for_unit() && self.targets.is_empty()
    }

    /// True if there is something to invalidate in the unit itself: entries never come without their domain, nor all
    /// translations without the domains or pages that they stand for.
    fn is_for_unit(&self) -> bool {
        self.everything || self.interrupts.is_some() || !self.domains.is_empty() || !self.pages.is_empty()
    }

    /// The block of interrupts' entries; `Some(None)` for all of them, and `None` for none.
    pub(crate) fn interrupts(&self) -> Option<Option<SlotBlock>> {
        if self.everything { Some(None) } else { self.interrupts.map(Some) }
    }

    /// The device entries; `None` for all of them.
    pub(crate) fn device_entries(&self) -> Option<&[StaleEntry]> {
        (!self.everything).then_some(&*self.entries)
    }

    /// The tags of which all translations go, and pages of others; `None` for all translations.
    pub(crate) fn translations(&self) -> Option<(&[u16], &[Pages])> {
        (!self.everything && !self.translations).then_some((&*self.domains, &*self.pages))
    }

    /// The device-TLBs.
    pub(crate) fn targets(&self) -> &[StaleDeviceTlb] {
        &self.targets
    }

    /// The pages with a tag.
    pub(crate) fn pages_of(&self, tag: u16) -> impl Iterator<Item = Pages> + Clone + '_ {
        self.pages.iter().copied().filter(move |pages| pages.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_share_a_page_overlap_and_those_that_touch_do_not() {
        let part = |first, last| Pages { tag: 7, leaves_only: true, was_present: true, first, last };
        let each_way = |one: Pages, other: Pages| [one.overlaps(other), other.overlaps(one)];
        assert_eq!(each_way(part(4, 8), part(8, 9)), [true; 2]);
        assert_eq!(each_way(part(4, 8), part(9, 9)), [false; 2]);
        assert_eq!(each_way(part(4, 8), Pages { tag: 8, ..part(8, 9) }), [false; 2]);
    }
}
