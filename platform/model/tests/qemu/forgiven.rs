//! "Forgiven": QEMU lets it pass, and the model in its forgiving mode does not report it. Held to all rules, it does;
//! and a unit of the model behaves the same in both modes, so where it is stricter than QEMU, devices see that, too.

use cofferdam::hal::Hal;

use super::*;

/// What is reported of a sequence on a unit that forgives as QEMU does, and on one that forgives nothing.
fn reported(unit: UnitConfig, sequence: impl Fn(UnitConfig) -> Driver) -> [Vec<&'static str>; 2] {
    [unit.clone().as_forgiving_as_qemu(), unit].map(|unit| {
        let driver = sequence(unit);
        let rules = settled(&driver);
        driver.machine.abandon();
        rules
    })
}

const NOTHING: Vec<&str> = Vec::new();

#[test]
fn stores_that_are_not_written_back() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (driver, _, tables) = mapped(unit);
        driver.store(tables[2] + 8, OUTPUT | RW);
        assert!(driver.reads(INPUT + 0x1000).is_err(), "stricter: the unit does not see it");
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R37"]]);
}

#[test]
fn a_new_page_without_a_flush_in_caching_mode() {
    let found = reported(UnitConfig::qemu_10_0(true), |unit| {
        let (driver, _, tables) = mapped(unit);
        driver.publish(tables[2] + 8, OUTPUT | RW);
        assert!(driver.reads(INPUT + 0x1000).is_err(), "stricter: its absence is cached");
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R29"]]);
}

#[test]
fn a_new_context_entry_without_a_flush_in_caching_mode() {
    let found = reported(UnitConfig::qemu_10_0(true), |unit| {
        let (driver, contexts, tables) = mapped(unit);
        driver.set_context(contexts, DEVICE + 8, tables[0], 3, DOMAIN);
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R33b"]]);
}

#[test]
fn no_invalidation_after_srtp() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        driver.set_root();
        driver.enable();
        driver
    });
    assert_eq!(found[0], NOTHING);
    assert!(found[1].contains(&"R8"));
    // From 11.1 on setting the root table invalidates by itself.
    let found = reported(UnitConfig::qemu_11_1(false), |unit| {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        driver.set_root();
        driver.enable();
        driver
    });
    assert_eq!(found, [NOTHING, NOTHING]);
}

#[test]
fn ih_where_a_table_changed() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[1], 0);
        driver.submit(&[iotlb_pages(DOMAIN, INPUT, 9, true)]);
        assert_eq!(driver.reads(INPUT), Ok(7), "stricter: the table is cached");
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R28"]]);
}

#[test]
fn an_invalidation_without_draining() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (mut driver, ..) = mapped(unit);
        assert!(driver.submit(&[[0x12, 0]]));
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R25"]]);
}

#[test]
fn an_address_that_is_not_aligned_to_its_mask() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (mut driver, ..) = mapped(unit);
        assert!(driver.submit(&[iotlb_pages(DOMAIN, INPUT + 0x1000, 1, true)]));
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R26"]]);
}

#[test]
fn one_domain_id_for_two_tables_and_domain_id_0_in_caching_mode() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (driver, contexts, _) = mapped(unit);
        let tables = driver.map_one(3, INPUT, OUTPUT);
        driver.set_context(contexts, DEVICE + 8, tables[0], 3, DOMAIN);
        driver
    });
    assert_eq!(found, [NOTHING, vec!["R38"]]);
    let found = reported(UnitConfig::qemu_10_0(true), |unit| {
        let (mut driver, contexts, tables) = mapped(unit);
        driver.set_context(contexts, DEVICE + 8, tables[0], 3, 0);
        driver.submit(&[context_device(DEVICE + 8, 0), iotlb_domain(0)]);
        driver
    });
    assert_eq!(found[0], NOTHING);
    assert!(found[1].contains(&"R38"));
}

/// Stricter in both modes: what QEMU forgives here, and the model reports all the same.
#[test]
fn not_waiting_before_a_frame_is_freed() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let (mut driver, _, tables) = mapped(unit);
        driver.publish(tables[1], 0);
        driver.push(&[iotlb_pages(DOMAIN, INPUT, 9, false)]);
        driver.free(tables[2]);
        driver.poll(|| driver.read64(0x80) == driver.tail);
        driver.machine.pause();
        driver
    });
    assert_eq!(found, [vec!["R31"], vec!["R31"]]);
}

/// Stricter in both modes.
#[test]
fn no_invalidation_after_sirtp() {
    let found = reported(UnitConfig::qemu_10_0(false), |unit| {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        let table = driver.allocate();
        driver.write64(0xb8, table.as_u64() | 7);
        driver.command(1 << 24);
        driver.command(1 << 25);
        driver
    });
    assert_eq!(found, [vec!["R52"], vec!["R52"]]);
}
