//! Devices that are reset: R49 and what goes with it.

use cofferdam::addr::{Iova, PhysAddr};
use cofferdam::hal::Hal;
use cofferdam_model::{Late, Reset, UnitConfig};

use crate::driver::*;

const COMMAND: u16 = 0x04;
/// Device Control where the model has it.
const CONTROL: u16 = 0x68;
const ATS: u16 = 0x144;
const TAKES_NS: u64 = 100_000_000;

fn write(driver: &Driver, offset: u16, value: u32) {
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { driver.machine.config_write(device(), offset, value) };
}

/// The rules that a reset breaks which comes after some steps. The steps are given where the device's context entry is.
fn reset(takes_ns: u64, before: impl Fn(&mut Driver, PhysAddr), after: impl Fn(&Driver)) -> Vec<String> {
    let mut driver = Driver::up(UnitConfig::server());
    let contexts = driver.context_table();
    let tables = driver.map_one(4, 0x4000_0000, 0x8000_0000);
    driver.set_context(contexts, DEVICE, tables[0], 4, DOMAIN);
    driver.submit(&[]);
    driver.machine.add_express(device());
    driver.machine.add_reset(device(), Reset::Express, takes_ns);
    before(&mut driver, contexts + u64::from(DEVICE) * 16);
    write(&driver, CONTROL, 1 << 15);
    assert_eq!(driver.machine.resets(device()), 1);
    after(&driver);
    let rules = driver.rules().into_iter().map(Into::into).collect();
    // What was changed need not be flushed any more.
    driver.machine.abandon();
    rules
}

fn block(driver: &mut Driver, entry: PhysAddr) {
    driver.publish(entry, 0);
    driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN)]);
}

fn look_in_time(driver: &Driver) {
    driver.machine.pass(TAKES_NS);
    assert_eq!(driver.machine.config_read(device(), COMMAND) & 6, 0, "it forgot what was set");
}

#[test]
fn a_device_is_blocked_before_it_is_reset() {
    assert_eq!(reset(0, block, look_in_time), [""; 0]);
    assert_eq!(reset(0, |_, _| (), look_in_time), ["R49"], "its entry lets it through");
    assert_eq!(
        reset(0, |driver, entry| driver.publish(entry, 0), look_in_time),
        ["R49"],
        "its unit has not forgotten it"
    );
}

#[test]
fn ats_is_off_before_a_reset() {
    let with_ats = |driver: &mut Driver, entry| {
        block(driver, entry);
        driver.machine.add_ats(device(), 32);
        driver.machine.set_config(device(), ATS, 1 << 31);
    };
    assert_eq!(reset(0, with_ats, look_in_time), ["R49"]);
}

#[test]
fn a_device_has_nothing_under_way_when_it_is_reset() {
    let late = |driver: &mut Driver, entry| {
        block(driver, entry);
        driver.machine.write_late(device(), Iova::new(0), &[1; 8], 10 * TAKES_NS, Late::UnderWay);
    };
    assert_eq!(reset(0, late, look_in_time), ["R49"]);
}

#[test]
fn nobody_looks_at_a_device_before_its_reset_is_over() {
    let early = |driver: &Driver| {
        driver.machine.pass(TAKES_NS / 2);
        assert_eq!(driver.machine.config_read(device(), COMMAND), u32::MAX);
    };
    assert_eq!(reset(0, block, early), ["R49"]);
    let not_yet = |driver: &Driver| {
        driver.machine.pass(TAKES_NS);
        assert_eq!(driver.machine.config_read(device(), COMMAND), u32::MAX, "it takes longer, which it says like this");
    };
    assert_eq!(reset(2 * TAKES_NS, block, not_yet), [""; 0]);
    let writes = |driver: &Driver| {
        driver.machine.pass(TAKES_NS);
        write(driver, COMMAND, 2);
    };
    assert_eq!(reset(2 * TAKES_NS, block, writes), ["R49"]);
    assert_eq!(reset(0, block, writes), [""; 0]);
}
