//! "CAP / ECAP", "Always", "Not implemented" and "Options".

use super::*;

const CAP: u32 = 0x08;
const ECAP: u32 = 0x10;
const PMEN: u32 = 0x64;
const IECTL: u32 = 0xa0;
const IRTA: u32 = 0xb8;
const CFI: u32 = 1 << 23;

#[test]
fn cap_and_ecap_by_version() {
    let caps = [0x00d2_008c_2226_0206, 0x00d2_008c_222f_0606, 0x80d2_008c_222f_0606];
    for (caching, bit) in [(false, 0), (true, 1 << 7)] {
        for (unit, cap) in versions(caching).into_iter().zip(caps) {
            let driver = Driver::new(unit);
            assert_eq!((driver.read64(CAP), driver.read64(ECAP), driver.read(0)), (cap | bit, 0xf0_0f4a, 0x10));
            assert_eq!((driver.window.base.as_u64(), driver.window.bytes), (0xfed9_0000, 0x1000));
        }
    }
}

#[test]
fn snoop_control_sets_bit_7_of_ecap() {
    for unit in relaxed(false) {
        let driver = Driver::new(unit.snoop_control(true));
        assert_eq!(driver.read64(ECAP), 0xf0_0fca);
    }
}

#[test]
fn all_is_off_and_zero_at_first() {
    for unit in relaxed(true) {
        let driver = Driver::new(unit);
        for zero in [GSTS, FSTS, PMEN, 0x9c] {
            assert_eq!(driver.read(zero), 0, "{zero:#x}");
        }
        for zero in [RTADDR, 0x80, IQT, IQA, IRTA, RECORD, RECORD + 8] {
            assert_eq!(driver.read64(zero), 0, "{zero:#x}");
        }
        assert_eq!((driver.read(FECTL), driver.read(IECTL)), (1 << 31, 1 << 31), "masked");
        assert_eq!(driver.reads(INPUT), Ok(0), "DMA is not translated");
    }
}

#[test]
fn without_intremap_there_is_no_interrupt_entry_invalidation() {
    for unit in relaxed(false) {
        let mut driver = Driver::new(UnitConfig { ecap: 0x0f42, ..unit });
        driver.start_queue();
        assert!(!driver.submit(&[[0x4, 0]]));
        assert_eq!((driver.read(FSTS) & 0x10, driver.rules()), (0x10, vec!["R25b"]));
    }
}

#[test]
fn eime_needs_eim() {
    for (eim, rules) in [(0, vec!["R57"]), (1 << 4, vec![])] {
        let unit = UnitConfig::qemu_10_0(false).as_forgiving_as_qemu();
        let driver = Driver::new(UnitConfig { ecap: unit.ecap | eim, ..unit });
        driver.write64(IRTA, 1 << 11);
        assert_eq!(driver.rules(), rules);
    }
}

#[test]
fn device_tlb_invalidations_need_device_iotlb() {
    for (option, stops) in [(0, true), (1 << 2, false)] {
        let unit = UnitConfig::qemu_10_0(false).as_forgiving_as_qemu();
        let (mut driver, ..) = mapped(UnitConfig { ecap: unit.ecap | option, ..unit });
        assert_eq!(driver.submit(&[[0x3 | u64::from(DEVICE) << 32, 0x7fff_ffff_ffff_f001]]), !stops);
        assert_eq!(driver.rules(), if stops { vec!["R25b"] } else { vec![] });
    }
}

#[test]
fn without_dma_translation_te_never_sets_tes() {
    for unit in relaxed(false) {
        let driver = Driver::up(UnitConfig { cap: unit.cap & !(0x1f << 8), ..unit });
        assert_eq!((driver.read(GSTS) & TE, driver.reads(INPUT)), (0, Ok(0)));
        assert_eq!(driver.rules(), ["R4"]);
    }
}

#[test]
fn there_is_no_protected_memory() {
    for unit in relaxed(false) {
        let driver = Driver::new(unit);
        driver.write(PMEN, 1 << 31);
        assert!(!driver.poll(|| driver.read(PMEN) != 0));
        driver.machine.check();
    }
}

/// QEMU never shows WBFS, the model shows it for a while: a driver that waits until it is clear is right on both.
#[test]
fn a_write_buffer_flush_ends() {
    for unit in relaxed(false) {
        let driver = Driver::new(unit);
        driver.command(WBF);
        assert_eq!(driver.read(GSTS), 0);
        driver.machine.check();
    }
}

/// Stricter: QEMU never shows CFIS; the model does, and tells that it should not be asked for.
#[test]
fn compatibility_format_is_reported() {
    for unit in relaxed(false) {
        let driver = Driver::new(unit);
        driver.command(CFI);
        assert_eq!((driver.read(GSTS), driver.rules()), (CFI, vec!["R53"]));
    }
}
