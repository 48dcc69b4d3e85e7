//! Sections 1, 2 and 8 of the rules: what else can go wrong with registers, and with a unit that has no queue.

use cofferdam::addr::{Iova, PhysAddr};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam_model::{Config, Defect, Machine, Reason, UnitConfig};

use crate::driver::*;

const CCMD: u32 = 0x28;
const PMEN: u32 = 0x64;
const IRTA: u32 = 0xb8;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;
const CFI: u32 = 1 << 23;
const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;

/// Register-based: global invalidation of the context-cache.
fn flush_context(driver: &Driver) {
    driver.write64(CCMD, 1 << 63 | 1 << 61);
    assert!(driver.poll(|| driver.read64(CCMD) >> 63 == 0));
    assert_eq!(driver.read64(CCMD) >> 59 & 3, 1);
}

/// The IOTLB, with draining.
fn flush_iotlb(driver: &Driver) {
    driver.write64(0x58, 1 << 63 | 1 << 60 | 3 << 48);
    assert!(driver.poll(|| driver.read64(0x58) >> 63 == 0));
    assert_eq!(driver.read64(0x58) >> 57 & 3, 1);
}

fn first_generation() -> (Driver, Vec<PhysAddr>) {
    let mut driver = Driver::new(UnitConfig::first_generation());
    driver.root = driver.allocate();
    let contexts = driver.context_table();
    let tables = driver.map_one(3, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0], 3, DOMAIN);
    driver.command(WBF);
    driver.write64(RTADDR, driver.root.as_u64());
    driver.command(SRTP);
    flush_context(&driver);
    flush_iotlb(&driver);
    driver.enable();
    driver.machine.poke(PhysAddr::new(OUTPUT), &7_u64.to_le_bytes());
    (driver, tables)
}

#[test]
fn a_unit_without_a_queue_works_through_registers() {
    let (driver, tables) = first_generation();
    assert_eq!(driver.reads(INPUT), Ok(7));
    driver.publish(tables[2], 0);
    assert_eq!(driver.reads(INPUT), Ok(7));
    flush_iotlb(&driver);
    assert_eq!(driver.reads(INPUT).unwrap_err().reason, Reason::NotReadable);
    driver.machine.check();
}

#[test]
fn write_buffers_hold_back_what_is_not_flushed() {
    let (mut driver, tables) = first_generation();
    driver.publish(tables[2] + 8, OUTPUT | RW);
    assert!(driver.reads(INPUT + 0x1000).is_err());
    driver.machine.settle();
    assert_eq!(driver.rules(), ["R10"]);
    driver.command(WBF);
    assert_eq!(driver.read(GSTS) & WBF, 0);
    assert_eq!(driver.reads(INPUT + 0x1000), Ok(7));
    driver.machine.check();
    driver.root = driver.allocate();
    driver.write64(RTADDR, driver.root.as_u64());
    driver.command(SRTP);
    assert!(driver.rules().contains(&"R10"));
    driver.machine.abandon();
}

#[test]
fn register_based_invalidation_is_not_for_units_with_a_queue() {
    let driver = Driver::up(UnitConfig::server());
    driver.write64(CCMD, 1 << 63 | 1 << 61);
    assert!(!driver.poll(|| driver.read64(CCMD) >> 63 == 0));
    assert_eq!(driver.rules(), ["R5"]);
    let driver = Driver::new(UnitConfig { version: 0x60, ..UnitConfig::first_generation() });
    driver.write64(CCMD, 1 << 63 | 1 << 61);
    assert!(driver.poll(|| driver.read64(CCMD) >> 63 == 0));
    assert_eq!(driver.read64(CCMD) >> 59 & 3, 0, "refused");
    assert_eq!(driver.rules(), ["R5"]);
}

#[test]
fn an_invalidation_without_draining_is_reported() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.submit(&[[0x12, 0]]);
    assert_eq!(driver.rules(), ["R25"]);
}

#[test]
fn page_selective_invalidations_fit_the_unit_and_their_mask() {
    let bad = |unit: UnitConfig, descriptor: [u64; 2]| {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        let done = driver.submit(&[descriptor]);
        (driver.rules(), done)
    };
    let server = UnitConfig::server();
    assert_eq!(bad(server.clone(), iotlb_pages(DOMAIN, 0x17f000, 3, true)), (vec!["R26"], true));
    assert_eq!(bad(server.clone(), iotlb_pages(DOMAIN, 0, 19, true)), (vec!["R27"], false));
    let coarse = UnitConfig { cap: server.cap & !(1 << 39), ..server };
    assert_eq!(bad(coarse, iotlb_pages(DOMAIN, 0, 0, true)), (vec!["R27"], false));
}

#[test]
fn protected_memory_blocks_dma_until_translation_is_on() {
    let mut driver = Driver::new(UnitConfig::client());
    driver.write(0x68, 0x1000_0000);
    driver.write(0x6c, 0x1fff_ffff);
    driver.write(PMEN, 1 << 31);
    assert!(driver.poll(|| driver.read(PMEN) & 1 == 1));
    assert_eq!(driver.reads(0x1000_0000).unwrap_err().reason, Reason::Protected);
    assert_eq!(driver.reads(0x2000_0000), Ok(0));
    driver.write(PMEN, 0);
    assert_eq!(driver.rules(), ["R12"]);
    driver.poll(|| driver.read(PMEN) & 1 == 0);
    driver.write(PMEN, 1 << 31);
    driver.poll(|| driver.read(PMEN) & 1 == 1);
    driver.start_queue();
    driver.set_root();
    driver.flush_all();
    driver.enable();
    driver.write(PMEN, 0);
    driver.machine.check();
}

#[test]
fn interrupt_remapping_is_switched_on_in_order() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    let table = driver.allocate();
    driver.write64(IRTA, table.as_u64() | 7);
    driver.command(SIRTP);
    driver.submit(&[[0x4, 0]]);
    driver.command(IRE);
    driver.machine.check();
    driver.clear(IRE);
    driver.command(IRE);
    assert_eq!(driver.rules(), ["R52"]);
    driver.clear(IRE);
    driver.command(SIRTP);
    driver.command(IRE);
    assert_eq!(driver.rules(), ["R52"]);
    driver.command(CFI);
    assert_eq!(driver.rules(), ["R53"]);
    driver.submit(&[[0x14 | 31 << 27, 0]]);
    assert_eq!(driver.rules(), ["R55"]);

    let driver = Driver::new(UnitConfig::qemu_7_2(false));
    driver.write64(IRTA, 1 << 11);
    driver.command(SIRTP);
    driver.command(IRE);
    assert_eq!(driver.rules(), ["R57", "R31", "R52", "R61"], "and the table is nowhere");
}

#[test]
fn the_queue_is_switched_on_and_off_in_order() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.write64(IQT, 16);
    driver.command(QIE);
    assert_eq!(driver.rules(), ["R14"; 3], "a tail, no address, and so no frame");
    driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.push(&[CONTEXT_GLOBAL]);
    driver.clear(QIE);
    assert_eq!(driver.rules(), ["R14"]);
    driver.write64(IQT, 0);
    driver.command(QIE);
    driver.tail = 0;
    driver.submit(&[CONTEXT_GLOBAL]);
    driver.clear(QIE);
    driver.machine.check();
}

#[test]
fn old_errors_are_cleared_before_the_queue_is_on() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.machine.break_unit(0, Defect::QueueErrorAfter(0));
    driver.submit(&[]);
    driver.machine.mend_unit(0);
    driver.write(GCMD, 0);
    driver.poll(|| driver.read(GSTS) & QIE == 0);
    driver.rules();
    driver.write64(IQT, 0);
    driver.command(QIE);
    assert_eq!(driver.rules(), ["R16"]);
}

#[test]
fn the_tail_stays_in_the_ring_and_behind_what_is_not_fetched() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.write64(IQT, 4096);
    assert_eq!(driver.rules(), ["R15"]);
    assert_eq!(driver.read(FSTS) & 0x10, 0x10);
    assert_eq!(driver.read64(0xb0) & 0xf, 1, "IQEI: an invalid tail");

    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.machine.break_unit(0, Defect::QueueDead);
    driver.push(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]);
    driver.store(driver.queue + 16, 0);
    assert_eq!(driver.rules(), ["R15"]);
}

#[test]
fn a_status_write_into_a_dead_frame_is_reported() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.machine.break_unit(0, Defect::Slow(2_000_000));
    assert!(!driver.submit(&[]));
    driver.free(driver.status);
    for _ in 0..100_000 {
        driver.machine.pause();
    }
    assert_eq!(driver.rules(), ["R18"]);
}

#[test]
fn fault_registers_are_written_as_they_should_be() {
    let driver = Driver::up(UnitConfig::server());
    driver.write(FSTS, 2);
    assert_eq!(driver.rules(), ["R63"]);
    driver.write(FECTL, 0);
    assert_eq!(driver.rules(), ["R64b"]);
    driver.write(FECTL, 1 << 31);
    driver.write(0x3c, 0x41);
    driver.write(0x40, 0xfee0_1000);
    driver.write(FECTL, 0);
    assert!(driver.reads(0x1000).is_err() && driver.reads(0x2000).is_err());
    assert_eq!(driver.machine.messages(), [(0xfee0_1000, 0x41)], "one event for two faults");
    driver.write(0x41c, 1 << 31);
    assert_eq!(driver.rules(), ["R62"]);
}

#[test]
fn a_masked_event_is_sent_when_unmasked_unless_it_was_served() {
    let driver = Driver::up(UnitConfig::server());
    driver.write(0x40, 0xfee0_1000);
    assert!(driver.reads(0x1000).is_err());
    assert_eq!((driver.read(FECTL), driver.machine.messages().len()), (3 << 30, 0));
    driver.write(FECTL, 0);
    assert_eq!((driver.read(FECTL), driver.machine.messages().len()), (0, 1));
    driver.write(FECTL, 1 << 31);
    driver.write(0x40c, 1 << 31);
    assert!(driver.reads(0x1000).is_err());
    driver.write(0x41c, 1 << 31);
    assert_eq!(driver.read(FECTL), 1 << 31, "served");
    driver.machine.check();
}

#[test]
fn registers_are_accessed_with_their_width_in_their_window() {
    let driver = Driver::new(UnitConfig::server());
    driver.read64(FECTL);
    assert_eq!(driver.rules(), ["REG"]);
    driver.read(0x1000);
    assert_eq!(driver.rules(), ["REG"]);
    driver.write(GSTS, 0);
    assert_eq!(driver.rules(), ["REG"]);
    let window = RegisterWindow { bytes: 0x2000, ..driver.window };
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { driver.machine.read32(registers_at(window), 0) };
    assert_eq!(driver.rules(), ["R6b"]);
}

#[test]
fn a_unit_without_translation_or_answers_is_left_alone() {
    let unit = UnitConfig::server();
    let driver = Driver::up(UnitConfig { cap: unit.cap & !(0x1f << 8), ..unit });
    assert_eq!(driver.rules(), ["R4"]);
    assert_eq!(driver.reads(0x1000), Ok(0), "TES is never set");
    driver.machine.break_unit(0, Defect::AllOnes);
    driver.write(GCMD, 0);
    assert_eq!(driver.rules(), ["R4"]);
}

#[test]
fn a_seed_chooses_what_caches_hold_and_what_is_written_back() {
    let (mut stale, mut evicted) = (0, 0);
    for seed in 0..64 {
        let unit = UnitConfig::server().coherent(false);
        let mut driver = Driver::on(Machine::new(Config { seed: Some(seed), ..Config::new([unit]) }));
        driver.start_queue();
        driver.set_root();
        driver.flush_all();
        driver.enable();
        let contexts = driver.context_table();
        let tables = driver.map_one(4, INPUT, OUTPUT);
        driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
        assert!(driver.reads(INPUT).is_ok());
        driver.publish(tables[3], 0);
        stale += u32::from(driver.reads(INPUT).is_ok());
        driver.store(tables[3] + 8, OUTPUT | RW);
        evicted += u32::from((0..4).any(|_| driver.reads(INPUT + 0x1000).is_ok()));
        driver.machine.abandon();
    }
    assert!((10..54).contains(&stale) && (10..=54).contains(&evicted), "{stale} {evicted}");
}

#[test]
fn a_protected_region_keeps_away_from_memory_mapped_io() {
    let driver = Driver::new(UnitConfig::client());
    driver.write(0x6c, u32::MAX);
    driver.write(PMEN, 1 << 31);
    assert_eq!(driver.rules(), ["R12"]);
    driver.machine.abandon();

    // Above 4 GiB, and a low region whose limit is below its base.
    let driver = Driver::new(UnitConfig::client());
    driver.write(0x68, u32::MAX);
    driver.write64(0x70, 1 << 32);
    driver.write64(0x78, u64::MAX);
    driver.write(PMEN, 1 << 31);
    assert!(driver.poll(|| driver.read(PMEN) & 1 == 1));
    assert_eq!(driver.reads(1 << 32).unwrap_err().reason, Reason::Protected);
    assert_eq!(driver.reads(0x1000), Ok(0));
    driver.machine.check();
}

#[test]
fn a_region_that_the_unit_does_not_have_keeps_nothing() {
    let driver = Driver::new(UnitConfig { cap: UnitConfig::client().cap & !(1 << 6), ..UnitConfig::client() });
    driver.write64(0x78, u64::MAX);
    assert_eq!(driver.read64(0x78), 0);
}

#[test]
fn what_goes_wrong_with_invalidation_registers_shows() {
    let ask = |defect: Option<Defect>| {
        let driver = Driver::new(UnitConfig::server());
        defect.into_iter().for_each(|defect| driver.machine.break_unit(0, defect));
        // Of one domain.
        driver.write64(0x28, 1 << 63 | 2 << 61);
        let context = driver.poll(|| driver.read64(0x28) >> 63 == 0).then(|| driver.read64(0x28) >> 59 & 3);
        driver.write64(0x508, 1 << 63 | 2 << 60 | 3 << 48);
        let iotlb = driver.poll(|| driver.read64(0x508) >> 63 == 0).then(|| driver.read64(0x508) >> 57 & 3);
        driver.machine.abandon();
        (context, iotlb)
    };
    assert_eq!(ask(None), (Some(2), Some(2)));
    assert_eq!(ask(Some(Defect::RegistersRefuse)), (Some(0), Some(0)));
    assert_eq!(ask(Some(Defect::RegistersCoarse)), (Some(1), Some(1)));
    assert_eq!(ask(Some(Defect::RegistersDead)), (None, None));
}

#[test]
fn abort_mode_may_take_over_from_what_firmware_left() {
    let mut driver = Driver::new(UnitConfig::everything().found_running());
    assert_eq!(driver.reads(0x1000).unwrap_err().reason, Reason::RootNotPresent);
    driver.clear(QIE);
    // Faults are pending, as they may be at any time while translation is on.
    start_wide_queue(&driver);
    driver.write64(RTADDR, 3 << 10);
    driver.command(SRTP);
    assert_eq!(driver.reads(0x1000).unwrap_err().reason, Reason::AbortMode);
    driver.set_root();
    assert_eq!(driver.reads(0x1000).unwrap_err().reason, Reason::RootNotPresent);
    driver.machine.check();
}

/// A queue of 256-bit descriptors.
fn start_wide_queue(driver: &Driver) {
    driver.write64(IQT, 0);
    driver.write64(IQA, driver.allocate().as_u64() | 1 << 11);
    driver.command(QIE);
}

#[test]
fn abort_mode_has_no_narrow_descriptors() {
    let driver = Driver::new(UnitConfig::everything().found_running());
    driver.write64(RTADDR, 3 << 10);
    driver.command(SRTP);
    assert_eq!(driver.rules(), ["R15"]);
}

#[test]
fn interrupt_remapping_changes_its_table_with_its_queue_on() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.write64(IRTA, driver.allocate().as_u64() | 7);
    driver.command(SIRTP);
    driver.submit(&[[4, 0]]);
    driver.command(IRE);
    driver.machine.check();
    driver.clear(QIE);
    driver.machine.check();
    driver.command(SIRTP);
    assert_eq!(driver.rules(), ["R61"], "nothing can be invalidated");
}

#[test]
fn a_unit_that_is_reset_forgets_all_but_memory() {
    let mut driver = Driver::up(UnitConfig::everything());
    let (frames, window) = (driver.machine.frames_in_use(), driver.machine.windows()[0]);
    assert!(driver.reads(0x1000).is_err());
    driver.machine.reset_unit(0);
    assert_eq!([GSTS, FSTS].map(|at| driver.read(at)), [0, 0]);
    assert_eq!([RTADDR, IQA, IQT].map(|at| driver.read64(at)), [0; 3]);
    assert_eq!(driver.read(0x38) >> 31, 1, "the fault event is masked");
    assert!(driver.reads(0x1000).is_ok(), "nothing is translated");
    assert_eq!((driver.machine.frames_in_use(), driver.machine.windows()[0]), (frames, window));
    driver.start_queue();
    driver.set_root();
    driver.enable();
    assert!(driver.reads(0x1000).is_err());
    driver.machine.check();
}

#[test]
fn a_unit_found_running_is_switched_off_in_order() {
    let mut driver = Driver::new(UnitConfig::server().found_running());
    assert_eq!(driver.read(GSTS), TE | SRTP | QIE);
    assert_eq!(driver.reads(0x1000).unwrap_err().reason, Reason::RootNotPresent);
    driver.write(0x40c, 1 << 31);
    driver.clear(TE);
    driver.clear(QIE);
    driver.start_queue();
    driver.set_root();
    driver.flush_all();
    driver.enable();
    driver.machine.check();

    let mut driver = Driver::new(UnitConfig::server().found_running());
    driver.set_root();
    assert_eq!(driver.rules(), ["R69"]);
    driver.write64(IQA, 0);
    assert_eq!(driver.rules(), ["R14"]);
    driver.machine.abandon();
}

#[test]
fn a_write_of_four_bytes_to_the_interrupt_range_is_a_message() {
    let driver = Driver::up(UnitConfig::server());
    let at = Iova::new(0xfee0_1000);
    assert_eq!(driver.machine.dma_write(device(), at, &[1, 2, 0, 0]), Ok(()));
    assert_eq!(driver.machine.messages(), [(0xfee0_1000, 0x201)]);
    let refused = driver.machine.dma_write(device(), at, &[0; 8]).unwrap_err();
    assert_eq!(refused.reason, Reason::NoInterrupt);
    assert_eq!(driver.reads(0xfee0_1000).unwrap_err().reason, Reason::NoInterrupt);
}

#[test]
fn frames_are_the_driver_s_only_between_allocation_and_free() {
    let driver = Driver::new(UnitConfig::server());
    let frame = driver.allocate();
    assert_eq!(driver.machine.frames_in_use(), 1);
    driver.machine.dma_write(device(), Iova::new(frame.as_u64()), &[1]).unwrap();
    assert_eq!(driver.rules(), ["HAL"], "no device may reach it");
    driver.free(frame);
    driver.machine.check();
    driver.free(frame);
    assert_eq!(driver.rules(), ["HAL"]);
    driver.store(frame, 1);
    assert!(driver.rules().contains(&"HAL"));
    assert_eq!(driver.machine.frames_in_use(), 0);
    driver.machine.allow_allocations(Some(1));
    let block = driver.machine.allocate(2);
    assert!(block.is_some_and(|block| block.is_aligned(0x4000_u64)) && driver.machine.allocate(0).is_none());
    assert_eq!(driver.machine.frames_in_use(), 4);
}

#[test]
fn what_qemu_forgives_is_forgiven_on_request() {
    let mut driver = Driver::new(UnitConfig::qemu_10_0(true).as_forgiving_as_qemu());
    driver.start_queue();
    driver.set_root();
    driver.enable();
    driver.submit(&[[0x12, 0]]);
    driver.machine.check();
    driver.write(FSTS, 2);
    assert_eq!(driver.rules(), ["R63"]);
}
