//! Every other place where the model reports something: each has a case that only it reports.

use cofferdam::addr::{Iova, PhysAddr};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam_model::{Config, Machine, UnitConfig};
use cofferdam_support::front::topology;

use crate::driver::*;

const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;
const CCMD: u32 = 0x28;

fn mapped(unit: UnitConfig) -> (Driver, PhysAddr, Vec<PhysAddr>) {
    let mut driver = Driver::up(unit);
    let contexts = driver.context_table();
    let tables = driver.map_one(4, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    driver.flush_all();
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, contexts, tables)
}

/// The rules and sentences that were broken.
fn said(driver: &Driver) -> Vec<String> {
    driver.machine.take_violations().iter().map(|found| format!("{}: {}", found.rule, found.what)).collect()
}

#[track_caller]
fn says(driver: &Driver, expected: &str) {
    let said = said(driver);
    assert!(said.iter().any(|text| text.starts_with(expected)), "{expected}: {said:?}");
}

#[test]
fn accesses_outside_of_units_and_frames() {
    let driver = Driver::new(UnitConfig::server());
    let nowhere = RegisterWindow { base: PhysAddr::new(0xfe00_0000), bytes: 4096 };
    // SAFETY: the machine takes any access and reports a wrong one.
    assert_eq!(unsafe { driver.machine.read32(registers_at(nowhere), 0) }, u32::MAX);
    says(&driver, "HAL: no unit has its registers at");
    let frame = driver.allocate();
    driver.free(frame);
    driver.store(frame, 1);
    says(&driver, "HAL: an access outside");
    // SAFETY: as above.
    unsafe { driver.machine.phys_to_virt(frame) };
    says(&driver, "HAL: 0x10000000 is no frame");
}

#[test]
fn register_commands_that_overlap() {
    let driver = Driver::new(UnitConfig::first_generation());
    driver.write64(CCMD, 1 << 63 | 1 << 61);
    driver.write64(CCMD, 1 << 63 | 1 << 61);
    says(&driver, "R2: CCMD is written while");
    driver.write64(0x58, 1 << 63 | 1 << 60 | 3 << 48);
    says(&driver, "R2: IOTLB is written while");
    driver.write64(IQT, 16);
    says(&driver, "REG: a queue register");
}

#[test]
fn commands_that_overlap_or_set_what_is_reserved() {
    let driver = Driver::new(UnitConfig::server());
    driver.write(GCMD, 1);
    says(&driver, "R1: GCMD := 0x1 sets reserved bits");
    let driver = Driver::new(UnitConfig::server());
    driver.write(GCMD, SRTP);
    driver.write(GCMD, TE);
    says(&driver, "R2: GCMD := 0x80000000 while a command is pending");
    for _ in 0..100 {
        driver.machine.pause();
    }
    driver.read(GSTS);
    driver.write(GCMD, QIE | TE);
    for _ in 0..100 {
        driver.machine.pause();
    }
    driver.write(GCMD, QIE);
    says(&driver, "R1: GCMD := 0x4000000 before GSTS has confirmed");
    driver.machine.abandon();
}

#[test]
fn tables_that_are_nowhere() {
    let (driver, contexts, tables) = mapped(UnitConfig::server());
    driver.publish(tables[2] + 8, OUTPUT | RW);
    says(&driver, "R31: a page table at 0x80000000 is in no frame");
    driver.publish(driver.root + 16, OUTPUT | 1);
    says(&driver, "R31: a context table at 0x80000000 is in no frame");
    driver.publish(driver.root + 32, contexts.as_u64() | 1 << 4 | 1);
    says(&driver, "R41: reserved bits in the root entry of bus 0x2");
    driver.free(driver.queue);
    says(&driver, "R31: the queue's frames are freed");
    driver.machine.abandon();
}

#[test]
fn context_entries_with_what_the_unit_does_not_have() {
    let entry = |low: u64, high: u64, unit: UnitConfig| {
        let driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(4, INPUT, OUTPUT);
        driver.store(contexts + u64::from(DEVICE) * 16 + 8, high);
        driver.publish(contexts + u64::from(DEVICE) * 16, tables[0].as_u64() | low | 1);
        let said = said(&driver);
        driver.machine.abandon();
        said.join(", ")
    };
    let server = UnitConfig::server();
    assert!(entry(1 << 4, 0x502, server.clone()).starts_with("R41: 0000:00:03.0: reserved bits in its context"));
    assert!(entry(3 << 2, 0x502, server.clone()).starts_with("R40: 0000:00:03.0: a translation type"));
    assert!(entry(2 << 2, 0x502, server.clone()).starts_with("R40: 0000:00:03.0: pass-through without"));
    assert_eq!(entry(2 << 2, 0x503, server), "");
}

#[test]
fn a_device_that_passes_through_reaches_what_it_names() {
    let driver = Driver::up(UnitConfig::server());
    let contexts = driver.context_table();
    driver.set_context(contexts, DEVICE, PhysAddr::new(0x8), 5, DOMAIN);
    assert_eq!(driver.reads(OUTPUT), Ok(0));
    assert!(driver.reads(1 << 39).is_err());
    driver.machine.check();
}

#[test]
fn the_queue_s_width_tail_and_last_command() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.queue = driver.allocate();
    driver.write64(IQA, driver.queue.as_u64() | 1 << 11);
    driver.command(QIE);
    says(&driver, "R15: 256-bit descriptors");

    let abort = UnitConfig { ecap: UnitConfig::server().ecap | 1 << 52, ..UnitConfig::server() };
    let mut driver = Driver::new(abort);
    driver.queue = driver.allocate();
    driver.write64(IQA, driver.queue.as_u64() | 1 << 11);
    driver.command(QIE);
    driver.write64(IQT, 16);
    says(&driver, "R15: IQT := 0x10 is not aligned");
    assert_eq!(driver.read64(0xb0) & 0xf, 6);
    driver.write64(IQT, 1 << 32);
    says(&driver, "R15: the upper half of IQT");

    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.push(&[CONTEXT_GLOBAL]);
    for _ in 0..100 {
        driver.machine.pause();
    }
    driver.clear(QIE);
    says(&driver, "R14: the queue is switched off, and its last command was no wait");
}

#[test]
fn abort_mode_blocks_everything() {
    let unit = UnitConfig { ecap: UnitConfig::server().ecap | 1 << 52, ..UnitConfig::server() };
    let mut driver = Driver::new(unit);
    driver.queue = driver.allocate();
    driver.status = driver.allocate();
    driver.write64(IQA, driver.queue.as_u64() | 1 << 11);
    driver.command(QIE);
    driver.write64(RTADDR, 3 << 10);
    driver.command(SRTP);
    for (at, word) in [(0, CONTEXT_GLOBAL[0]), (32, IOTLB_GLOBAL[0]), (64, 0x25 | 1 << 32)] {
        driver.store(driver.queue + at, word);
    }
    driver.store(driver.queue + 72_u64, driver.status.as_u64());
    driver.write64(IQT, 96);
    assert!(driver.poll(|| driver.load(driver.status) == 1));
    driver.enable();
    assert_eq!(driver.reads(0x1000).unwrap_err().reason.code(), 0x33);
    driver.machine.check();
    // Another mode on a live unit.
    driver.write64(RTADDR, 0);
    driver.command(SRTP);
    says(&driver, "R9: RTADDR.TTM changes");
    driver.machine.abandon();
}

#[test]
fn what_is_left_behind_is_named() {
    let (driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[3], (OUTPUT + 0x1000) | RW);
    driver.machine.settle();
    says(&driver, "R31: domain-id 5: the IOTLB still has an old translation");
    driver.machine.abandon();

    let (driver, _, tables) = mapped(UnitConfig::server());
    driver.publish(tables[2], 0);
    driver.machine.settle();
    says(&driver, "R31: domain-id 5: a paging-structure cache still has");
    driver.machine.abandon();

    let (driver, _, tables) = mapped(UnitConfig::server().caching_mode(true));
    let table = driver.allocate();
    driver.publish(tables[2] + 8, table.as_u64() | RW);
    driver.machine.settle();
    says(&driver, "R29: domain-id 5: a paging-structure cache still has 0x0");
    driver.machine.abandon();
}

#[test]
fn protected_memory_is_not_moved_while_it_is_on() {
    let driver = Driver::new(UnitConfig::client());
    driver.write(0x64, 1 << 31);
    driver.poll(|| driver.read(0x64) & 1 == 1);
    driver.write64(0x70, 0x1_0000_0000);
    says(&driver, "R12: a protected memory region is changed");
}

#[test]
fn descriptors_and_records_with_reserved_bits() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    assert!(!driver.submit(&[[CONTEXT_GLOBAL[0] | 1 << 63, 0]]));
    says(&driver, "R25b: descriptor 0x8000000000000011 0x0 has reserved bits");
    let driver = Driver::up(UnitConfig::server());
    driver.write(0x40c, 0x7fff_ffff);
    says(&driver, "R62: fault record 0: a write that does not clear F");
}

#[test]
fn a_seeded_machine_breaks_no_rule_that_an_eager_one_keeps() {
    let (mut driver, contexts, tables) = mapped(UnitConfig::server().coherent(false));
    for round in 0..4 {
        driver.publish(tables[3] + 8 * round, OUTPUT | RW);
        driver.publish(tables[3] + 8 * round, 0);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT + round * 4096, 0, true)]);
    }
    driver.publish(contexts + u64::from(DEVICE) * 16, 0);
    driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN)]);
    assert!(driver.machine.dma_write(device(), Iova::new(INPUT), &[0; 5000]).is_err());
    driver.machine.check();
    let lines = driver.machine.journal(3);
    assert!(lines.lines().count() == 3 && lines.contains("0000:00:03.0 writes 0x40000000: blocked, reason 0x2"));
}

#[test]
fn each_unit_that_shares_a_table_is_invalidated() {
    let units = [UnitConfig::server(), UnitConfig::server().serving(&[1])];
    let mut driver = Driver::on(Machine::new(Config::new(units)));
    driver.start_queue();
    let (queue, status, tail) = (driver.queue, driver.status, driver.tail);
    driver.window = driver.machine.windows()[1];
    driver.start_queue();
    driver.tail = 0;
    driver.set_root();
    driver.flush_all();
    driver.enable();
    let contexts = driver.context_table();
    let tables = driver.map_one(4, INPUT, OUTPUT);
    // Bus 1 has the same context table, and the first unit the same root table.
    driver.publish(driver.root + 16, contexts.as_u64() | 1);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    driver.window = driver.machine.windows()[0];
    (driver.queue, driver.status, driver.tail) = (queue, status, tail);
    driver.write64(RTADDR, driver.root.as_u64());
    driver.command(SRTP);
    driver.flush_all();
    driver.enable();
    assert_eq!(driver.reads(INPUT), Ok(0));
    driver.publish(tables[3], 0);
    driver.submit(&[iotlb_domain(DOMAIN)]);
    assert!(driver.reads(INPUT).is_err());
    let other = cofferdam::addr::SourceId::from_requester(0, 0x0100 | DEVICE);
    assert!(driver.machine.dma_read(other, Iova::new(INPUT), &mut [0]).is_ok(), "the other unit still has it");
    driver.machine.settle();
    says(&driver, "R31: domain-id 5: the IOTLB still has a page");
    driver.machine.abandon();
}

#[test]
fn firmware_describes_the_machine() {
    let units = [UnitConfig::client_graphics().serving(&[1]), UnitConfig::client().fault_records(256)];
    let machine = Machine::new(Config::new(units));
    let table = machine.dmar();
    assert_eq!(table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    assert_eq!(table.len(), 48 + 16 + 256 * 8 + 16 + 8);
    assert_eq!(topology(&table, &&machine).units().len(), 2);
}

#[test]
fn threads_share_a_machine() {
    let (mut driver, _, tables) = mapped(UnitConfig::server());
    std::thread::scope(|threads| {
        let machine = &driver.machine;
        for _ in 0..2 {
            threads.spawn(move || {
                (0..1_000).for_each(|_| machine.dma_read(device(), Iova::new(INPUT), &mut [0; 8]).unwrap());
            });
        }
        (0..1_000).for_each(|_| assert_ne!(driver.load(tables[3]), 0));
    });
    driver.submit(&[]);
    driver.machine.check();
}

/// OWN: what a device reaches by tables that let it, and that another owns.
#[test]
fn memory_of_another_owner_is_reported_when_it_is_reached() {
    let (driver, ..) = mapped(UnitConfig::server());
    let device = cofferdam::addr::SourceId::new(0, 0, 3, 0).unwrap();
    let owned = |owner| vec![(OUTPUT..OUTPUT + 0x1000, owner)];
    driver.machine.set_owners(owned(1), [(device, 1)]);
    assert_eq!(driver.reads(INPUT).map(drop), Ok(()));
    driver.machine.set_owners(vec![], []);
    assert_eq!(driver.reads(INPUT).map(drop), Ok(()), "memory that nobody owns");
    assert_eq!(said(&driver), [""; 0]);
    for devices in [vec![(device, 2)], vec![]] {
        driver.machine.set_owners(owned(1), devices);
        assert_eq!(driver.reads(INPUT).map(drop), Ok(()));
        let found = driver.machine.take_violations();
        let found: Vec<_> = found.iter().map(|it| (it.rule, it.what.as_str())).collect();
        assert_eq!(found, [("OWN", "0000:00:03.0 reaches 0x80000000, which 1 owns")]);
    }
    driver.machine.set_owners([owned(1), owned(2)].concat(), [(device, 2)]);
    assert_eq!(driver.reads(INPUT).map(drop), Ok(()), "it is shared");
    assert_eq!(said(&driver), [""; 0]);
}
