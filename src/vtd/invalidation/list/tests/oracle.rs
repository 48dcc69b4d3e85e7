//! Random changes on a machine of a few pages, domains and devices, whose caches hold whatever they may: the list has to
//! leave nothing of it, as its descriptors are read here from the specification, and none of it may be left out.

use cofferdam_support::random::Random;

use super::*;
use crate::vtd::invalidation::descriptor::{Descriptor, Encoder};

const PAGES: u64 = 64;
/// A table has so many pages.
const OF_TABLE: u64 = 8;
const DOMAINS: [u16; 3] = [1, 7, 0x102];

/// What a cache may have that is not so any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// Context entry of a requester, with the domain-id that it is cached with.
    Context {
        requester: u16,
        tag: u16,
    },
    /// All that was translated through a context entry, by its domain-id.
    Domain(u16),
    Leaf {
        domain: u16,
        page: u64,
    },
    /// An entry that leads to a table, for the pages from the first on.
    Table {
        domain: u16,
        first: u64,
    },
    /// A page in a device-TLB; all of it if `None`.
    Device {
        requester: u16,
        domain: u16,
        page: Option<u64>,
    },
}

/// A device with a device-TLB.
#[derive(Clone, Copy, Debug)]
struct Function {
    tlb: DeviceTlb,
    domain: u16,
}

/// Does what a descriptor says (section 6.5.2) to what is stale; tells what it was.
fn execute(Descriptor { lower, upper }: Descriptor, unit: &Capabilities, stale: &mut Vec<Stale>) -> &'static str {
    let field = |low: u32, bits: u32| lower >> low & ((1 << bits) - 1);
    let (domain, source) = (field(16, 16) as u16, field(32, 16) as u16);
    let drains = u64::from(unit.write_draining) | u64::from(unit.read_draining) << 1;
    match (field(0, 4), field(9, 3)) {
        (1, 0) => {
            stale.retain(|stale| match (stale, field(4, 2)) {
                (Stale::Context { .. }, 1) => false,
                (Stale::Context { tag, .. }, 2) => *tag != domain,
                (Stale::Context { requester, tag }, 3) => (*requester, *tag) != (source, domain),
                (_, 1..=3) => true,
                other => panic!("{other:?}"),
            });
            "context"
        }
        (2, 0) => {
            assert_eq!(field(6, 2), drains);
            // Entries of the context-cache tag what is cached from then on (section 6.5.2.1).
            let tagged = |domain: u16, stale: &[Stale]| stale.contains(&Stale::Domain(domain));
            let contexts = stale.iter().any(|stale| matches!(stale, Stale::Context { .. }));
            assert!(!contexts, "an IOTLB invalidation before that of the context-cache: {stale:?}");
            let (mask, hint) = (upper & 0x3f, upper & 0x40 != 0);
            let first = upper >> 12;
            let last = first + ((1_u64 << mask) - 1);
            if field(4, 2) == 3 {
                assert!(unit.page_selective.is_some_and(|largest| mask <= u64::from(largest)), "{unit:?}");
                assert_eq!(first % (1 << mask), 0);
                assert!(!tagged(domain, stale), "pages alone do not do after a context entry");
            }
            let granularity = field(4, 2);
            stale.retain(|stale| match (stale, granularity) {
                (Stale::Leaf { .. } | Stale::Table { .. } | Stale::Domain(_), 1) => false,
                (Stale::Leaf { domain: other, .. } | Stale::Table { domain: other, .. } | Stale::Domain(other), 2) => {
                    *other != domain
                }
                (Stale::Leaf { domain: other, page }, 3) => *other != domain || *page < first || *page > last,
                (Stale::Table { domain: other, first: start }, 3) => {
                    hint || *other != domain || *start + OF_TABLE <= first || *start > last
                }
                (_, 1..=3) => true,
                other => panic!("{other:?}"),
            });
            "IOTLB"
        }
        (3, 0) => {
            let physical = field(12, 4) | field(52, 12) << 4;
            assert_eq!(physical, if unit.device_tlb_throttling { u64::from(source | 0x8000) } else { 0 });
            assert_eq!((field(16, 5), field(21, 11), field(48, 4)), (u64::from(source & 0x1f), 0, 0));
            let address = upper >> 12;
            let (first, last) = match (upper & 1, address.trailing_ones()) {
                (0, _) => (address, address),
                (_, ones) if ones >= 51 => {
                    assert_eq!(address, 0x7_ffff_ffff_ffff, "all of a device-TLB");
                    (0, u64::MAX)
                }
                (_, ones) => (address >> (ones + 1) << (ones + 1), address | (1 << ones)),
            };
            let refills = |stale: &[Stale], domain: u16, page: Option<u64>| {
                stale.iter().any(|stale| match stale {
                    Stale::Leaf { domain: other, page: at } => *other == domain && page.is_none_or(|page| page == *at),
                    Stale::Table { domain: other, first } => {
                        *other == domain && page.is_none_or(|page| (*first..first + OF_TABLE).contains(&page))
                    }
                    Stale::Domain(other) => *other == domain,
                    Stale::Context { .. } => true,
                    Stale::Device { .. } => false,
                })
            };
            let before = stale.clone();
            stale.retain(|stale| match stale {
                Stale::Device { requester, domain, page } if *requester == source => {
                    let covered = page.map_or(last == u64::MAX, |page| (first..=last).contains(&page));
                    // The device may ask again at once (section 6.5.2.5).
                    !covered || refills(&before, *domain, *page)
                }
                _ => true,
            });
            "device"
        }
        other => panic!("descriptor {other:?}"),
    }
}

/// Makes a random change, asks `flush` for what it needs, and notes what caches may have of it.
fn change_something(
    random: &mut Random,
    unit: &Capabilities,
    functions: &[Function],
    flush: &mut Flush<'_>,
    stale: &mut Vec<Stale>,
) {
    let domain = random.of(&DOMAINS);
    match random.below(6) {
        0..=3 => {
            let first = random.below(PAGES);
            let most = if random.one_in(3) { PAGES } else { 3 };
            let count = 1 + random.below((PAGES - first).min(most));
            let (was_present, tables) = (!random.one_in(4), random.one_in(3));
            let users = functions.iter().filter(|function| function.domain == domain);
            flush.table(unit, domain, &change(first, count, was_present, tables), users.clone().map(|user| user.tlb));
            if !was_present && !unit.caching_mode {
                return;
            }
            for page in first..first + count {
                stale.push(Stale::Leaf { domain, page });
                if tables {
                    stale.push(Stale::Table { domain, first: page / OF_TABLE * OF_TABLE });
                }
                if was_present {
                    let cached = |user: &Function| Stale::Device {
                        requester: user.tlb.requester.get(),
                        domain,
                        page: Some(page),
                    };
                    stale.extend(users.clone().map(cached));
                }
            }
        }
        4 => {
            // A function with a device-TLB or one without, once.
            let function = functions.get(random.below(2 * functions.len() as u64 + 1) as usize);
            let requester = function.map_or(0x400 + random.below(8) as u16, |function| function.tlb.requester.get());
            let domain = function.map_or(domain, |function| function.domain);
            flush.cleared(&[requester], domain, function.map(|function| function.tlb));
            stale.extend([Stale::Context { requester, tag: domain }, Stale::Domain(domain)]);
            stale.extend(function.map(|_| Stale::Device { requester, domain, page: None }));
        }
        _ => {
            let requester = 0x500 + random.below(8) as u16;
            let root_entry = random.one_in(6);
            flush.set(unit, &[requester], domain, root_entry);
            if unit.caching_mode {
                stale.extend([Stale::Context { requester, tag: 0 }, Stale::Domain(domain)]);
                if root_entry {
                    stale.extend((0..4).map(|other| Stale::Context { requester: requester ^ other, tag: 0 }));
                }
            }
        }
    }
}

#[test]
fn no_cache_keeps_a_change_and_no_descriptor_is_in_vain() {
    let mut random = Random::new(1);
    let mut longest = 0;
    for round in 0..4000 {
        let unit = Capabilities {
            caching_mode: random.one_in(2),
            page_selective: (!random.one_in(4)).then(|| random.below(8) as u8),
            // The pages of this machine are small.
            max_leaf_level: 1,
            write_draining: random.one_in(2),
            read_draining: random.one_in(2),
            device_tlb_throttling: random.one_in(2),
            ..QEMU
        };
        let functions: Vec<Function> = (0..random.below(6) as u16)
            .map(|n| {
                let requester = 0x100 + n * 9;
                let queue_depth = if requester & 0x1f == 0 { 32 } else { requester as u8 & 0x1f };
                let physical = Requester::new(requester | 0x8000);
                let tlb = DeviceTlb { requester: Requester::new(requester), physical, queue_depth };
                Function { tlb, domain: random.of(&DOMAINS) }
            })
            .collect();
        let (mut flush, mut stale) = (fresh(), Vec::new());
        for _ in 0..1 + random.below(if round % 4 == 0 { 30 } else { 4 }) {
            change_something(&mut random, &unit, &functions, &mut flush, &mut stale);
        }
        let list = super::all_of(&unit, &flush);
        longest = longest.max(list.len());
        assert_eq!(flush.is_empty(), list.is_empty());
        let all = stale.clone();
        let mut order = Vec::new();
        for (index, invalidation) in list.iter().enumerate() {
            let before = stale.len();
            order.push(execute(Encoder::of(&unit).encode(*invalidation), &unit, &mut stale));
            assert!(stale.len() < before, "number {index} of {list:?} does nothing for {all:?}");
        }
        assert_eq!(stale, [], "{list:?} leaves this of {all:?}");
        assert!(order.is_sorted_by_key(|kind| ["context", "IOTLB", "device"].iter().position(|other| other == kind)));
    }
    assert!(longest > 20, "{longest}");
}
