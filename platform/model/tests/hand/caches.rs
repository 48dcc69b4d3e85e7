//! Sections 4 and 5 of the rules: what an edit of a table needs, on units of all kinds.

use cofferdam::addr::{Iova, PhysAddr};
use cofferdam::hal::Hal;
use cofferdam_model::{Reason, UnitConfig};

use crate::driver::*;

const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;

/// A device whose domain maps one page, all flushed.
fn mapped(unit: UnitConfig) -> (Driver, PhysAddr, Vec<PhysAddr>) {
    let mut driver = Driver::up(unit);
    let contexts = driver.context_table();
    let tables = driver.map_one(4, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    // The root entry is new, too.
    driver.flush_all();
    driver.machine.poke(PhysAddr::new(OUTPUT), &7_u64.to_le_bytes());
    assert_eq!(driver.reads(INPUT), Ok(7));
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, contexts, tables)
}

fn all() -> [UnitConfig; 4] {
    let unit = UnitConfig::server();
    [
        unit.clone(),
        unit.clone().coherent(false),
        unit.clone().caching_mode(true),
        unit.coherent(false).caching_mode(true),
    ]
}

fn settled(driver: &Driver) -> Vec<&'static str> {
    driver.machine.settle();
    driver.rules()
}

#[test]
fn a_page_that_is_unmapped_without_a_flush_is_still_reached() {
    for unit in all() {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[3], 0);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R31"]);
        // The wrong page, the wrong domain.
        driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x1000, 0, true), iotlb_pages(DOMAIN + 1, INPUT, 0, true)]);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R31"]);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
        assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::NotReadable);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn more_rights_need_a_flush_too() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[3], OUTPUT | 1);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
    driver.publish(tables[3], OUTPUT | RW);
    assert_eq!(settled(&driver), ["R30"]);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
    assert_eq!(settled(&driver), [""; 0]);
}

#[test]
fn a_new_page_needs_a_flush_in_caching_mode_alone() {
    for unit in all() {
        let caching = unit.cap & 1 << 7 != 0;
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[3] + 8, OUTPUT | RW);
        assert_eq!(driver.reads(INPUT + 0x1000).is_err(), caching);
        assert_eq!(settled(&driver), if caching { vec!["R29"] } else { vec![] });
        driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x1000, 0, true)]);
        assert_eq!(driver.reads(INPUT + 0x1000), Ok(7));
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn with_ih_a_table_taken_out_stays_in_paging_structure_caches() {
    for unit in all() {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], 0);
        assert_eq!(driver.reads(INPUT), Ok(7));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 9, true)]);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R28"]);
        driver.free(tables[3]);
        assert_eq!(driver.rules(), ["R31"]);
        driver.machine.abandon();
    }
    for unit in all() {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[2], 0);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, false)]);
        assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::NotReadable);
        driver.free(tables[3]);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn a_flush_of_one_page_leaves_the_others_in_the_iotlb() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[3] + 8, OUTPUT | RW);
    driver.publish(tables[2], 0);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, false)]);
    assert!(driver.reads(INPUT).is_err());
    assert_eq!(driver.reads(INPUT + 0x1000), Ok(7));
    assert_eq!(settled(&driver), ["R31"]);
    driver.machine.abandon();
}

#[test]
fn in_caching_mode_a_new_table_needs_a_flush_without_ih() {
    let (mut driver, _, tables) = mapped(UnitConfig::server().caching_mode(true));
    let table = driver.allocate();
    driver.publish(table, OUTPUT | RW);
    driver.publish(tables[2] + 8, table.as_u64() | RW);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x20_0000, 0, true)]);
    assert_eq!(settled(&driver), ["R28"]);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x20_0000, 0, false)]);
    assert_eq!(driver.reads(INPUT + 0x20_0000), Ok(7));
    assert_eq!(settled(&driver), [""; 0]);
}

#[test]
fn another_page_size_needs_a_flush_in_between() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[2], OUTPUT | 1 << 7 | RW);
    assert_eq!(driver.rules(), ["R32"]);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 9, false)]);
    driver.publish(tables[2], 0);
    driver.publish(tables[2], tables[3].as_u64() | RW);
    assert_eq!(driver.rules(), ["R32"]);
    driver.publish(tables[2], 0);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 9, false)]);
    driver.publish(tables[2], tables[3].as_u64() | RW);
    assert_eq!(settled(&driver), [""; 0]);
}

#[test]
fn a_superpage_may_be_split_in_place_if_nothing_changes() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[2] + 8, OUTPUT | 1 << 7 | RW);
    let table = driver.allocate();
    for index in 0..512 {
        driver.publish(table + index * 8, (OUTPUT + index * 4096) | RW);
    }
    driver.publish(tables[2] + 8, table.as_u64() | RW);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x20_0000, 9, false)]);
    assert_eq!(settled(&driver), [""; 0]);
}

#[test]
fn a_device_that_leaves_is_flushed_from_both_caches_in_order() {
    for unit in all() {
        let (mut driver, contexts, _) = mapped(unit);
        let entry = contexts + u64::from(DEVICE) * 16;
        driver.publish(entry, 0);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R33"]);
        driver.submit(&[iotlb_domain(DOMAIN)]);
        assert_eq!(driver.reads(INPUT), Ok(7));
        // The IOTLB may have been filled again before the context-cache was emptied.
        driver.submit(&[context_device(DEVICE, DOMAIN)]);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R24", "R33"]);
        // Some pages are not all pages.
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, false)]);
        assert_eq!(driver.reads(INPUT), Ok(7));
        assert_eq!(settled(&driver), ["R33"]);
        driver.submit(&[iotlb_domain(DOMAIN)]);
        assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::ContextNotPresent);
        driver.publish(entry + 8, 0);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn a_wrong_domain_or_source_leaves_the_context_entry_cached() {
    let (mut driver, contexts, _) = mapped(UnitConfig::server());
    driver.publish(contexts + u64::from(DEVICE) * 16, 0);
    driver.submit(&[context_device(DEVICE, DOMAIN + 1), context_device(DEVICE + 1, DOMAIN), IOTLB_GLOBAL]);
    assert_eq!(settled(&driver), ["R33"]);
    driver.machine.abandon();
}

#[test]
fn a_new_context_entry_is_flushed_with_domain_0_in_caching_mode() {
    let (mut driver, contexts, tables) = mapped(UnitConfig::server().caching_mode(true));
    let other = DEVICE + 8;
    driver.set_context(contexts, other, tables[0], 4, DOMAIN);
    driver.submit(&[context_device(other, DOMAIN), iotlb_domain(DOMAIN)]);
    assert_eq!(settled(&driver), ["R33b"]);
    driver.submit(&[context_device(other, 0)]);
    let reads = |driver: &Driver| {
        let source = cofferdam::addr::SourceId::from_requester(0, other);
        driver.machine.dma_read(source, Iova::new(INPUT), &mut [0])
    };
    assert_eq!(reads(&driver).unwrap_err().reason, Reason::NotReadable);
    assert_eq!(settled(&driver), ["R24", "R33b"]);
    driver.submit(&[iotlb_domain(DOMAIN)]);
    assert_eq!(reads(&driver), Ok(()));
    assert_eq!(settled(&driver), [""; 0]);
}

/// Table 28: a root entry goes with a global invalidation alone. A new one needs it where "not present" is cached.
#[test]
fn a_root_entry_goes_with_a_global_flush_alone() {
    for caching in [false, true] {
        let (mut driver, _, tables) = mapped(UnitConfig::server().caching_mode(caching));
        let (other, contexts) = (5 << 8, driver.allocate());
        let reads = |driver: &Driver| {
            let source = cofferdam::addr::SourceId::from_requester(0, other);
            driver.machine.dma_read(source, Iova::new(INPUT), &mut [0]).map_err(|fault| fault.reason)
        };
        driver.set_context(contexts, other, tables[0], 4, DOMAIN);
        let root = driver.read64(0x20) & !0xfff;
        driver.publish(PhysAddr::new(root + 5 * 16), contexts.as_u64() | 1);
        driver.submit(&[context_device(other, 0), iotlb_domain(DOMAIN)]);
        assert_eq!(reads(&driver), if caching { Err(Reason::RootNotPresent) } else { Ok(()) });
        assert_eq!(settled(&driver), if caching { vec!["R33b"] } else { vec![] });
        driver.flush_all();
        assert_eq!(reads(&driver), Ok(()));
        // And one that goes: its entries alone are not enough.
        driver.publish(PhysAddr::new(root + 5 * 16), 0);
        driver.submit(&[context_device(other, DOMAIN), iotlb_domain(DOMAIN)]);
        assert_eq!(settled(&driver), ["R33"]);
        driver.flush_all();
        assert_eq!((reads(&driver), settled(&driver)), (Err(Reason::RootNotPresent), vec![]));
    }
}

#[test]
fn a_frame_is_freed_only_after_the_flush() {
    for unit in all() {
        let (mut driver, contexts, tables) = mapped(unit);
        driver.publish(contexts + u64::from(DEVICE) * 16, 0);
        driver.submit(&[context_device(DEVICE, DOMAIN)]);
        driver.free(tables[0]);
        assert_eq!(driver.rules(), ["R31"]);
        driver.submit(&[iotlb_domain(DOMAIN)]);
        driver.free(tables[1]);
        assert_eq!(settled(&driver), [""; 0]);
        driver.free(contexts);
        assert_eq!(driver.rules(), ["R31"]);
    }
}

#[test]
fn the_head_of_the_queue_says_nothing_about_completion() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[2], 0);
    driver.push(&[iotlb_pages(DOMAIN, INPUT, 9, false)]);
    assert!(driver.poll(|| driver.read64(0x80) == driver.tail));
    driver.free(tables[3]);
    assert_eq!(driver.rules(), ["R31"]);
    driver.machine.abandon();
}

#[test]
fn one_domain_id_has_one_page_table() {
    let (driver, contexts, _) = mapped(UnitConfig::server());
    let tables = driver.map_one(4, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE + 8, tables[0], 4, DOMAIN);
    assert_eq!(driver.rules(), ["R38"]);
}

#[test]
fn a_domain_id_is_reused_only_after_its_flush() {
    let (mut driver, contexts, _) = mapped(UnitConfig::server());
    driver.publish(contexts + u64::from(DEVICE) * 16, 0);
    driver.submit(&[context_device(DEVICE, DOMAIN)]);
    let tables = driver.map_one(4, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE + 8, tables[0], 4, DOMAIN);
    assert_eq!(driver.rules(), ["R33"]);
    driver.machine.abandon();
}

#[test]
fn context_entries_that_the_unit_cannot_use_are_reported() {
    let bad = |domain: u64, levels: u64, unit: UnitConfig| {
        let driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(4, INPUT, OUTPUT);
        driver.set_context(contexts, DEVICE, tables[0], levels, domain);
        driver.machine.abandon().iter().map(|violation| violation.rule).collect::<Vec<_>>()
    };
    assert_eq!(bad(DOMAIN, 3, UnitConfig::server()), ["R40"]);
    assert_eq!(bad(0, 4, UnitConfig::server().caching_mode(true)), ["R38"]);
    let few = UnitConfig { cap: UnitConfig::server().cap & !7, ..UnitConfig::server() };
    assert_eq!(bad(16, 4, few), ["R39"]);
}

#[test]
fn a_context_entry_is_written_top_first_cleared_bottom_first() {
    let (mut driver, contexts, tables) = mapped(UnitConfig::server());
    let entry = contexts + u64::from(DEVICE) * 16;
    driver.publish(entry + 8, (DOMAIN + 1) << 8 | 2);
    assert_eq!(driver.rules(), ["R35"]);
    driver.publish(entry + 8, DOMAIN << 8 | 2);
    driver.rules();
    driver.publish(entry, tables[1].as_u64() | 1);
    assert!(driver.rules().contains(&"R36"));
    driver.publish(entry, 0);
    driver.publish(entry + 8, 0);
    assert!(driver.rules().contains(&"R35"));
    driver.submit(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]);
    driver.machine.check();
}

#[test]
fn reserved_bits_and_the_interrupt_range_are_reported() {
    let graphics = UnitConfig::server().snoop_control(false);
    for (rule, unit, entry) in [
        ("R41", UnitConfig::server(), OUTPUT | RW | 1 << 62),
        ("R41", UnitConfig::server(), 1 << 39 | RW),
        ("R41", graphics, OUTPUT | RW | 1 << 11),
        ("R43", UnitConfig::server(), 0xfee0_0000 | RW),
        ("R41", UnitConfig::server(), OUTPUT | 1 << 57 | 1 << 51 | RW),
    ] {
        let (driver, _, tables) = mapped(unit);
        driver.publish(tables[3] + 8, entry);
        assert_eq!(driver.rules(), [rule], "{entry:#x}");
        let reason = driver.reads(INPUT + 0x1000).unwrap_err().reason;
        assert_eq!(reason, if rule == "R41" { Reason::PageReserved } else { Reason::OutputIsInterrupt });
    }
    for (level, entry) in [
        (2, OUTPUT | RW | 1 << 11),
        (2, OUTPUT | RW | 1 << 7 | 0x1000),
        (1, OUTPUT | RW | 1 << 7 | 1 << 21),
        (0, OUTPUT | RW | 1 << 7),
    ] {
        let (driver, _, tables) = mapped(UnitConfig::server());
        driver.publish(tables[level] + 16, entry);
        assert_eq!(driver.rules(), ["R41"], "{entry:#x}");
        driver.machine.abandon();
    }
    let small = UnitConfig { cap: UnitConfig::server().cap & !(3 << 34), ..UnitConfig::server() };
    let (driver, _, tables) = mapped(small);
    driver.publish(tables[2] + 8, OUTPUT | RW | 1 << 7);
    assert_eq!(driver.rules(), ["R41"]);
    driver.machine.abandon();
}

#[test]
fn what_is_not_written_back_is_not_seen() {
    let (driver, _, tables) = mapped(UnitConfig::server().coherent(false));
    driver.store(tables[3] + 8, OUTPUT | RW);
    assert!(driver.reads(INPUT + 0x1000).is_err());
    assert_eq!(settled(&driver), ["R37"]);
    driver.write_back(tables[3] + 8, 8);
    assert_eq!(driver.reads(INPUT + 0x1000), Ok(7));
    let fresh = driver.machine.allocate(0).unwrap();
    driver.publish(tables[2] + 8, fresh.as_u64() | RW);
    assert!(driver.rules().contains(&"R37"));
    assert!(driver.reads(INPUT + 0x20_0000).is_err());
    driver.machine.abandon();
}

#[test]
fn a_store_that_goes_past_the_seam_is_reported() {
    let (driver, _, tables) = mapped(UnitConfig::server());
    // SAFETY: the frame is allocated.
    let words = unsafe { driver.machine.phys_to_virt(tables[3]) };
    // SAFETY: a frame has 512 words.
    let sixth = unsafe { words.add(5) };
    // SAFETY: the word is in the frame, and nobody else uses it now.
    unsafe { sixth.write_volatile(OUTPUT | RW) };
    driver.store(tables[3] + 40, 0);
    assert_eq!(driver.rules(), ["HAL"]);
}

#[test]
fn a_live_root_table_is_replaced_only_by_an_equal_one() {
    let (mut driver, contexts, _) = mapped(UnitConfig::server());
    driver.root = driver.allocate();
    driver.publish(driver.root, contexts.as_u64() | 1);
    driver.write64(RTADDR, driver.root.as_u64());
    driver.command(SRTP);
    assert_eq!(settled(&driver), ["R8"]);
    driver.flush_all();
    assert_eq!(settled(&driver), [""; 0]);
    driver.set_root();
    assert_eq!(driver.rules(), ["R9"]);
    driver.flush_all();
}

#[test]
fn all_pages_of_a_table_snoop_or_none() {
    let (mut driver, contexts, tables) = mapped(UnitConfig::server());
    driver.publish(tables[3] + 8, OUTPUT | RW | 1 << 11);
    assert_eq!(driver.rules(), ["C1"]);
    driver.publish(tables[3], 0);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
    let others = driver.map_one(4, INPUT, OUTPUT | 1 << 11);
    driver.publish(others[3] + 8, OUTPUT | RW);
    driver.set_context(contexts, DEVICE + 8, others[0], 4, DOMAIN + 1);
    assert_eq!(driver.rules(), ["C1"]);
}

#[test]
fn nothing_is_mapped_beyond_the_width_of_the_unit() {
    let unit = UnitConfig::server();
    let (driver, _, tables) = mapped(UnitConfig { cap: unit.cap & !(0x3f << 16) | 38 << 16, ..unit });
    let table = driver.allocate();
    driver.publish(tables[0] + 8, table.as_u64() | RW);
    assert_eq!(driver.rules(), ["R40"]);
    assert_eq!(driver.reads(1 << 39).unwrap_err().reason, Reason::BeyondWidth);
}

#[test]
fn a_cached_page_has_the_rights_of_the_whole_walk() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[0], tables[1].as_u64() | 1);
    driver.submit(&[iotlb_domain(DOMAIN)]);
    let writes = |driver: &Driver| driver.machine.dma_write(device(), Iova::new(INPUT), &[7]).is_ok();
    for table in [tables[3], tables[2]] {
        let entry = driver.load(table);
        driver.publish(table, 0);
        assert_eq!((driver.reads(INPUT), writes(&driver)), (Ok(7), false));
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 9, false)]);
        driver.publish(table, entry);
        assert_eq!((driver.reads(INPUT), writes(&driver)), (Ok(7), false));
    }
    driver.machine.check();
}

#[test]
fn a_walk_starts_from_the_lowest_cached_paging_structure() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    // Another page behind the old upper entry, but not behind the old lower one.
    let lower = driver.allocate();
    driver.machine.poke(PhysAddr::new(OUTPUT + 0x1000), &8_u64.to_le_bytes());
    driver.publish(lower, (OUTPUT + 0x1000) | RW);
    driver.publish(tables[2], lower.as_u64() | RW);
    driver.publish(tables[1] + 8, 0);
    assert_eq!(driver.reads(INPUT), Ok(7));
    driver.rules();
    driver.submit(&[iotlb_domain(DOMAIN)]);
    assert_eq!(settled(&driver), [""; 0]);
}

#[test]
fn faults_of_a_muted_source_are_not_recorded() {
    let (driver, contexts, tables) = mapped(UnitConfig::server());
    driver.set_context(contexts, DEVICE + 8, tables[0] + 2, 4, DOMAIN);
    let source = cofferdam::addr::SourceId::from_requester(0, DEVICE + 8);
    assert!(driver.machine.dma_read(source, Iova::new(0), &mut [0]).is_err());
    assert_eq!(driver.read(FSTS), 0);
    assert!(driver.reads(0).is_err());
    assert_eq!(driver.read(FSTS), 2);
}

#[test]
fn a_source_is_muted_by_one_store_and_a_flush() {
    // Present: cached until it is flushed with its domain-id.
    for unit in all() {
        let (mut driver, contexts, tables) = mapped(unit);
        let entry = contexts + u64::from(DEVICE) * 16;
        driver.publish(entry, tables[0].as_u64() | 3);
        assert!(driver.reads(0).is_err() && driver.reads(INPUT) == Ok(7));
        assert_eq!(driver.read(FSTS), 2, "not yet");
        assert_eq!(settled(&driver), ["R33"]);
        driver.write(0x40c, 1 << 31);
        driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN)]);
        assert!(driver.reads(0).is_err() && driver.reads(INPUT) == Ok(7));
        assert_eq!((driver.read(FSTS), settled(&driver)), (0, vec![""; 0]));
    }
    // Not present: not cached, but in caching mode, with domain-id 0.
    for caching in [false, true] {
        let (mut driver, contexts, _) = mapped(UnitConfig::server().caching_mode(caching));
        let other = DEVICE + 8;
        driver.publish(contexts + u64::from(other) * 16, 2);
        let source = cofferdam::addr::SourceId::from_requester(0, other);
        let blocked = || driver.machine.dma_read(source, Iova::new(0), &mut [0]).unwrap_err().reason;
        assert_eq!(blocked(), Reason::ContextNotPresent);
        assert_eq!(driver.read(FSTS), if caching { 2 } else { 0 });
        assert_eq!(settled(&driver), if caching { vec!["R33b"] } else { vec![] });
        driver.submit(&[context_device(other, 0), iotlb_domain(0)]);
        assert_eq!(settled(&driver), [""; 0]);
    }
}

/// An entry that is cached as not present is muted, too, if it was so in memory.
#[test]
fn what_is_cached_as_not_present_stays_muted() {
    let (mut driver, contexts, tables) = mapped(UnitConfig::server().caching_mode(true));
    let other = DEVICE + 8;
    let entry = contexts + u64::from(other) * 16;
    driver.publish(entry, 2);
    driver.submit(&[context_device(other, 0), iotlb_domain(0)]);
    driver.set_context(contexts, other, tables[0] + 2, 4, DOMAIN);
    let source = cofferdam::addr::SourceId::from_requester(0, other);
    let blocked = driver.machine.dma_read(source, Iova::new(INPUT), &mut [0]).unwrap_err().reason;
    assert_eq!((blocked, driver.read(FSTS)), (Reason::ContextNotPresent, 0));
    assert_eq!(settled(&driver), ["R33b"]);
    driver.machine.abandon();
}
