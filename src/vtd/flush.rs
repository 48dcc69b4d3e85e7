//! What a unit has to be told after a change of its structures: the shortest list that is right (S 6.5.3.3, table 28).
//!
//! Pure functions of the unit's capabilities and of what changed. Device-TLBs do not appear: no function is given one
//! (translation type 0), so none holds a translation.
#![forbid(unsafe_code)]

use super::{Capabilities, Invalidation};
use crate::addr::{Iova, IovaRange, PAGE_BYTES};
use crate::paging::Change;

/// More than this is flushed by everything at once.
const MAX_INVALIDATIONS: usize = 16;

/// Invalidations in the order in which they have to be done (R24), or a write-buffer flush where none is needed (R10).
/// Collects what several changes of one unit ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "hardware may go on with what it has cached"]
pub(crate) struct Flush {
    /// Those of the context-cache.
    context: heapless::Vec<Invalidation, MAX_INVALIDATIONS>,
    /// Those of the IOTLB.
    iotlb: heapless::Vec<Invalidation, MAX_INVALIDATIONS>,
    write_buffer: bool,
}

impl Flush {
    /// The invalidations, in order.
    pub(super) fn invalidations(&self) -> impl Iterator<Item = Invalidation> + Clone + '_ {
        self.context.iter().chain(&self.iotlb).copied()
    }

    /// True if there is no invalidation.
    pub(super) fn is_empty(&self) -> bool {
        self.context.is_empty() && self.iotlb.is_empty()
    }

    /// True if the write buffer has to be flushed instead.
    pub(super) fn write_buffer(&self) -> bool {
        self.write_buffer && self.is_empty()
    }

    fn add(&mut self, invalidation: Invalidation) {
        use Invalidation::{ContextDevice, ContextGlobal, IotlbGlobal};
        let (list, all) = match invalidation {
            ContextGlobal | ContextDevice { .. } => (&mut self.context, ContextGlobal),
            _ => (&mut self.iotlb, IotlbGlobal),
        };
        if list.iter().any(|other| other.covers(invalidation)) {
            return;
        }
        list.retain(|other| !invalidation.covers(*other));
        if list.push(invalidation).is_err() {
            list.clear();
            let _ = list.push(all);
        }
    }

    fn add_everything(&mut self) {
        self.add(Invalidation::ContextGlobal);
        self.add(Invalidation::IotlbGlobal);
    }

    /// After the root table pointer was set (R8).
    pub(super) fn root_pointer_set(&mut self, unit: &Capabilities) {
        if !unit.root_pointer_invalidates {
            self.add_everything();
        }
    }

    /// After context entries of these requesters became present with `domain_id`. `root_entry`: an entry of the root
    /// table became present, too.
    ///
    /// The unit cannot have cached what was not present unless it has caching mode, but the entries may stand in a write
    /// buffer (R10, R29). With caching mode, an entry that is not present is cached with domain-id 0 (R33b), and a root
    /// entry asks for everything.
    pub(super) fn context_set(&mut self, unit: &Capabilities, requesters: &[u16], domain_id: u16, root_entry: bool) {
        match (unit.caching_mode, root_entry) {
            (false, _) => self.write_buffer |= unit.write_buffer_flush,
            (true, true) => self.add_everything(),
            (true, false) => self.context(requesters, 0, domain_id),
        }
    }

    /// After context entries of these requesters, present with `domain_id`, were cleared.
    pub(super) fn context_cleared(&mut self, requesters: &[u16], domain_id: u16) {
        self.context(requesters, domain_id, domain_id);
    }

    /// Context entries, cached with `cached_as`, each with its own source-id (R45), and all that was translated with
    /// `domain_id`.
    fn context(&mut self, requesters: &[u16], cached_as: u16, domain_id: u16) {
        for &requester in requesters {
            self.add(Invalidation::ContextDevice { requester, domain_id: cached_as });
        }
        self.add(Invalidation::IotlbDomain(domain_id));
    }

    /// After a change of the page table that the unit uses with `domain_id`: less rights or more (R30).
    pub(crate) fn page_table(&mut self, unit: &Capabilities, domain_id: u16, change: &Change) {
        if !change.was_present && !unit.caching_mode {
            self.write_buffer |= unit.write_buffer_flush;
            return;
        }
        let (start, mask) = enclosing(change.range);
        self.add(match unit.page_selective {
            // R26, R28.
            Some(largest) if mask <= largest => {
                Invalidation::IotlbPages { domain_id, start, mask, leaves_only: !change.tables }
            }
            // R27.
            _ => Invalidation::IotlbDomain(domain_id),
        });
    }
}

/// The smallest block of 2^n pages, aligned to its size, that holds the range: its start, and n.
fn enclosing(range: IovaRange) -> (Iova, u8) {
    let (first, last) = (range.start().as_u64() / PAGE_BYTES, range.last().as_u64() / PAGE_BYTES);
    let mask = u64::BITS - (first ^ last).leading_zeros();
    (Iova::new((first >> mask << mask) * PAGE_BYTES), mask as u8)
}

#[cfg(test)]
mod tests {
    use super::Invalidation::{ContextDevice, ContextGlobal, IotlbDomain, IotlbGlobal};
    use super::*;
    use crate::vtd::capabilities::tests::QEMU;

    const CACHING: Capabilities = Capabilities { caching_mode: true, ..QEMU };
    const BUFFERED: Capabilities = Capabilities { write_buffer_flush: true, ..QEMU };

    fn range(page: u64, pages: u64) -> IovaRange {
        IovaRange::new(Iova::new(page * PAGE_BYTES), pages * PAGE_BYTES).unwrap()
    }

    fn change(page: u64, pages: u64, was_present: bool, tables: bool) -> Change {
        Change { was_present, tables, ..Change::none(range(page, pages)) }
    }

    fn pages(page: u64, mask: u8, leaves_only: bool) -> Invalidation {
        Invalidation::IotlbPages { domain_id: 7, start: Iova::new(page * PAGE_BYTES), mask, leaves_only }
    }

    /// What a flush of one change asks for, and whether the write buffer has to be flushed.
    fn list(collect: impl FnOnce(&mut Flush)) -> (Vec<Invalidation>, bool) {
        let mut flush = Flush::default();
        collect(&mut flush);
        (flush.invalidations().collect(), flush.write_buffer())
    }

    fn of_table(unit: &Capabilities, change: Change) -> (Vec<Invalidation>, bool) {
        list(|flush| flush.page_table(unit, 7, &change))
    }

    const EVERYTHING: [Invalidation; 2] = [ContextGlobal, IotlbGlobal];

    #[test]
    fn the_enclosing_block_holds_the_range_and_is_the_smallest() {
        let block = |page, pages| {
            let (start, mask) = enclosing(range(page, pages));
            (start.as_u64() / PAGE_BYTES, mask)
        };
        assert_eq!(block(5, 1), (5, 0));
        assert_eq!(block(4, 2), (4, 1));
        assert_eq!(block(0x17f, 3), (0x100, 8), "the range crosses 0x180");
        assert_eq!(block(0x200, 0x200), (0x200, 9));
        for (first, count) in (0..40).flat_map(|first| (1..40).map(move |count| (first, count))) {
            let (start, mask) = block(first, count);
            let holds = |mask: u8| first >> mask == (first + count - 1) >> mask;
            assert!(start <= first && first + count <= start + (1 << mask) && start % (1 << mask) == 0);
            assert!(holds(mask) && (mask == 0 || !holds(mask - 1)));
        }
        assert_eq!(enclosing(IovaRange::new(Iova::new(0), u64::MAX).unwrap()), (Iova::new(0), 52));
    }

    #[test]
    fn a_new_mapping_needs_nothing_unless_the_unit_caches_absence_or_buffers_writes() {
        let new = || change(8, 1, false, true);
        assert_eq!(of_table(&QEMU, new()), (vec![], false));
        assert_eq!(of_table(&BUFFERED, new()), (vec![], true));
        assert_eq!(of_table(&CACHING, new()), (vec![pages(8, 0, false)], false));
    }

    #[test]
    fn what_was_present_is_invalidated_with_the_hint_only_if_no_table_changed() {
        assert_eq!(of_table(&QEMU, change(8, 1, true, false)), (vec![pages(8, 0, true)], false));
        assert_eq!(of_table(&QEMU, change(8, 1, true, true)), (vec![pages(8, 0, false)], false));
        assert_eq!(of_table(&BUFFERED, change(0x17f, 3, true, true)), (vec![pages(0x100, 8, false)], false));
    }

    #[test]
    fn beyond_the_largest_mask_or_without_it_the_domain_is_invalidated() {
        assert_eq!(of_table(&QEMU, change(0, 1 << 18, true, false)).0, [pages(0, 18, true)]);
        assert_eq!(of_table(&QEMU, change(0, (1 << 18) + 1, true, false)).0, [IotlbDomain(7)]);
        let coarse = Capabilities { page_selective: None, ..QEMU };
        assert_eq!(of_table(&coarse, change(0, 1, true, false)).0, [IotlbDomain(7)]);
    }

    #[test]
    fn setting_the_root_pointer_invalidates_everything_unless_the_unit_does() {
        assert_eq!(list(|flush| flush.root_pointer_set(&QEMU)).0, EVERYTHING);
        let unit = Capabilities { root_pointer_invalidates: true, ..QEMU };
        assert_eq!(list(|flush| flush.root_pointer_set(&unit)).0, []);
    }

    #[test]
    fn an_entry_that_becomes_present_is_flushed_only_where_absence_is_cached() {
        let set = |unit, root_entry| list(|flush| flush.context_set(unit, &[0x28], 7, root_entry));
        assert_eq!(set(&QEMU, true), (vec![], false));
        assert_eq!(set(&BUFFERED, false), (vec![], true));
        assert_eq!(set(&CACHING, false).0, [ContextDevice { requester: 0x28, domain_id: 0 }, IotlbDomain(7)]);
        assert_eq!(set(&CACHING, true).0, EVERYTHING);
    }

    #[test]
    fn a_cleared_entry_is_flushed_by_device_then_by_domain() {
        let device = |requester| ContextDevice { requester, domain_id: 7 };
        let cleared = list(|flush| flush.context_cleared(&[0x28, 0x300], 7)).0;
        assert_eq!(cleared, [device(0x28), device(0x300), IotlbDomain(7)]);
        let many: Vec<u16> = (0..=MAX_INVALIDATIONS as u16).collect();
        assert_eq!(list(|flush| flush.context_cleared(&many, 7)).0, [ContextGlobal, IotlbDomain(7)]);
        assert_eq!(list(|flush| flush.context_cleared(&many[1..], 7)).0.len(), MAX_INVALIDATIONS + 1);
    }

    #[test]
    fn several_changes_ask_for_no_more_than_they_need_together() {
        let several = list(|flush| {
            flush.page_table(&BUFFERED, 7, &change(8, 1, true, false));
            flush.page_table(&BUFFERED, 7, &change(20, 1, true, false));
            flush.page_table(&BUFFERED, 7, &change(30, 1, false, false));
            flush.context_cleared(&[0x28], 7);
            flush.context_cleared(&[0x30], 7);
            flush.context_set(&BUFFERED, &[0x38], 9, false);
        });
        let device = |requester| ContextDevice { requester, domain_id: 7 };
        assert_eq!(several, (vec![device(0x28), device(0x30), IotlbDomain(7)], false));
        let apart = list(|flush| {
            flush.page_table(&QEMU, 7, &change(8, 1, true, false));
            flush.page_table(&QEMU, 7, &change(8, 2, true, false));
            flush.page_table(&QEMU, 7, &change(9, 1, true, false));
        });
        assert_eq!(apart.0, [pages(8, 1, true)]);
    }

    #[test]
    fn too_many_blocks_are_flushed_by_everything() {
        let many = list(|flush| {
            (0..=MAX_INVALIDATIONS as u64).for_each(|n| flush.page_table(&QEMU, 7, &change(n * 4, 1, true, false)));
        });
        assert_eq!(many.0, [IotlbGlobal]);
    }
}
