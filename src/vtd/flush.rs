//! What a unit has to be told after a change of its structures: the shortest list that is right (S 6.5.3.3, table 28).
//!
//! Pure functions of the unit's capabilities and of what changed. Device-TLBs do not appear: no function is given one
//! (translation type 0), so none holds a translation.
#![forbid(unsafe_code)]

use super::Capabilities;
use super::descriptor::Descriptor;
use crate::addr::{Iova, IovaRange, PAGE_BYTES};
use crate::paging::Change;

/// More functions than this in one change are flushed by one global invalidation.
const MAX_DEVICES: usize = 8;

/// Invalidations in the order in which they have to be done (R24), or a write-buffer flush where none is needed (R10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "hardware may go on with what it has cached"]
pub(crate) struct Flush {
    descriptors: heapless::Vec<Descriptor, { MAX_DEVICES + 1 }>,
    write_buffer: bool,
}

impl Flush {
    /// The invalidations, in order.
    pub(super) fn descriptors(&self) -> &[Descriptor] {
        &self.descriptors
    }

    /// True if the write buffer has to be flushed instead.
    pub(super) fn write_buffer(&self) -> bool {
        self.write_buffer
    }

    fn of(descriptors: impl IntoIterator<Item = Descriptor>) -> Self {
        Self { descriptors: descriptors.into_iter().take(MAX_DEVICES + 1).collect(), write_buffer: false }
    }

    /// Entries became present that were not: the unit cannot have cached them unless it has caching mode, but they may
    /// stand in a write buffer (R10, R29).
    fn not_cached(unit: &Capabilities) -> Self {
        Self { descriptors: heapless::Vec::new(), write_buffer: unit.write_buffer_flush }
    }

    fn everything(unit: &Capabilities) -> Self {
        Self::of([Descriptor::context_global(), Descriptor::iotlb_global(unit)])
    }

    /// After the root table pointer was set (R8).
    pub(super) fn root_pointer_set(unit: &Capabilities) -> Self {
        if unit.root_pointer_invalidates { Self::default() } else { Self::everything(unit) }
    }

    /// After context entries of these requesters became present with `domain_id`. `root_entry`: an entry of the root
    /// table became present, too.
    ///
    /// With caching mode, an entry that is not present is cached with domain-id 0 (R33b), and a root entry asks for
    /// everything.
    pub(super) fn context_set(unit: &Capabilities, requesters: &[u16], domain_id: u16, root_entry: bool) -> Self {
        match (unit.caching_mode, root_entry) {
            (false, _) => Self::not_cached(unit),
            (true, true) => Self::everything(unit),
            (true, false) => Self::context(unit, requesters, 0, domain_id),
        }
    }

    /// After context entries of these requesters, present with `domain_id`, were cleared.
    pub(super) fn context_cleared(unit: &Capabilities, requesters: &[u16], domain_id: u16) -> Self {
        Self::context(unit, requesters, domain_id, domain_id)
    }

    /// Context entries, cached with `cached_as`, each with its own source-id (R45), and all that was translated with
    /// `domain_id`.
    fn context(unit: &Capabilities, requesters: &[u16], cached_as: u16, domain_id: u16) -> Self {
        if requesters.len() > MAX_DEVICES {
            return Self::everything(unit);
        }
        let context = requesters.iter().map(|&requester| Descriptor::context_device(requester, cached_as));
        Self::of(context.chain([Descriptor::iotlb_domain(unit, domain_id)]))
    }

    /// After a change of the page table that the unit uses with `domain_id`: less rights or more (R30).
    pub(crate) fn page_table(unit: &Capabilities, domain_id: u16, change: &Change) -> Self {
        if !change.was_present && !unit.caching_mode {
            return Self::not_cached(unit);
        }
        let (start, mask) = enclosing(change.range);
        Self::of([match unit.page_selective {
            // R26, R28.
            Some(largest) if mask <= largest => Descriptor::iotlb_pages(unit, domain_id, start, mask, !change.tables),
            // R27.
            _ => Descriptor::iotlb_domain(unit, domain_id),
        }])
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

    fn pages(unit: &Capabilities, page: u64, mask: u8, leaves_only: bool) -> Flush {
        Flush::of([Descriptor::iotlb_pages(unit, 7, Iova::new(page * PAGE_BYTES), mask, leaves_only)])
    }

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
        let new = change(8, 1, false, true);
        assert_eq!(Flush::page_table(&QEMU, 7, &new), Flush::default());
        assert_eq!(Flush::page_table(&BUFFERED, 7, &new), Flush { write_buffer: true, ..Flush::default() });
        assert_eq!(Flush::page_table(&CACHING, 7, &new), pages(&CACHING, 8, 0, false));
    }

    #[test]
    fn what_was_present_is_invalidated_with_the_hint_only_if_no_table_changed() {
        assert_eq!(Flush::page_table(&QEMU, 7, &change(8, 1, true, false)), pages(&QEMU, 8, 0, true));
        assert_eq!(Flush::page_table(&QEMU, 7, &change(8, 1, true, true)), pages(&QEMU, 8, 0, false));
        assert_eq!(Flush::page_table(&BUFFERED, 7, &change(0x17f, 3, true, true)), pages(&BUFFERED, 0x100, 8, false));
    }

    #[test]
    fn beyond_the_largest_mask_or_without_it_the_domain_is_invalidated() {
        let domain = Flush::of([Descriptor::iotlb_domain(&QEMU, 7)]);
        assert_eq!(Flush::page_table(&QEMU, 7, &change(0, 1 << 18, true, false)), pages(&QEMU, 0, 18, true));
        assert_eq!(Flush::page_table(&QEMU, 7, &change(0, (1 << 18) + 1, true, false)), domain);
        let coarse = Capabilities { page_selective: None, ..QEMU };
        assert_eq!(Flush::page_table(&coarse, 7, &change(0, 1, true, false)), domain);
    }

    #[test]
    fn setting_the_root_pointer_invalidates_everything_unless_the_unit_does() {
        let all = Flush::of([Descriptor::context_global(), Descriptor::iotlb_global(&QEMU)]);
        assert_eq!(Flush::root_pointer_set(&QEMU), all);
        assert_eq!(Flush::root_pointer_set(&Capabilities { root_pointer_invalidates: true, ..QEMU }), Flush::default());
    }

    #[test]
    fn an_entry_that_becomes_present_is_flushed_only_where_absence_is_cached() {
        assert_eq!(Flush::context_set(&QEMU, &[0x28], 7, true), Flush::default());
        assert_eq!(Flush::context_set(&BUFFERED, &[0x28], 7, false), Flush { write_buffer: true, ..Flush::default() });
        let cached = [Descriptor::context_device(0x28, 0), Descriptor::iotlb_domain(&CACHING, 7)];
        assert_eq!(Flush::context_set(&CACHING, &[0x28], 7, false), Flush::of(cached));
        assert_eq!(Flush::context_set(&CACHING, &[0x28], 7, true), Flush::everything(&CACHING));
    }

    #[test]
    fn a_cleared_entry_is_flushed_by_device_then_by_domain() {
        let list = [
            Descriptor::context_device(0x28, 7),
            Descriptor::context_device(0x300, 7),
            Descriptor::iotlb_domain(&QEMU, 7),
        ];
        assert_eq!(Flush::context_cleared(&QEMU, &[0x28, 0x300], 7), Flush::of(list));
        let many = [0; MAX_DEVICES + 1];
        assert_eq!(Flush::context_cleared(&QEMU, &many, 7), Flush::everything(&QEMU));
        assert_eq!(Flush::context_cleared(&QEMU, &many[1..], 7).descriptors().len(), MAX_DEVICES + 1);
    }
}
