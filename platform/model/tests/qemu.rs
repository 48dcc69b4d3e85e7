//! What QEMU 7.2, 10.0 and 11.1 were seen to do, seen again on the model's presets of them: one test a row of the notes.
//!
//! The units are not held to what QEMU forgives, so each violation here is one that QEMU punishes, too, or the test says
//! that the model is stricter.
#![allow(missing_docs, clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

#[path = "qemu/capabilities.rs"]
mod capabilities;
#[allow(dead_code, unreachable_pub, reason = "the other tests use the rest")]
#[path = "hand/driver.rs"]
mod driver;
#[path = "qemu/forgiven.rs"]
mod forgiven;
#[path = "qemu/queue.rs"]
mod queue;
#[path = "qemu/reasons.rs"]
mod reasons;
#[path = "qemu/stale.rs"]
mod stale;

use cofferdam::addr::PhysAddr;
use cofferdam_model::UnitConfig;

use driver::*;

const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;
/// Where QEMU has its one fault record.
const RECORD: u32 = 0x220;

/// QEMU's three versions, with caching mode or without.
fn versions(caching_mode: bool) -> [UnitConfig; 3] {
    [UnitConfig::qemu_7_2(caching_mode), UnitConfig::qemu_10_0(caching_mode), UnitConfig::qemu_11_1(caching_mode)]
}

fn relaxed(caching_mode: bool) -> [UnitConfig; 3] {
    versions(caching_mode).map(UnitConfig::as_forgiving_as_qemu)
}

/// A unit that translates, with a device whose page table of three levels maps one page, where 7 can be read. Returns
/// the device's context table and its page tables, from the top down.
fn mapped(unit: UnitConfig) -> (Driver, PhysAddr, Vec<PhysAddr>) {
    let mut driver = Driver::up(unit);
    let contexts = driver.context_table();
    let tables = driver.map_one(3, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0], 3, DOMAIN);
    driver.flush_all();
    driver.machine.poke(PhysAddr::new(OUTPUT), &7_u64.to_le_bytes());
    assert_eq!(driver.reads(INPUT), Ok(7));
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, contexts, tables)
}

fn settled(driver: &Driver) -> Vec<&'static str> {
    driver.machine.settle();
    driver.rules()
}

/// Reason of the pending record, which is then cleared; `None` if there is none.
fn recorded(driver: &Driver) -> Option<u8> {
    let high = driver.read64(RECORD + 8);
    if high >> 63 == 0 {
        return None;
    }
    driver.write(RECORD + 12, 1 << 31);
    driver.write(FSTS, 1);
    Some((high >> 32) as u8)
}
