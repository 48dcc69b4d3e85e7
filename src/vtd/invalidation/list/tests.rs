use core::mem::MaybeUninit;
use std::vec;
use std::vec::Vec;

use super::Invalidation::{ContextDevice, ContextDomain, ContextGlobal, IotlbDomain, IotlbGlobal};
use super::*;
use crate::addr::{IovaRange, Requester};
use crate::contract::DomainId;
use crate::interrupt::SlotBlock;
use crate::invalidation::DeviceTlb;
use crate::paging::Change;
use crate::vtd::capabilities::tests::QEMU;

mod oracle;

const CACHING: Capabilities = Capabilities { caching_mode: true, ..QEMU };
const BUFFERED: Capabilities = Capabilities { write_buffer_flush: true, ..QEMU };
const NO_DEVICE: core::iter::Empty<DeviceTlb> = core::iter::empty();
const EVERYTHING: [Invalidation; 2] = [ContextGlobal, IotlbGlobal];

/// What changes ask for, by plain numbers.
trait Asked {
    fn table(&mut self, unit: &Capabilities, id: u16, change: &Change, tlbs: impl Iterator<Item = DeviceTlb>);
    fn set(&mut self, unit: &Capabilities, requesters: &[u16], id: u16, new_table: bool);
    fn cleared(&mut self, requesters: &[u16], id: u16, device_tlb: Option<DeviceTlb>);
}

impl Asked for Flush<'_> {
    fn table(&mut self, unit: &Capabilities, id: u16, change: &Change, tlbs: impl Iterator<Item = DeviceTlb>) {
        self.page_table(&unit.features(52), DomainId::new(id).unwrap(), change, tlbs);
    }

    fn set(&mut self, unit: &Capabilities, requesters: &[u16], id: u16, new_table: bool) {
        self.entry_set(&unit.features(52), &all(requesters), DomainId::new(id), new_table);
    }

    fn cleared(&mut self, requesters: &[u16], id: u16, device_tlb: Option<DeviceTlb>) {
        self.entry_cleared(&all(requesters), DomainId::new(id), device_tlb);
    }
}

fn all(requesters: &[u16]) -> Vec<Requester> {
    requesters.iter().copied().map(Requester::new).collect()
}

fn range(page: u64, pages: u64) -> IovaRange {
    IovaRange::new(Iova::new(page * PAGE_BYTES), pages * PAGE_BYTES).unwrap()
}

fn change(page: u64, pages: u64, was_present: bool, tables: bool) -> Change {
    Change { was_present, tables, ..Change::none(range(page, pages)) }
}

fn pages(page: u64, mask: u8, leaves_only: bool) -> Invalidation {
    Invalidation::IotlbPages { domain_id: 7, start: Iova::new(page * PAGE_BYTES), mask, leaves_only }
}

fn context(requester: u16, domain_id: u16) -> Invalidation {
    ContextDevice { requester: Requester::new(requester), domain_id }
}

/// So many device-TLBs there may be here.
const DEVICES: usize = 32;

fn fresh() -> Flush<'static> {
    Flush::new(limits::List::new(vec![MaybeUninit::uninit(); DEVICES].leak()))
}

fn listed(unit: &Capabilities, flush: &Flush<'_>) -> CommandList<'static> {
    listed_for(unit, false, flush)
}

fn listed_for(unit: &Capabilities, remaps: bool, flush: &Flush<'_>) -> CommandList<'static> {
    let mut carver = Carver::new(vec![MaybeUninit::uninit(); CommandList::words(DEVICES)].leak());
    let mut list = CommandList::cut(&mut carver, DEVICES).unwrap();
    list.fill(unit, remaps, flush);
    list
}

fn all_of(unit: &Capabilities, flush: &Flush<'_>) -> Vec<Invalidation> {
    let list = listed(unit, flush);
    let (unit, devices) = list.parts();
    [unit, devices].concat()
}

/// What a flush asks for, and whether the write buffer has to be flushed.
fn list(unit: &Capabilities, collect: impl FnOnce(&mut Flush<'_>)) -> (Vec<Invalidation>, bool) {
    let mut flush = fresh();
    collect(&mut flush);
    (all_of(unit, &flush), flush.write_buffer())
}

fn of_table(unit: &Capabilities, change: Change) -> (Vec<Invalidation>, bool) {
    list(unit, |flush| flush.table(unit, 7, &change, NO_DEVICE))
}

#[test]
fn a_new_mapping_is_flushed_for_cached_absence_or_buffers() {
    let new = || change(8, 1, false, true);
    assert_eq!(of_table(&QEMU, new()), (vec![], false));
    assert_eq!(of_table(&BUFFERED, new()), (vec![], true));
    assert_eq!(of_table(&CACHING, new()), (vec![pages(8, 0, false)], false));
}

#[test]
fn the_hint_is_given_only_if_no_table_changed() {
    assert_eq!(of_table(&QEMU, change(8, 1, true, false)), (vec![pages(8, 0, true)], false));
    assert_eq!(of_table(&QEMU, change(8, 1, true, true)), (vec![pages(8, 0, false)], false));
    let two = vec![pages(0x17f, 0, false), pages(0x180, 1, false)];
    assert_eq!(of_table(&BUFFERED, change(0x17f, 3, true, true)), (two, false));
}

#[test]
fn blocks_that_touch_a_changed_table_have_no_hint() {
    let several = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(0, 1, true, false), NO_DEVICE);
        flush.table(&QEMU, 7, &change(0x1000, 1, true, true), NO_DEVICE);
    });
    assert_eq!(several.0, [pages(0, 0, true), pages(0x1000, 0, false)]);
    let one = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(0, 1, true, false), NO_DEVICE);
        flush.table(&QEMU, 7, &change(1, 1, true, true), NO_DEVICE);
    });
    assert_eq!(one.0, [pages(0, 1, false)]);
    let neighbours = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(0x17f, 1, true, false), NO_DEVICE);
        flush.table(&QEMU, 7, &change(0x180, 1, true, true), NO_DEVICE);
    });
    assert_eq!(neighbours.0, [pages(0x17f, 0, true), pages(0x180, 0, false)]);
}

#[test]
fn without_blocks_that_cover_it_the_domain_is_invalidated() {
    let wide = 1 << 18;
    assert_eq!(of_table(&QEMU, change(0, wide, true, false)).0, [pages(0, 18, true)]);
    assert_eq!(of_table(&QEMU, change(0, wide + 1, true, false)).0, [pages(0, 18, true), pages(wide, 0, true)]);
    assert_eq!(of_table(&QEMU, change(0, 9 * wide, true, false)).0, [IotlbDomain(7)]);
    let narrow = Capabilities { page_selective: Some(17), ..QEMU };
    assert_eq!(of_table(&narrow, change(0, wide, true, false)).0, [IotlbDomain(7)], "it may be one page of 1 GiB");
    let small = Capabilities { page_selective: Some(17), max_leaf_level: 2, ..QEMU };
    assert_eq!(of_table(&small, change(0, wide, true, false)).0, [pages(0, 17, true), pages(wide / 2, 17, true)]);
    let coarse = Capabilities { page_selective: None, ..QEMU };
    assert_eq!(of_table(&coarse, change(0, 1, true, false)).0, [IotlbDomain(7)]);
}

#[test]
fn all_that_the_unit_has_is_asked_for_once() {
    let twice = list(&QEMU, |flush| (0..2).for_each(|_| flush.everything(NO_DEVICE)));
    assert_eq!(twice.0, EVERYTHING);
}

#[test]
fn a_new_entry_is_flushed_only_where_absence_is_cached() {
    let set = |unit, root_entry| list(unit, |flush| flush.set(unit, &[0x28], 7, root_entry));
    assert_eq!(set(&QEMU, true), (vec![], false));
    assert_eq!(set(&BUFFERED, false), (vec![], true));
    assert_eq!(set(&CACHING, false).0, [context(0x28, 0), IotlbDomain(7)]);
    assert_eq!(set(&CACHING, true).0, EVERYTHING);
}

#[test]
fn a_cleared_entry_is_flushed_by_device_then_by_domain() {
    let cleared = |requesters: &[u16]| list(&QEMU, |flush| flush.cleared(requesters, 7, None)).0;
    assert_eq!(cleared(&[0x28, 0x300]), [context(0x28, 7), context(0x300, 7), IotlbDomain(7)]);
    assert_eq!(cleared(&[1, 2, 3, 4]).len(), 5);
    assert_eq!(cleared(&[1, 2, 3, 4, 5]), [ContextDomain(7), IotlbDomain(7)]);
    assert_eq!(cleared(&[1, 2, 3, 4, 5, 6]), [ContextDomain(7), IotlbDomain(7)]);
}

#[test]
fn too_many_contexts_take_all_of_the_iotlb_with_them() {
    let of_domains = |count: u16| list(&QEMU, |flush| (1..=count).for_each(|n| flush.cleared(&[n], n, None))).0;
    let some = of_domains(ENTRIES as u16);
    assert_eq!((some.len(), some[ENTRIES - 1], some[ENTRIES]), (2 * ENTRIES, context(16, 16), IotlbDomain(1)));
    assert_eq!(of_domains(ENTRIES as u16 + 1), EVERYTHING, "section 6.5.2.1");
    assert_eq!(of_domains(ENTRIES as u16 + 2), EVERYTHING);
}

#[test]
fn several_changes_ask_for_no_more_than_they_need_together() {
    let several = list(&BUFFERED, |flush| {
        flush.table(&BUFFERED, 7, &change(8, 1, true, false), NO_DEVICE);
        flush.table(&BUFFERED, 7, &change(20, 1, true, false), NO_DEVICE);
        flush.table(&BUFFERED, 7, &change(30, 1, false, false), NO_DEVICE);
        flush.cleared(&[0x28], 7, None);
        flush.cleared(&[0x30], 7, None);
        flush.cleared(&[0x28], 7, None);
        flush.set(&BUFFERED, &[0x38], 9, false);
    });
    assert_eq!(several, (vec![context(0x28, 7), context(0x30, 7), IotlbDomain(7)], false));
    let together = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(8, 1, true, false), NO_DEVICE);
        flush.table(&QEMU, 7, &change(8, 2, true, false), NO_DEVICE);
        flush.table(&QEMU, 7, &change(9, 1, true, false), NO_DEVICE);
    });
    assert_eq!(together.0, [pages(8, 1, true)]);
}

#[test]
fn more_ranges_than_are_kept_are_merged_into_wider_ones() {
    let far = 1 << 20;
    let scattered = |count: u64| {
        list(&QEMU, |flush| {
            (0..count).for_each(|n| flush.table(&QEMU, 7, &change(n * 0x1000, 1, true, false), NO_DEVICE));
            flush.table(&QEMU, 7, &change(far, 1, true, true), NO_DEVICE);
        })
    };
    assert_eq!(scattered(2).0, [pages(0, 0, true), pages(0x1000, 0, true), pages(far, 0, false)]);
    assert_eq!(scattered(8).0, [IotlbDomain(7)], "nine descriptors");
    let close = list(&QEMU, |flush| {
        (0..RANGES as u64).for_each(|n| flush.table(&QEMU, 7, &change(n * 2, 1, true, false), NO_DEVICE));
        flush.table(&QEMU, 7, &change(0x1000, 1, true, true), NO_DEVICE);
    });
    assert_eq!(close.0, [pages(0, 12, false), pages(0x1000, 0, false)], "all from the nearest on");
}

#[test]
fn too_many_domains_take_all_of_the_iotlb() {
    let of_domains = |count: u16| {
        list(&QEMU, |flush| (1..=count).for_each(|n| flush.table(&QEMU, n, &change(8, 1, true, false), NO_DEVICE))).0
    };
    assert_eq!(of_domains(RANGES as u16).len(), RANGES);
    assert_eq!(of_domains(RANGES as u16 + 1), [IotlbGlobal]);
    assert_eq!(of_domains(RANGES as u16 + 2), [IotlbGlobal]);
    let set = |count: u16| list(&CACHING, |flush| (1..=count).for_each(|n| flush.set(&CACHING, &[n], n, false))).0;
    assert_eq!(set(DOMAINS as u16).len(), 1 + DOMAINS);
    assert_eq!(set(DOMAINS as u16 + 1), [ContextDomain(0), IotlbGlobal]);
    assert_eq!(set(DOMAINS as u16 + 2), [ContextDomain(0), IotlbGlobal]);
}

#[test]
fn adjacent_pages_are_one_range_whichever_comes_first() {
    let around = 0x100;
    let one = list(&QEMU, |flush| {
        for n in 0..RANGES as u64 {
            flush.table(&QEMU, 7, &change(around + n, 1, true, false), NO_DEVICE);
            flush.table(&QEMU, 7, &change(around - 1 - n, 1, true, false), NO_DEVICE);
        }
        (1..RANGES as u16).for_each(|n| flush.table(&QEMU, 7 + n, &change(8, 1, true, false), NO_DEVICE));
    });
    assert_eq!(one.0[..2], [pages(around - RANGES as u64, 4, true), pages(around, 4, true)]);
    assert_eq!(one.0.len(), 2 + RANGES - 1);
}

#[test]
fn a_range_for_which_there_is_no_room_goes_with_the_nearest() {
    let (near, far) = (0x1_0000, 0);
    let crowded = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(far, 1, true, false), NO_DEVICE);
        (1..RANGES as u64).for_each(|n| flush.table(&QEMU, 7, &change(near + n * 2, 1, true, false), NO_DEVICE));
        flush.table(&QEMU, 7, &change(near + 0x30, 1, true, false), NO_DEVICE);
    });
    assert_eq!(crowded.0, [pages(far, 0, true), pages(near, 6, true)]);
}

#[test]
fn beyond_so_many_blocks_domains_are_flushed_as_a_whole() {
    let several = |three_each: u16| {
        list(&QEMU, |flush| {
            for n in 1..=RANGES as u16 {
                let change =
                    if n <= three_each { change(0xff, 0x102, true, false) } else { change(0x17f, 3, true, false) };
                flush.table(&QEMU, n, &change, NO_DEVICE);
            }
        })
        .0
    };
    let last = IotlbDomain(RANGES as u16);
    assert_eq!((several(0).len(), several(0).contains(&last)), (BLOCKS, false));
    assert_eq!((several(1).len(), several(1).contains(&last)), (BLOCKS + 1, false), "there was room for one of two");
    assert_eq!((several(2).len(), several(2).contains(&last)), (BLOCKS + 1, true));
}

const DEVICE: DeviceTlb =
    DeviceTlb { requester: Requester::new(0x18), physical: Requester::new(0x18), queue_depth: 32 };
const NEIGHBOUR: DeviceTlb = DeviceTlb { requester: Requester::new(0x20), ..DEVICE };

fn in_device(device: DeviceTlb, page: u64, mask: u8) -> Invalidation {
    Invalidation::DeviceTlbPages { device, start: Iova::new(page * PAGE_BYTES), mask }
}

#[test]
fn each_device_is_asked_after_the_unit_and_once() {
    let both = || [DEVICE, NEIGHBOUR].into_iter();
    let one = list(&QEMU, |flush| flush.table(&QEMU, 7, &change(0x17f, 3, true, false), both())).0;
    let unit = [pages(0x17f, 0, true), pages(0x180, 1, true)];
    let devices = [DEVICE, NEIGHBOUR].map(|device| in_device(device, 0x100, 8));
    assert_eq!(one, [unit, devices].concat());
    let several = list(&QEMU, |flush| {
        flush.table(&QEMU, 7, &change(8, 1, true, false), both());
        flush.table(&QEMU, 7, &change(9, 1, true, false), both());
        flush.cleared(&[0x18], 7, Some(DEVICE));
    });
    let expected = [context(0x18, 7), IotlbDomain(7), Invalidation::DeviceTlb(DEVICE), in_device(NEIGHBOUR, 8, 1)];
    assert_eq!(several.0, expected);
}

#[test]
fn no_device_is_asked_for_what_was_not_present() {
    let ask = |flush: &mut Flush<'_>, domain_id, page, was_present| {
        flush.table(&CACHING, domain_id, &change(page, 1, was_present, false), [DEVICE].into_iter());
    };
    assert_eq!(list(&CACHING, |flush| ask(flush, 7, 8, false)).0, [pages(8, 0, true)]);
    let far = 1 << 16;
    let mixed = list(&CACHING, |flush| {
        ask(flush, 7, 8, true);
        ask(flush, 7, far, false);
    });
    assert_eq!(mixed.0, [pages(8, 0, true), pages(far, 0, true), in_device(DEVICE, 8, 0)]);
    let crowded = list(&CACHING, |flush| (1..=RANGES as u16 + 1).for_each(|n| ask(flush, n, 8, false)));
    assert_eq!(crowded.0, [IotlbGlobal], "nor for what is not kept apart");
}

#[test]
fn a_device_beyond_the_ranges_kept_forgets_everything() {
    let crowded = list(&QEMU, |flush| {
        for n in 0..=RANGES as u16 {
            let device = DeviceTlb { requester: Requester::new(n), ..DEVICE };
            flush.table(&QEMU, n + 1, &change(8, 1, true, false), [device].into_iter());
        }
    });
    assert_eq!(crowded.0[1], in_device(DeviceTlb { requester: Requester::new(0), ..DEVICE }, 8, 0));
    let last = DeviceTlb { requester: Requester::new(RANGES as u16), ..DEVICE };
    assert_eq!((crowded.0[0], crowded.0[RANGES + 1]), (IotlbGlobal, Invalidation::DeviceTlb(last)));
}

/// A list that asks for so many invalidations of the unit, and for pages of as many devices as there can be.
fn longest(of_unit: usize) -> Vec<Invalidation> {
    let contexts = (of_unit - BLOCKS) / 2;
    list(&QEMU, |flush| {
        (0..contexts as u16).for_each(|n| flush.cleared(&[n], 0x100 + n, None));
        if of_unit % 2 == 1 {
            flush.cleared(&[], 0x200, None);
        }
        for n in 0..DEVICES as u16 {
            let device = DeviceTlb { requester: Requester::new(n), ..DEVICE };
            let of_domain = (n % RANGES as u16) + 1;
            flush.table(&QEMU, of_domain, &change(0xfff, 2, true, false), [device].into_iter());
        }
    })
    .0
}

#[test]
fn a_list_is_one_batch_and_each_device_has_a_place_in_it() {
    let most = Queue::BATCH - 2 * DEVICES;
    for of_unit in [BLOCKS, BLOCKS + 9, most - 3, most - 1, most] {
        let list = longest(of_unit);
        let in_blocks = list.iter().filter(|one| matches!(one, Invalidation::DeviceTlbPages { .. })).count();
        let whole = list.iter().filter(|one| matches!(one, Invalidation::DeviceTlb(_))).count();
        assert_eq!(in_blocks / 2 + whole, DEVICES, "{of_unit}");
        assert_eq!(of_unit + in_blocks + whole, list.len(), "{of_unit}");
        let slots = of_unit + 2 * (in_blocks + whole);
        assert!(
            (Queue::BATCH - 3..=Queue::BATCH).contains(&slots),
            "{of_unit}: {slots} slots, filled as far as may be"
        );
    }
    let too_long = longest(most + 1);
    assert_eq!((&too_long[..2], too_long.len() - 2), (&EVERYTHING[..], (Queue::BATCH - 2) / 2));
}

#[test]
fn everything_is_as_long_as_it_is_said_to_be() {
    let mut flush = fresh();
    flush.everything((0..DEVICES as u16).map(|n| DeviceTlb { requester: Requester::new(n), ..DEVICE }));
    let list = listed_for(&QEMU, true, &flush);
    let (unit, devices) = list.parts();
    assert_eq!((unit.len() + 2 * devices.len(), devices.len()), (CommandList::longest_of_everything(DEVICES), DEVICES));
}

#[test]
fn interrupts_come_first_as_one_block_or_all_together() {
    let block = |first, order| SlotBlock { first, order };
    let all = |unit: &Capabilities, remaps, asked: &[(SlotBlock, bool)]| {
        let mut flush = fresh();
        let features = unit.features(52);
        asked.iter().for_each(|(block, was_present)| flush.interrupts_set(&features, *block, *was_present));
        flush.cleared(&[0x28], 7, None);
        let list = listed_for(unit, remaps, &flush);
        list.parts().0.to_vec()
    };
    let device = [context(0x28, 7), IotlbDomain(7)];
    let with = |first: Invalidation| [&[first][..], &device].concat();
    let two = [(block(4, 0), true), (block(6, 0), true)];
    assert_eq!(all(&QEMU, true, &two), with(Invalidation::Interrupts(block(4, 2))));
    let narrow = Capabilities { interrupt_block_order: 1, ..QEMU };
    assert_eq!(all(&narrow, true, &two), with(Invalidation::InterruptsGlobal), "R55: beyond MHMV");
    assert_eq!(all(&narrow, true, &two[..1]), with(Invalidation::Interrupts(block(4, 0))));
    assert_eq!(all(&QEMU, true, &[(block(4, 0), false)]), device, "what was not present is not cached");
    assert_eq!(all(&CACHING, true, &[(block(4, 0), false)]), with(Invalidation::Interrupts(block(4, 0))));
    let mut flush = fresh();
    flush.everything(NO_DEVICE);
    let everything = listed_for(&QEMU, true, &flush).parts().0.to_vec();
    assert_eq!(everything, [Invalidation::InterruptsGlobal, ContextGlobal, IotlbGlobal]);
    flush.clear();
    flush.interrupts_set(&QEMU.features(52), block(9, 0), true);
    assert!(!flush.is_empty() && listed_for(&QEMU, true, &flush).parts().0 == [Invalidation::Interrupts(block(9, 0))]);
    flush.clear();
    assert!(flush.is_empty());
}

#[test]
fn a_unit_without_a_queue_gets_two_commands_at_most() {
    let few = |ranges: u64| {
        let mut flush = fresh();
        (0..ranges).for_each(|n| flush.table(&QEMU, 7, &change(n << 20, 1, true, false), NO_DEVICE));
        listed(&QEMU, &flush).few().to_vec()
    };
    assert_eq!(few(2), [pages(0, 0, true), pages(1 << 20, 0, true)]);
    assert_eq!(few(3), EVERYTHING);
}

#[test]
fn a_device_named_twice_is_flushed_once_at_its_lowest_depth() {
    let asked = list(&QEMU, |flush| {
        [8, 2, 4].into_iter().for_each(|queue_depth| flush.device_tlb(DeviceTlb { queue_depth, ..DEVICE }));
    });
    assert_eq!(asked.0, [Invalidation::DeviceTlb(DeviceTlb { queue_depth: 2, ..DEVICE })]);
}

/// What is collected next is no flush of everything any more, nor one that repeats others.
#[test]
fn nothing_is_left_of_a_flush_that_is_forgotten() {
    let mut flush = fresh();
    flush.everything(std::iter::empty());
    assert!(flush.repeats_failed() && !flush.is_empty());
    flush.clear();
    assert!(!flush.repeats_failed() && flush.is_empty() && !flush.write_buffer());
    assert_eq!((all_of(&CACHING, &flush), flush.avoided()), (vec![], 0));
}
