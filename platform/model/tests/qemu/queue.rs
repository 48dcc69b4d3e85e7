//! "What a wrong driver shows" and "Traps": the queue and the global command register.

use super::*;

const CCMD: u32 = 0x28;
const IQH: u32 = 0x80;
const IQE: u32 = 0x10;

/// The queue stops at a descriptor in the middle of a batch, breaking this rule, and goes on when it is replaced. QEMU
/// needs IQE cleared and IQT written again; to the model, as to the specification (6.5.2.11), clearing is enough.
#[track_caller]
fn stops(bad: [u64; 2], rule: &str) {
    for unit in relaxed(false) {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        assert!(!driver.submit(&[CONTEXT_GLOBAL, bad, IOTLB_GLOBAL]), "{bad:x?}");
        assert_eq!((driver.read(FSTS), driver.read64(IQH), driver.rules()), (IQE, 16, vec![rule]), "{bad:x?}");
        // A tail alone moves nothing.
        assert!(!driver.submit(&[IOTLB_GLOBAL]));
        assert_eq!((driver.read(FSTS), driver.read64(IQH)), (IQE, 16));
        driver.store(driver.queue + 16_u64, IOTLB_GLOBAL[0]);
        driver.store(driver.queue + 24_u64, IOTLB_GLOBAL[1]);
        driver.write(FSTS, IQE);
        driver.write64(IQT, driver.tail);
        assert!(driver.poll(|| driver.load(driver.status) == 2), "{bad:x?}");
        assert_eq!((driver.read(FSTS), driver.read64(IQH)), (0, driver.tail));
        driver.machine.check();
    }
}

#[test]
fn a_descriptor_with_reserved_bits_stops_it() {
    stops([CONTEXT_GLOBAL[0] | 1 << 63, 0], "R25b");
    stops([IOTLB_GLOBAL[0] | 1 << 32, 0], "R25b");
    stops([IOTLB_GLOBAL[0], 1 << 7], "R25b");
}

#[test]
fn a_descriptor_of_unknown_type_stops_it() {
    stops([0x7, 0], "R25b");
    stops([0, 0], "R25b");
}

#[test]
fn a_mask_above_18_stops_it() {
    stops(iotlb_pages(DOMAIN, 0, 19, false), "R27");
}

#[test]
fn a_wait_with_an_unaligned_status_address_stops_it() {
    stops([0x25, 0x1000_0002], "R25b");
}

#[test]
fn a_tail_past_the_ring_stops_it() {
    for unit in relaxed(false) {
        let driver = &mut Driver::new(unit);
        driver.start_queue();
        driver.write64(IQT, 4096);
        assert_eq!((driver.read(FSTS), driver.rules()), (IQE, vec!["R15"]));
    }
}

/// Both move on: the head when a descriptor is taken, the status word when all before it is done. QEMU does all of that
/// before the write of IQT returns; the model takes its time.
#[test]
fn head_and_status_word_follow_the_tail() {
    for unit in relaxed(false) {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        assert_eq!(driver.read64(IQH), 0);
        assert!(driver.submit(&[CONTEXT_GLOBAL, IOTLB_GLOBAL]));
        assert_eq!((driver.read64(IQH), driver.read64(IQT)), (48, 48));
        driver.machine.check();
    }
}

#[test]
fn register_based_invalidation_never_ends_with_the_queue_on() {
    for unit in relaxed(false) {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        for register in [CCMD, 0xf8] {
            driver.write64(register, 1 << 63 | 1 << 61 | 3 << 48);
            assert!(!driver.poll(|| driver.read64(register) >> 63 == 0), "{register:#x}");
            assert!(driver.rules().contains(&"R5"), "{register:#x}");
        }
        driver.machine.abandon();
    }
}

#[test]
fn a_command_without_what_is_on_switches_it_off() {
    for unit in relaxed(false) {
        let (driver, ..) = mapped(unit);
        assert_eq!(driver.read(GSTS), TE | SRTP | QIE);
        driver.write(GCMD, TE | WBF);
        assert!(driver.poll(|| driver.read(GSTS) & (QIE | WBF) == 0));
        assert_eq!(driver.rules(), ["R1"]);
        driver.write(GCMD, 0);
        assert!(driver.poll(|| driver.read(GSTS) & TE == 0));
        assert_eq!(driver.reads(OUTPUT), Ok(7), "not translated any more");
        driver.machine.check();
    }
}

/// QEMU does not take QIE = 0 while something is pending, or after anything but a wait. The model takes it, forgives it
/// here, and reports it on a unit that forgives nothing.
#[test]
fn the_queue_is_switched_off_when_empty_after_a_wait() {
    for (units, rules) in [(relaxed(false), vec![]), (versions(false), vec!["R14"])] {
        for unit in units {
            let mut driver = Driver::new(unit);
            driver.start_queue();
            driver.push(&[CONTEXT_GLOBAL]);
            assert!(driver.poll(|| driver.read64(IQH) == 16));
            driver.clear(QIE);
            assert_eq!(driver.rules(), rules);
        }
    }
}

#[test]
fn the_tail_is_kept_when_the_queue_is_off_and_the_head_is_not() {
    for unit in relaxed(false) {
        let mut driver = Driver::new(unit);
        driver.start_queue();
        driver.submit(&[CONTEXT_GLOBAL]);
        driver.clear(QIE);
        assert_eq!((driver.read64(IQH), driver.read64(IQT)), (0, 32));
        driver.write64(IQT, 0);
        driver.tail = 0;
        driver.command(QIE);
        assert!(driver.submit(&[IOTLB_GLOBAL]));
        driver.machine.check();
    }
}
