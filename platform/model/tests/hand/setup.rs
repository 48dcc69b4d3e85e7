//! Sections 1 to 3 of the rules: registers, bring-up, the queue.

use cofferdam::addr::PhysAddr;
use cofferdam::hal::Hal;
use cofferdam_model::{Config, Defect, Machine, Reason, UnitConfig};

use crate::driver::*;

fn presets() -> Vec<UnitConfig> {
    vec![
        UnitConfig::everything(),
        UnitConfig::server(),
        UnitConfig::server().coherent(false),
        UnitConfig::server().caching_mode(true),
        UnitConfig::client(),
        UnitConfig::client_graphics(),
        UnitConfig::qemu_7_2(true),
        UnitConfig::qemu_10_0(false),
        UnitConfig::qemu_11_1(true),
    ]
}

fn levels(unit: &UnitConfig) -> u64 {
    if unit.cap >> 8 & 4 != 0 { 4 } else { 3 }
}

#[test]
fn the_right_sequence_translates_and_breaks_no_rule() {
    for unit in presets() {
        let levels = levels(&unit);
        let mut driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(levels, 0x1234_5000, 0x8000_0000);
        driver.set_context(contexts, DEVICE, tables[0], levels, DOMAIN);
        driver.flush_all();
        driver.machine.poke(PhysAddr::new(0x8000_0010), &7_u64.to_le_bytes());
        assert_eq!(driver.reads(0x1234_5010), Ok(7));
        assert_eq!(driver.reads(0x1234_6000).unwrap_err().reason, Reason::NotReadable);
        driver.machine.check();
    }
}

#[test]
fn two_bits_in_one_command_are_reported() {
    let driver = Driver::new(UnitConfig::server());
    driver.write(GCMD, TE | SRTP);
    assert!(driver.rules().contains(&"R1"));
}

#[test]
fn a_command_before_the_last_is_confirmed_is_reported() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.root = driver.allocate();
    driver.write64(RTADDR, driver.root.as_u64());
    driver.write(GCMD, QIE | SRTP);
    driver.write64(RTADDR, 0);
    assert_eq!(driver.rules(), ["R2"]);
}

#[test]
fn translation_without_flush_or_root_table_is_reported() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.enable();
    assert_eq!(driver.rules(), ["R7"]);
    driver.clear(TE);
    driver.set_root();
    driver.enable();
    assert_eq!(driver.rules(), ["R8"]);
    driver.machine.abandon();
}

#[test]
fn a_root_table_before_the_queue_is_reported() {
    let machine = Machine::new(Config::new([UnitConfig::server()]));
    let window = machine.windows()[0];
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write32(registers_at(window), GCMD, SRTP) };
    assert_eq!(machine.take_violations()[0].rule, "R11");
}

#[test]
fn a_queue_that_is_on_is_not_moved() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.write64(IQA, 0);
    assert_eq!(driver.rules(), ["R14"]);
}

#[test]
fn a_bad_descriptor_stops_the_queue_until_iqe_is_cleared() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    assert!(!driver.submit(&[CONTEXT_GLOBAL, [0x7, 0], IOTLB_GLOBAL]));
    assert_eq!(driver.rules(), ["R25b"]);
    assert_eq!(driver.read(FSTS) & 0x10, 0x10);
    assert_eq!(driver.read64(0x80), 16);
    driver.store(driver.queue + 16, IOTLB_GLOBAL[0]);
    driver.write(FSTS, 0x10);
    assert!(driver.poll(|| driver.load(driver.status) == 1));
    driver.machine.check();
}

#[test]
fn faults_are_recorded_overflow_and_are_cleared() {
    let driver = Driver::up(UnitConfig::server().fault_records(2));
    for _ in 0..3 {
        assert_eq!(driver.reads(0x1000).unwrap_err().reason, Reason::RootNotPresent);
    }
    assert_eq!(driver.read(FSTS), 3);
    let record = 0x400;
    assert_eq!(driver.read64(record), 0x1000);
    assert_eq!(driver.read64(record + 8), 1 << 63 | 1 << 62 | 1 << 32 | u64::from(DEVICE));
    driver.write(record + 0xc, 1 << 31);
    driver.write(record + 0x1c, 1 << 31);
    assert!(driver.reads(0x2000).is_err());
    assert_eq!(driver.read(FSTS) & 3, 1, "nothing is recorded after an overflow");
    driver.write(FSTS, 1);
    assert!(driver.reads(0x2000).is_err());
    assert_eq!(driver.read64(record), 0x2000);
    driver.write(record + 0xc, 1 << 31);
    assert_eq!(driver.read(FSTS) & 3, 0);
}

#[test]
fn hardware_breaks_on_request() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.machine.break_unit(0, Defect::QueueErrorAfter(1));
    assert!(!driver.submit(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]));
    assert_eq!(driver.read64(0x80), 16);
    driver.write(FSTS, 0x10);
    assert!(driver.poll(|| driver.load(driver.status) == 1));
    driver.machine.break_unit(0, Defect::QueueDead);
    assert!(!driver.submit(&[CONTEXT_GLOBAL]));
    driver.machine.mend_unit(0);
    assert!(driver.submit(&[IOTLB_GLOBAL]));
    driver.machine.break_unit(0, Defect::StatusStuckLow(TE));
    driver.set_root();
    driver.flush_all();
    driver.write(GCMD, QIE | TE);
    assert!(!driver.poll(|| driver.read(GSTS) & TE != 0));
    driver.machine.break_unit(0, Defect::AllOnes);
    assert_eq!(driver.read64(8), u64::MAX);
}

/// Not a test of what is right: `cargo test --release -p cofferdam-model -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures"]
fn speed() {
    for unit in [UnitConfig::server(), UnitConfig::server().coherent(false), UnitConfig::server().caching_mode(true)] {
        let mut driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(4, 0x4000_0000, 0x8000_0000);
        for device in 0..16 {
            driver.set_context(contexts, device * 8, tables[0], 4, DOMAIN);
        }
        driver.submit(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]);
        let start = std::time::Instant::now();
        let count = 100_000_u32;
        for round in 0..count {
            let entry = if round % 2 == 0 { 0x8000_0000 | RW } else { 0 };
            driver.publish(tables[3] + 8, entry);
            driver.submit(&[iotlb_pages(DOMAIN, 0x4000_1000, 0, true)]);
        }
        println!("{} edits a second", f64::from(count) / start.elapsed().as_secs_f64());
    }
}

#[test]
fn a_unit_that_flushes_with_a_new_root_needs_no_invalidation() {
    let mut driver = Driver::new(UnitConfig::everything());
    driver.start_queue();
    driver.set_root();
    driver.enable();
    let contexts = driver.context_table();
    let tables = driver.map_one(4, 0x1000, 0x8000_0000);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    assert_eq!(driver.reads(0x1000), Ok(0));
    // Draining is not asked for: from major version 2 on it always happens.
    driver.submit(&[[0x12, 0]]);
    driver.machine.check();
}
