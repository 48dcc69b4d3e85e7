//! "What a wrong driver shows": reasons of faults, and what the one record keeps.

use cofferdam::addr::{Iova, SourceId};
use cofferdam_model::Fault;

use super::*;

const SNP: u64 = 1 << 11;
const PS: u64 = 1 << 7;
const TM: u64 = 1 << 62;

/// The device is blocked at `address` for this reason, and that is recorded.
#[track_caller]
fn blocked(driver: &Driver, address: u64, reason: u8) {
    assert_eq!(driver.reads(address).unwrap_err().reason.code(), reason, "{address:#x}");
    assert_eq!(recorded(driver), Some(reason), "{address:#x}");
}

#[test]
fn an_absent_root_entry_is_1() {
    for unit in relaxed(false) {
        let driver = Driver::up(unit);
        blocked(&driver, INPUT, 1);
        driver.machine.check();
    }
}

#[test]
fn an_absent_context_entry_is_2() {
    for unit in relaxed(false) {
        let driver = Driver::up(unit);
        driver.context_table();
        blocked(&driver, INPUT, 2);
        driver.machine.check();
    }
}

#[test]
fn no_permission_to_write_is_5_and_to_read_6() {
    for unit in relaxed(false) {
        let (driver, _, tables) = mapped(unit);
        driver.publish(tables[2] + 8, OUTPUT | 1);
        driver.publish(tables[2] + 16, OUTPUT | 2);
        let write = |address| driver.machine.dma_write(device(), Iova::new(address), &[0]);
        assert_eq!(write(INPUT + 0x1000).unwrap_err().reason.code(), 5);
        assert_eq!(recorded(&driver), Some(5));
        blocked(&driver, INPUT + 0x2000, 6);
        assert_eq!((driver.reads(INPUT + 0x1000), write(INPUT + 0x2000)), (Ok(7), Ok(())));
        driver.machine.check();
    }
}

/// An address width of 5 levels, which QEMU does not have; a translation type that is reserved.
#[test]
fn a_bad_address_width_or_translation_type_is_3() {
    for unit in relaxed(false) {
        for (table, levels) in [(0, 5), (3 << 2, 3)] {
            let driver = Driver::up(unit.clone());
            let contexts = driver.context_table();
            let tables = driver.map_one(3, INPUT, OUTPUT);
            driver.set_context(contexts, DEVICE, tables[0] + table, levels, DOMAIN);
            assert_eq!(driver.rules(), ["R40"]);
            blocked(&driver, INPUT, 3);
            driver.machine.check();
        }
    }
}

#[test]
fn an_address_above_the_width_of_the_table_is_4() {
    for unit in relaxed(false) {
        let (driver, ..) = mapped(unit);
        blocked(&driver, 1 << 39, 4);
        driver.machine.check();
    }
}

#[test]
fn reserved_bits_of_a_root_entry_are_a() {
    for unit in relaxed(false) {
        let driver = Driver::up(unit);
        let table = driver.allocate();
        driver.publish(driver.root, table.as_u64() | 3);
        assert_eq!(driver.rules(), ["R41"]);
        blocked(&driver, INPUT, 0xa);
    }
}

#[test]
fn reserved_bits_of_a_context_entry_are_b() {
    for unit in relaxed(false) {
        let driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(3, INPUT, OUTPUT);
        driver.set_context(contexts, DEVICE, tables[0] + 0x10_u64, 3, DOMAIN);
        assert_eq!(driver.rules(), ["R41"]);
        blocked(&driver, INPUT, 0xb);
    }
}

/// A page behind a leaf at `level` (1 to 3) with this value.
fn leaf(driver: &Driver, tables: &[PhysAddr], level: usize, value: u64) -> u64 {
    driver.publish(tables[3 - level] + 8_u64 * 2, value);
    let base = [INPUT, INPUT, 0][level - 1];
    base + (2 << (12 + 9 * (level - 1)))
}

#[test]
fn reserved_bits_of_page_entries_are_c() {
    for unit in relaxed(false) {
        for (what, level, value) in [
            ("SNP in a leaf without snoop control", 1, OUTPUT | SNP | RW),
            ("TM", 1, OUTPUT | TM | RW),
            ("an address bit above the host's width", 1, 1 << 39 | RW),
            ("a low bit of a page of 2 MiB", 2, OUTPUT | 1 << 12 | PS | RW),
            ("a low bit of a page of 1 GiB", 3, OUTPUT | 1 << 21 | PS | RW),
        ] {
            let (driver, _, tables) = mapped(unit.clone());
            let at = leaf(&driver, &tables, level, value);
            assert_eq!(driver.rules(), ["R41"], "{what}");
            blocked(&driver, at, 0xc);
        }
    }
}

#[test]
fn snp_in_an_entry_that_leads_to_a_table_is_c() {
    for unit in relaxed(false) {
        let (driver, _, tables) = mapped(unit.snoop_control(true));
        let table = driver.allocate();
        driver.publish(table, OUTPUT | RW);
        driver.publish(tables[1] + 8, table.as_u64() | SNP | RW);
        assert_eq!(driver.rules(), ["R41"]);
        blocked(&driver, INPUT + 0x20_0000, 0xc);
    }
}

#[test]
fn ps_at_level_4_is_c() {
    for unit in relaxed(false).into_iter().skip(1) {
        let driver = Driver::up(unit);
        let contexts = driver.context_table();
        let tables = driver.map_one(4, INPUT, OUTPUT);
        driver.publish(tables[0], tables[1].as_u64() | PS | RW);
        driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
        assert_eq!(driver.rules(), ["R41"]);
        blocked(&driver, INPUT, 0xc);
    }
}

#[test]
fn an_output_in_the_interrupt_range_is_e() {
    for unit in relaxed(false) {
        let (driver, _, tables) = mapped(unit);
        driver.publish(tables[2] + 8, 0xfee0_0000 | RW);
        assert_eq!(driver.rules(), ["R43"]);
        blocked(&driver, INPUT + 0x1000, 0xe);
    }
}

/// 7.2 drops them without a record; 10.0 and 11.1 record them, as the model does.
#[test]
fn blocked_interrupts_are_21_to_26() {
    for unit in relaxed(false).into_iter().skip(1) {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        let table = driver.allocate();
        driver.write64(0xb8, table.as_u64() | 7);
        driver.command(1 << 24);
        driver.submit(&[[0x4, 0]]);
        driver.command(1 << 25);
        let source = |source| u64::from(source) | 1 << 18;
        for (index, upper, lower) in [(1, source(DEVICE + 1), 0x41_0001), (2, source(DEVICE), 0x41_8001)] {
            driver.store(table + index * 16 + 8, upper);
            driver.publish(table + index * 16, lower);
        }
        driver.submit(&[]);
        assert_eq!(driver.rules(), ["R58"], "the reserved bit, before anybody interrupts");
        let interrupt = |address: u32| driver.machine.interrupt(device(), address, 0);
        let remappable = |index: u32| 0xfee0_0010 | index << 5;
        for (address, reason) in [
            (remappable(256), 0x21),
            (remappable(0), 0x22),
            (remappable(2), 0x24),
            (0xfee0_0000, 0x25),
            (remappable(1), 0x26),
        ] {
            let refused: Fault = interrupt(address).unwrap_err();
            assert_eq!((refused.reason.code(), recorded(&driver)), (reason, Some(reason)));
        }
    }
}

#[test]
fn there_is_one_record_at_220_and_a_second_fault_overflows() {
    for unit in relaxed(false) {
        let driver = Driver::up(unit);
        let other = SourceId::from_requester(0, 0x0150);
        assert!(driver.reads(INPUT).is_err());
        assert!(driver.machine.dma_write(other, Iova::new(0x1000), &[0]).is_err());
        assert_eq!((driver.read(FSTS), driver.read64(RECORD)), (3, INPUT), "PPF and PFO; the first stays");
        let high = driver.read64(RECORD + 8);
        assert_eq!(high, 1 << 63 | 1 << 62 | 1 << 32 | u64::from(DEVICE), "F, read, reason 1, source-id");
        assert_eq!(recorded(&driver), Some(1));
        assert_eq!(driver.read(FSTS), 0);
        driver.machine.check();
    }
}

/// Stricter: in QEMU a fault of the same source as the one that is recorded vanishes; the model overflows, as it may.
#[test]
fn a_second_fault_of_the_same_source_overflows() {
    let driver = Driver::up(UnitConfig::qemu_10_0(false).as_forgiving_as_qemu());
    assert!(driver.reads(INPUT).is_err() && driver.reads(INPUT).is_err());
    assert_eq!(driver.read(FSTS), 3);
    driver.machine.check();
}

/// QEMU 7.2 and 10.0 abort here.
#[test]
fn registers_of_four_bytes_are_not_accessed_by_eight() {
    let driver = Driver::new(UnitConfig::qemu_10_0(false).as_forgiving_as_qemu());
    for register in [FECTL, 0xa0, 0xa8] {
        driver.write64(register, 1 << 31);
        assert!(driver.rules().contains(&"REG"), "{register:#x}");
    }
}
