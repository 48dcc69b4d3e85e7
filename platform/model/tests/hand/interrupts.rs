//! Section 7 of the rules: the interrupt-remapping table, its cache, and who may interrupt.

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam_model::{Fault, Reason, Targets, UnitConfig};

use crate::driver::*;

const IRTA: u32 = 0xb8;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;

const GLOBAL: [u64; 2] = [0x4, 0];

fn index(index: u64) -> [u64; 2] {
    [0x14 | index << 32, 0]
}

/// The upper half of an entry: SVT = 01, SQ = 00.
fn from(source: u16) -> u64 {
    u64::from(source) | 1 << 18
}

/// The lower half: fixed, physical, edge, for the xAPIC with id 3.
fn vector(vector: u64) -> u64 {
    3 << 40 | vector << 16 | 1
}

/// A unit that remaps interrupts, with a table of 256 entries, and entry 7 for the usual device.
fn remapping(unit: UnitConfig) -> (Driver, PhysAddr) {
    let mut driver = Driver::new(unit);
    driver.start_queue();
    let table = driver.allocate();
    driver.write64(IRTA, table.as_u64() | 7);
    driver.command(SIRTP);
    driver.submit(&[GLOBAL]);
    driver.command(IRE);
    driver.store(table + 7 * 16 + 8, from(DEVICE));
    driver.publish(table + 7 * 16, vector(0x41));
    driver.submit(&[index(7)]);
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, table)
}

/// A message with this index, in remappable format without a subhandle.
fn interrupt(driver: &Driver, source: u16, index: u32) -> Result<(u64, u32), Fault> {
    let address = 0xfee0_0010 | (index & 0x7fff) << 5 | index >> 15 << 2;
    driver.machine.interrupt(SourceId::from_requester(0, source), address, 0)
}

fn settled(driver: &Driver) -> Vec<&'static str> {
    driver.machine.settle();
    driver.rules()
}

#[test]
fn an_interrupt_is_remapped_for_its_source_alone() {
    for unit in [UnitConfig::server(), UnitConfig::client(), UnitConfig::server().caching_mode(true)] {
        let (driver, _) = remapping(unit);
        assert_eq!(interrupt(&driver, DEVICE, 7), Ok((0xfee0_3000, 0x4041)));
        assert_eq!(driver.machine.messages(), [(0xfee0_3000, 0x4041)]);
        for (source, number, reason) in [
            (DEVICE + 1, 7, Reason::InterruptSource),
            (DEVICE, 8, Reason::InterruptNotPresent),
            (DEVICE, 256, Reason::InterruptIndex),
        ] {
            assert_eq!(interrupt(&driver, source, number).unwrap_err().reason, reason);
        }
        driver.machine.check();
    }
    let (driver, _) = remapping(UnitConfig::server());
    let at = Iova::new(0xfee0_3000);
    assert_eq!(driver.machine.dma_write(device(), at, &[0; 4]).unwrap_err().reason, Reason::CompatibilityFormat);
    let with_subhandle = 0xfee0_0010 | 8 | 5 << 5;
    assert!(driver.machine.interrupt(device(), with_subhandle, 2).is_ok(), "5 + 2");
    let refused = driver.machine.interrupt(device(), with_subhandle, 1 << 16).unwrap_err();
    assert_eq!(refused.reason, Reason::InterruptReserved);
}

#[test]
fn the_record_of_a_blocked_interrupt_has_its_index() {
    let (driver, _) = remapping(UnitConfig::server());
    assert!(interrupt(&driver, DEVICE, 9).is_err());
    assert_eq!(driver.read64(0x400), 9 << 48);
    assert_eq!(driver.read64(0x408) >> 32 & 0xff, 0x22);
}

#[test]
fn sources_are_compared_as_the_entry_says() {
    let (mut driver, table) = remapping(UnitConfig::server());
    for (number, upper, good, bad) in [
        (8, from(0x18) | 1 << 16, 0x1c, 0x19),
        (9, from(0x18) | 2 << 16, 0x1e, 0x19),
        (10, from(0x18) | 3 << 16, 0x1f, 0x20),
        (11, 2 << 18 | 0x0204, 0x03ff, 0x0500),
    ] {
        driver.store(table + number * 16 + 8, upper);
        driver.publish(table + number * 16, vector(0x50));
        assert!(interrupt(&driver, good, number as u32).is_ok(), "{number}");
        assert!(interrupt(&driver, bad, number as u32).is_err(), "{number}");
    }
    driver.submit(&[]);
    driver.machine.check();
}

#[test]
fn an_entry_stays_cached_until_it_is_invalidated() {
    for unit in [UnitConfig::server(), UnitConfig::server().coherent(false)] {
        let (mut driver, table) = remapping(unit);
        let entry = table + 7 * 16;
        driver.publish(entry, vector(0x42));
        assert_eq!(interrupt(&driver, DEVICE, 7), Ok((0xfee0_3000, 0x4041)));
        driver.submit(&[index(6)]);
        assert_eq!(settled(&driver), ["R55"]);
        driver.submit(&[index(7)]);
        assert_eq!(interrupt(&driver, DEVICE, 7), Ok((0xfee0_3000, 0x4042)));
        assert_eq!(settled(&driver), [""; 0]);
        // A mask of one bit covers 6 and 7.
        driver.publish(entry, 0);
        driver.submit(&[[0x14 | 6 << 32 | 1 << 27, 0]]);
        assert!(interrupt(&driver, DEVICE, 7).is_err());
        assert_eq!(settled(&driver), [""; 0]);
    }
}

#[test]
fn in_caching_mode_a_new_entry_is_invalidated_too() {
    let (mut driver, table) = remapping(UnitConfig::server().caching_mode(true));
    driver.store(table + 8 * 16 + 8, from(DEVICE));
    driver.publish(table + 8 * 16, vector(0x42));
    assert_eq!(interrupt(&driver, DEVICE, 8).unwrap_err().reason, Reason::InterruptNotPresent);
    assert_eq!(settled(&driver), ["R55"]);
    driver.submit(&[GLOBAL]);
    driver.machine.check();
}

#[test]
fn an_entry_changes_in_one_store_or_through_absence() {
    let (mut driver, table) = remapping(UnitConfig::server());
    let entry = table + 7 * 16;
    driver.publish(entry + 8, from(DEVICE + 1));
    assert_eq!(driver.rules(), ["R54"]);
    driver.submit(&[index(7)]);
    driver.publish(entry, 0);
    driver.publish(entry + 8, from(DEVICE));
    driver.publish(entry, vector(0x43));
    assert_eq!(driver.rules(), ["R54"], "reused before the invalidation");
    driver.submit(&[index(7)]);
    driver.machine.check();
}

#[test]
fn both_halves_change_in_one_store_of_both() {
    for config in [UnitConfig::server(), UnitConfig::client()] {
        let (mut driver, table) = remapping(config);
        driver.publish_pair(table + 7 * 16, [vector(0x43), from(DEVICE + 1)]);
        assert_eq!(driver.rules(), [""; 0]);
        driver.submit(&[index(7)]);
        driver.machine.check();
        assert!(interrupt(&driver, DEVICE, 7).is_err() && interrupt(&driver, DEVICE + 1, 7).is_ok());
        driver.publish_pair(table + 7 * 16, [vector(0x44), from(DEVICE)]);
        assert_eq!(settled(&driver), ["R55"]);
        driver.submit(&[index(7)]);
    }
    let (driver, table) = remapping(UnitConfig::server());
    driver.publish_pair(table + 7 * 16 + 8, [0; 2]);
    assert_eq!(driver.rules(), ["HAL"], "half of one entry and half of the next");
}

#[test]
fn entries_validate_their_source_and_have_no_reserved_bits() {
    for (rule, lower, upper) in [
        ("R56", vector(0x41), 0),
        ("R57", vector(0x41) | 1 << 32, from(DEVICE)),
        ("R58", vector(0x41) | 1 << 15, from(DEVICE)),
    ] {
        let (mut driver, table) = remapping(UnitConfig::server());
        driver.store(table + 8, upper);
        driver.publish(table, lower);
        driver.submit(&[]);
        assert_eq!(driver.rules(), [rule]);
        let reason = interrupt(&driver, DEVICE, 0).map_err(|fault| fault.reason);
        assert_eq!(reason.is_ok(), rule == "R56");
    }
}

/// What a device could send but an interrupt with a vector, which hardware takes, and the modes that there are not.
#[test]
fn entries_deliver_interrupts_with_a_vector_and_nothing_else() {
    let modes = (0..8).map(|mode| vector(0x41) | mode << 5);
    let cases = modes.chain([vector(16), vector(15), 0xff00_0000_0041_0001 | 3 << 40, vector(0x41) | 1 << 24]);
    let expected = ["", "", "R58", "R58", "R58", "R58", "R58", "R58", "", "R58", "R57", "R58"];
    for ((number, lower), rule) in cases.enumerate().zip(expected) {
        let (mut driver, table) = remapping(UnitConfig::server());
        driver.store(table + 8, from(DEVICE));
        driver.publish(table, lower);
        driver.submit(&[]);
        assert_eq!(driver.rules().concat(), rule, "case {number}");
        let refused = [3, 6, 10, 11].contains(&number).then_some(Reason::InterruptEntryReserved);
        assert_eq!(interrupt(&driver, DEVICE, 0).err().map(|fault| fault.reason), refused, "case {number}");
        driver.machine.abandon();
    }
}

/// OWN: what a device sends by entries that let it, to CPUs and vectors that another owns.
#[test]
fn an_interrupt_to_a_cpu_of_another_owner_is_reported() {
    let (mut driver, table) = remapping(UnitConfig::server());
    let targets = |cpus, vectors| Targets { cpus: vec![cpus], flat_ids: Some(0b1100), vectors };
    let owned = |cpus, vectors| [(1, targets(cpus, vectors)), (2, targets(8..=9, 0x20..=0x3f))];
    let says = |driver: &Driver, owner: &[u32]| {
        driver.machine.set_targets(owned(3..=4, 0x40..=0x4f), owner.iter().map(|owner| (device(), *owner)));
        assert!(interrupt(driver, DEVICE, 7).is_ok());
        driver.rules()
    };
    assert_eq!(says(&driver, &[1]), [""; 0]);
    assert_eq!(says(&driver, &[2, 1]), [""; 0], "it has two owners for a while");
    assert_eq!((says(&driver, &[2]), says(&driver, &[])), (vec!["OWN"], vec!["OWN"]));
    let cases = [
        (vector(0x50), false),
        (2 << 40 | 0x41 << 16 | 1, false),
        (0xff << 40 | 0x41 << 16 | 1, false),
        (0b1000 << 40 | 0x41 << 16 | 1 << 2 | 1, true),
        (0b1_1000 << 40 | 0x41 << 16 | 1 << 2 | 1, false),
        (0xff << 40 | 0x41 << 16 | 1 << 2 | 1, false),
        (1 << 2 | 0x41 << 16 | 1, false),
        (vector(0x4f) | 1 << 5, true),
    ];
    for (number, (lower, is_own)) in cases.into_iter().enumerate() {
        driver.publish(table + 7 * 16, lower);
        driver.submit(&[index(7)]);
        let expected: &[&str] = if is_own { &[] } else { &["OWN"] };
        assert_eq!(says(&driver, &[1]), expected, "case {number}");
    }
    driver.publish(table + 7 * 16, vector(0x41) | 4 << 5);
    driver.submit(&[index(7)]);
    assert_eq!(says(&driver, &[1]), ["R58", "OWN"], "NMI");
}

#[test]
fn clusters_are_of_their_cpus_owner() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    let table = driver.allocate();
    driver.write64(IRTA, table.as_u64() | 1 << 11 | 7);
    driver.command(SIRTP);
    driver.submit(&[GLOBAL]);
    driver.command(IRE);
    let targets = Targets { cpus: vec![0x1_0203..=0x1_0204], flat_ids: None, vectors: 0x41..=0x41 };
    driver.machine.set_targets([(1, targets)], [(device(), 1)]);
    driver.store(table + 8, from(DEVICE));
    let logical = |set: u64| set << 32 | 0x41 << 16 | 1 << 2 | 1;
    for (lower, is_own) in [
        (0x1_0203 << 32 | 0x41 << 16 | 1, true),
        (0x203 << 32 | 0x41 << 16 | 1, false),
        (logical(0x1020 << 16 | 0b1_1000), true),
        (logical(0x1020 << 16 | 0b11_1000), false),
        (logical(0x1020 << 16), false),
        (logical(0xffff_ffff), false),
        (0xffff_ffff << 32 | 0x41 << 16 | 1, false),
    ] {
        driver.publish(table, lower);
        driver.submit(&[index(0)]);
        assert!(interrupt(&driver, DEVICE, 0).is_ok());
        assert_eq!(driver.rules().is_empty(), is_own, "{lower:#x}");
    }
}

#[test]
fn extended_mode_has_the_whole_destination() {
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    let table = driver.allocate();
    driver.write64(IRTA, table.as_u64() | 1 << 11);
    driver.command(SIRTP);
    driver.submit(&[GLOBAL]);
    driver.command(IRE);
    driver.store(table + 8, from(DEVICE));
    driver.publish(table, 0x1234 << 32 | 0x41 << 16 | 1);
    assert_eq!(interrupt(&driver, DEVICE, 0), Ok((0x12 << 40 | 0xfee3_4000, 0x4041)));
    assert_eq!(interrupt(&driver, DEVICE, 2).unwrap_err().reason, Reason::InterruptIndex, "2 entries");
    driver.free(table);
    assert_eq!(driver.rules(), ["R31"]);
}

/// The halves of an entry that posts urgent interrupts or others of the usual device.
fn posted(vector: u64, urgent: bool, descriptor: PhysAddr) -> [u64; 2] {
    let (low, high) = (descriptor.as_u64() & 0xffff_ffff, descriptor.as_u64() & !0xffff_ffff);
    [low << 32 | vector << 16 | 1 << 15 | u64::from(urgent) << 14 | 1, high | from(DEVICE)]
}

/// A unit that posts interrupts, with entry 7 for the usual device, and the descriptor.
fn posting(urgent: bool) -> (Driver, PhysAddr, PhysAddr) {
    let (mut driver, table) = remapping(UnitConfig::server().posts_interrupts());
    let descriptor = driver.allocate() + 3 * 64;
    driver.publish_pair(table + 7 * 16, posted(0x83, urgent, descriptor));
    driver.submit(&[index(7)]);
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, table, descriptor)
}

/// A descriptor whose notice is vector 0x50 of the xAPIC with id 3, with these of ON and SN.
const NOTICE: u64 = 3 << 40 | 0x50 << 16;
const NOTIFIED: (u64, u32) = (0xfee0_3000, 0x4050);

#[test]
fn a_posted_interrupt_is_recorded_and_said_once() {
    // R60
    let (driver, _, descriptor) = posting(false);
    driver.store(descriptor + 32, NOTICE);
    assert_eq!(interrupt(&driver, DEVICE, 7), Ok(NOTIFIED));
    assert_eq!((driver.load(descriptor + 16), driver.load(descriptor + 32)), (1 << 3, NOTICE | 1));
    assert_eq!(interrupt(&driver, DEVICE, 7), Ok((0, 0)), "one notice is outstanding");
    driver.store(descriptor + 16, 0);
    driver.store(descriptor + 32, NOTICE | 2);
    assert_eq!(interrupt(&driver, DEVICE, 7), Ok((0, 0)), "no notice is wanted");
    assert_eq!((driver.load(descriptor + 16), driver.load(descriptor + 32)), (1 << 3, NOTICE | 2));
    assert_eq!(interrupt(&driver, DEVICE + 1, 7).unwrap_err().reason, Reason::InterruptSource);
    let (driver, _, descriptor) = posting(true);
    driver.store(descriptor + 32, NOTICE | 2);
    assert_eq!(interrupt(&driver, DEVICE, 7), Ok(NOTIFIED), "but for what is urgent");
    driver.machine.check();
}

#[test]
fn what_is_reserved_in_a_descriptor_blocks() {
    for (word, bits) in [(4, 4), (4, 1 << 15), (4, 1 << 24), (4, 1 << 32), (4, 1 << 48), (5, 1), (7, 1 << 63)] {
        let (driver, _, descriptor) = posting(false);
        driver.store(descriptor + word * 8, bits);
        assert_eq!(interrupt(&driver, DEVICE, 7).unwrap_err().reason, Reason::DescriptorReserved);
        assert_eq!(driver.load(descriptor + 16), 0);
    }
}

#[test]
fn a_descriptor_lies_in_memory_and_only_some_units_have_any() {
    let (mut driver, table, descriptor) = posting(false);
    driver.publish_pair(table + 7 * 16, posted(0x83, false, PhysAddr::new(0x40_0000_0000)));
    driver.submit(&[index(7)]);
    assert_eq!(driver.rules(), ["R60"]);
    assert_eq!(interrupt(&driver, DEVICE, 7).unwrap_err().reason, Reason::DescriptorUnreachable);
    assert_eq!(driver.rules(), ["R60"]);
    for bit in [2, 7, 12, 13, 24, 37, 64 + 20, 64 + 31, 64 + 63] {
        let mut entry = posted(0x83, false, descriptor);
        entry[bit / 64] |= 1 << (bit % 64);
        driver.publish_pair(table + 7 * 16, entry);
        driver.submit(&[index(7)]);
        assert_eq!(driver.rules(), ["R58"], "{bit}");
        assert_eq!(interrupt(&driver, DEVICE, 7).unwrap_err().reason, Reason::InterruptEntryReserved, "{bit}");
    }
    let (mut driver, table) = remapping(UnitConfig::server());
    let descriptor = driver.allocate();
    driver.publish_pair(table + 7 * 16, posted(0x83, false, descriptor));
    driver.submit(&[index(7)]);
    assert_eq!(driver.rules(), ["R58"]);
    assert_eq!(interrupt(&driver, DEVICE, 7).unwrap_err().reason, Reason::InterruptEntryReserved);
}

#[test]
fn a_sender_posts_for_its_owner_alone() {
    let (driver, _, descriptor) = posting(false);
    let nobody = Targets { cpus: Vec::new(), flat_ids: Some(0), vectors: 16..=16 };
    driver.machine.set_targets([(1, nobody.clone()), (2, nobody)], [(SourceId::from_requester(0, DEVICE), 1)]);
    driver.machine.set_descriptors([(descriptor.as_u64(), 1)]);
    assert!(interrupt(&driver, DEVICE, 7).is_ok());
    assert_eq!(driver.rules(), [""; 0]);
    driver.machine.set_descriptors([(descriptor.as_u64(), 2)]);
    assert!(interrupt(&driver, DEVICE, 7).is_ok());
    assert_eq!(driver.rules(), ["OWN"]);
}
