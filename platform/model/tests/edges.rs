//! The other side of each rule: what is just allowed, by hand, and breaks none. Each test names the rules that it keeps.
#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam_model::{Config, Defect, Machine, Reason, UnitConfig};

#[allow(dead_code, unreachable_pub, reason = "the other tests use the rest")]
#[path = "hand/driver.rs"]
mod driver;
use driver::*;

const CCMD: u32 = 0x28;
const IOTLB: u32 = 0x508;
const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;
const SNP: u64 = 1 << 11;
const PS: u64 = 1 << 7;

/// A device whose domain maps one page with these bits.
fn mapped(unit: UnitConfig, input: u64, entry: u64) -> (Driver, PhysAddr, Vec<PhysAddr>) {
    let mut driver = Driver::up(unit);
    let contexts = driver.context_table();
    let tables = driver.map_one(4, input, entry);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    driver.flush_all();
    (driver, contexts, tables)
}

/// R1, R2, R7, R16: old errors, the queue, the root table, the flushes and translation, one after the other, twice.
#[test]
fn a_unit_is_switched_on_off_and_on_again() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.machine.break_unit(0, Defect::QueueErrorAfter(0));
    assert!(!driver.submit(&[]));
    driver.machine.mend_unit(0);
    driver.write(FSTS, 0x10);
    assert!(driver.submit(&[]));
    driver.clear(QIE);
    driver.tail = 0;
    driver.start_queue();
    driver.set_root();
    driver.flush_all();
    driver.enable();
    driver.clear(TE);
    driver.command(SRTP);
    driver.flush_all();
    driver.enable();
    driver.machine.check();
}

/// R11: of two units, each has its queue first; the other's is another matter.
#[test]
fn a_root_table_is_set_while_another_unit_has_no_queue() {
    let mut first = Driver::on(Machine::new(Config::new([UnitConfig::server(), UnitConfig::server().serving(&[1])])));
    first.start_queue();
    first.set_root();
    first.flush_all();
    let (window, queue, root) = (first.machine.windows()[1], first.allocate(), first.allocate());
    // SAFETY: the machine takes any access and reports a wrong one.
    let write = |offset, value| unsafe { first.machine.write64(registers_at(window), offset, value) };
    // SAFETY: as above.
    let command = |value| unsafe { first.machine.write32(registers_at(window), GCMD, value) };
    // SAFETY: as above.
    let status = || unsafe { first.machine.read32(registers_at(window), GSTS) };
    write(IQA, queue.as_u64());
    command(QIE);
    assert!(first.poll(|| status() == QIE));
    write(RTADDR, root.as_u64());
    command(QIE | SRTP);
    assert!(first.poll(|| status() == QIE | SRTP));
    first.machine.check();
}

/// R4, R5, R25: a unit without page tables that nobody switches translation on in, and invalidation through registers,
/// with draining, while its queue is off.
#[test]
fn registers_invalidate_while_the_queue_is_off() {
    let unit = UnitConfig::server();
    let driver = Driver::new(UnitConfig { cap: unit.cap & !(0x1f << 8), ..unit });
    for (register, value) in [(CCMD, 1 << 63 | 1 << 61), (IOTLB, 1 << 63 | 1 << 60 | 3 << 48)] {
        driver.write64(register, value);
        assert!(driver.poll(|| driver.read64(register) >> 63 == 0));
    }
    driver.machine.check();
}

/// R6b, REG: the last register of a window of two pages, and each register with its width.
#[test]
fn every_register_of_the_window_can_be_read() {
    let driver = Driver::new(UnitConfig::server().fault_records(256));
    let (first, last) = (0x1000, 0x1000 + 255 * 16);
    assert_eq!((driver.read64(first), driver.read64(last + 8), driver.read(last + 12)), (0, 0, 0));
    for wide in [0x08, 0x10, RTADDR, CCMD, 0x70, 0x78, 0x80, IQT, IQA, 0xb0, 0xb8] {
        driver.read64(wide);
    }
    for narrow in [0x00, GSTS, FSTS, FECTL, 0x3c, 0x40, 0x44, 0x64, 0x68, 0x6c, 0x9c, 0xa0, 0xa4, 0xa8, 0xac] {
        driver.read(narrow);
    }
    driver.machine.check();
}

/// R15: the tail goes around the ring, and stands on its last slot.
#[test]
fn the_ring_is_used_to_its_last_slot_and_goes_around() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    // 255 descriptors at once are all but one slot: twice, so that the second time begins in another place.
    for _ in 0..2 {
        assert!(driver.submit(&[IOTLB_GLOBAL; 254]));
    }
    assert_eq!(driver.tail, 4096 - 32);
    assert!(driver.submit(&[]) && driver.tail == 4096 - 16 && driver.submit(&[]) && driver.tail == 0);
    driver.machine.check();
}

/// R18: the frame of the status words goes when all waits are done.
#[test]
fn the_status_frame_is_freed_after_the_last_wait() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    assert!(driver.submit(&[CONTEXT_GLOBAL]));
    driver.free(driver.status);
    driver.clear(QIE);
    driver.free(driver.queue);
    assert_eq!(driver.machine.frames_in_use(), 0);
    driver.machine.check();
}

/// R26, R27: the largest mask that the unit has, at an address that is aligned to it.
#[test]
fn the_largest_mask_at_an_aligned_address_is_taken() {
    let (mut driver, _, tables) = mapped(UnitConfig::server(), INPUT, OUTPUT);
    driver.publish(tables[3], 0);
    assert!(driver.submit(&[iotlb_pages(DOMAIN, INPUT, 18, true)]));
    assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::NotReadable);
    driver.machine.check();
}

/// R34: all of a device-TLB.
#[test]
fn a_device_tlb_is_invalidated_as_a_whole() {
    let mut driver = Driver::up(UnitConfig::server());
    driver.submit(&[[0x3 | u64::from(DEVICE) << 32, 0x7fff_ffff_ffff_f001]]);
    driver.machine.check();
}

/// R37: a table is written back before it is linked, and the link after that.
#[test]
fn a_table_that_is_written_back_before_it_is_linked_is_seen() {
    let (driver, _, tables) = mapped(UnitConfig::server().coherent(false), INPUT, OUTPUT);
    let fresh = driver.machine.allocate(0).unwrap();
    driver.store(fresh, OUTPUT | RW);
    driver.write_back(fresh, 4096);
    driver.publish(tables[2] + 8, fresh.as_u64() | RW);
    assert_eq!(driver.reads(INPUT + 0x20_0000), Ok(0));
    driver.machine.check();
}

/// R38, R39: the highest domain-id, for two devices of one table; domain-id 0 without caching mode.
#[test]
fn devices_share_a_domain_id_with_their_table() {
    let few = UnitConfig { cap: UnitConfig::server().cap & !7, ..UnitConfig::server() };
    let driver = Driver::up(few);
    let contexts = driver.context_table();
    let (tables, others) = (driver.map_one(4, INPUT, OUTPUT), driver.map_one(4, INPUT, OUTPUT));
    driver.set_context(contexts, DEVICE, tables[0], 4, 15);
    driver.set_context(contexts, DEVICE + 8, tables[0], 4, 15);
    driver.set_context(contexts, DEVICE + 16, others[0], 4, 0);
    assert_eq!(driver.reads(INPUT), Ok(0));
    driver.machine.check();
}

/// R40: the last page of the width that the unit has, and its largest table.
#[test]
fn the_last_page_of_the_unit_s_width_is_mapped() {
    let unit = UnitConfig::server();
    let narrow = UnitConfig { cap: unit.cap & !(0x3f << 16) | 38 << 16, ..unit.clone() };
    let (driver, ..) = mapped(narrow, (1 << 39) - 0x1000, OUTPUT);
    assert_eq!(driver.reads((1 << 39) - 8), Ok(0));
    driver.machine.check();

    let driver = Driver::up(unit);
    let (contexts, top) = (driver.context_table(), (1 << 57) - 0x1000);
    let tables = driver.map_one(5, top, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0], 5, DOMAIN);
    assert_eq!(driver.reads(top), Ok(0));
    driver.machine.check();
}

/// R41, C1: every bit that an entry may have: the highest address, SNP in all pages, pages of 2 MiB and 1 GiB.
#[test]
fn all_bits_that_an_entry_may_have_are_taken() {
    let highest = (1 << 39) - 0x1000;
    let (driver, _, tables) = mapped(UnitConfig::server(), INPUT, highest | SNP);
    driver.publish(tables[3] + 8, OUTPUT | SNP | 1);
    driver.publish(tables[2] + 8, OUTPUT | SNP | PS | RW);
    driver.publish(tables[1] + 16, OUTPUT | SNP | PS | RW);
    for at in [INPUT, INPUT + 0x1000, INPUT + 0x20_0000, 2 << 30] {
        assert_eq!(driver.reads(at), Ok(0), "{at:#x}");
    }
    driver.machine.check();
}

/// R43: the pages beside the interrupt range.
#[test]
fn the_pages_beside_the_interrupt_range_are_mapped() {
    let (driver, _, tables) = mapped(UnitConfig::server(), INPUT, 0xfedf_f000);
    driver.publish(tables[3] + 8, 0xfef0_0000 | RW);
    assert_eq!((driver.reads(INPUT), driver.reads(INPUT + 0x1000)), (Ok(0), Ok(0)));
    driver.machine.check();
}

/// R62, R64b: records are cleared from the first on and around the end; the event has an address before it is unmasked.
#[test]
fn records_are_cleared_in_order_and_the_event_is_sent() {
    let driver = Driver::up(UnitConfig::server().fault_records(2));
    driver.write(0x40, 0xfee0_1000);
    driver.write(FECTL, 0);
    let clear = |index: u32| driver.write(0x40c + index * 16, 1 << 31);
    assert!(driver.reads(0x1000).is_err());
    clear(0);
    assert!(driver.reads(0x2000).is_err() && driver.reads(0x3000).is_err());
    assert_eq!(driver.read(FSTS) >> 8, 1, "FRI");
    clear(1);
    clear(0);
    assert_eq!((driver.read(FSTS) & 3, driver.machine.messages().len()), (0, 2));
    driver.machine.check();
}

/// R56, R58: an interrupt entry for one source, in the format of an xAPIC.
#[test]
fn an_interrupt_entry_lets_its_source_through() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    let table = driver.allocate();
    driver.write64(0xb8, table.as_u64() | 7);
    driver.command(1 << 24);
    driver.submit(&[[0x4, 0]]);
    driver.command(1 << 25);
    driver.store(table + 8_u64, u64::from(DEVICE) | 1 << 18);
    driver.publish(table, 0xff << 40 | 0xfe << 16 | 1);
    driver.submit(&[[0x14, 0]]);
    assert!(driver.machine.interrupt(device(), 0xfee0_0010, 0).is_ok());
    assert!(driver.machine.interrupt(SourceId::from_requester(0, DEVICE + 1), 0xfee0_0010, 0).is_err());
    assert!(driver.machine.dma_read(device(), Iova::new(0x1000), &mut [0]).is_ok(), "DMA is not remapped");
    driver.machine.check();
}
