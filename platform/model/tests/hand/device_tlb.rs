//! Devices that cache translations themselves: sections 3 and 4 of the rules where they speak of device-TLBs.

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam_model::{Answer, Fault, Reason, UnitConfig};

use crate::driver::*;

const INPUT: u64 = 0x4000_0000;
const OUTPUT: u64 = 0x8000_0000;

fn device_tlb(source: u16, address: u64) -> [u64; 2] {
    [0x3 | u64::from(source) << 32, address]
}

fn device_tlb_global(source: u16) -> [u64; 2] {
    [0x3 | u64::from(source) << 32, 0x7fff_ffff_ffff_f001]
}

fn ats_reads(driver: &Driver, address: u64) -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    driver.machine.ats_read(device(), Iova::new(address), &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A device whose context entry lets its device-TLB in, with one page cached there.
fn trusted() -> (Driver, PhysAddr, Vec<PhysAddr>) {
    let mut driver = Driver::up(UnitConfig::server());
    let contexts = driver.context_table();
    let tables = driver.map_one(4, INPUT, OUTPUT);
    driver.set_context(contexts, DEVICE, tables[0] + 4, 4, DOMAIN);
    driver.submit(&[]);
    driver.machine.poke(PhysAddr::new(OUTPUT), &7_u64.to_le_bytes());
    assert_eq!(ats_reads(&driver, INPUT), Ok(7));
    assert_eq!(ats_reads(&driver, INPUT + 0x1000).unwrap_err().reason, Reason::NotReadable);
    driver.machine.settle();
    assert_eq!(driver.rules(), [""; 0]);
    (driver, contexts, tables)
}

#[test]
fn a_page_stays_in_the_device_until_it_is_invalidated_there() {
    let (mut driver, _, tables) = trusted();
    driver.publish(tables[3], 0);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
    assert_eq!(ats_reads(&driver, INPUT), Ok(7));
    driver.machine.settle();
    assert_eq!(driver.rules(), ["R31"]);
    driver.submit(&[device_tlb(DEVICE, INPUT)]);
    assert!(ats_reads(&driver, INPUT).is_err());
    driver.machine.check();
}

/// Switches ATS on or off in a device that has the capability.
fn switch(driver: &Driver, source: SourceId, on: bool) {
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { driver.machine.config_write(source, 0x144, u32::from(on) << 31) };
}

#[test]
fn ats_is_switched_on_only_when_the_context_entry_allows_it() {
    let (mut driver, contexts, tables) = trusted();
    driver.machine.add_ats(device(), 32);
    let other = SourceId::from_requester(0, DEVICE + 8);
    driver.machine.add_ats(other, 32);
    switch(&driver, device(), true);
    assert_eq!(driver.rules(), [""; 0]);
    switch(&driver, other, true);
    assert_eq!(driver.rules(), ["R47"]);
    driver.set_context(contexts, DEVICE + 8, tables[0], 4, DOMAIN);
    driver.submit(&[]);
    switch(&driver, other, false);
    switch(&driver, other, true);
    assert_eq!(driver.rules(), ["R47"], "an entry, but none that allows it");
    driver.machine.abandon();
}

#[test]
fn ats_is_off_and_flushed_before_the_context_entry_blocks() {
    let blocked = |steps: &dyn Fn(&mut Driver)| {
        let (mut driver, contexts, _) = trusted();
        driver.machine.add_ats(device(), 32);
        switch(&driver, device(), true);
        steps(&mut driver);
        driver.publish(contexts + u64::from(DEVICE) * 16, 0);
        driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN), device_tlb_global(DEVICE)]);
        driver.rules()
    };
    assert_eq!(blocked(&|_| ()), ["R47"]);
    assert_eq!(blocked(&|driver| switch(driver, device(), false)), ["R47"], "it is not emptied");
    let empty = |driver: &mut Driver| assert!(driver.submit(&[device_tlb_global(DEVICE)]));
    assert_eq!(blocked(&|driver| empty(driver)), ["R47"], "it is not off");
    let in_order = blocked(&|driver| {
        switch(driver, device(), false);
        empty(driver);
    });
    assert_eq!(in_order, [""; 0]);
}

#[test]
fn a_device_whose_ats_is_off_sends_untranslated_requests() {
    let (mut driver, _, tables) = trusted();
    driver.machine.add_ats(device(), 32);
    driver.publish(tables[3], 0);
    driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true)]);
    assert_eq!(ats_reads(&driver, INPUT).unwrap_err().reason, Reason::NotReadable);
    switch(&driver, device(), true);
    assert_eq!(ats_reads(&driver, INPUT), Ok(7), "what it still has");
    driver.submit(&[device_tlb(DEVICE, INPUT)]);
    driver.machine.check();
}

#[test]
fn the_iotlb_is_invalidated_before_the_device() {
    let (mut driver, _, tables) = trusted();
    driver.publish(tables[3], 0);
    driver.submit(&[device_tlb(DEVICE, INPUT), iotlb_pages(DOMAIN, INPUT, 0, true)]);
    assert_eq!(driver.rules(), ["R24"]);
    driver.submit(&[device_tlb_global(DEVICE)]);
    driver.machine.check();
    let mut driver = Driver::new(UnitConfig::server());
    driver.start_queue();
    driver.submit(&[device_tlb_global(DEVICE)]);
    assert_eq!(driver.rules(), ["R24"]);
}

#[test]
fn a_device_that_is_not_trusted_is_blocked_and_recorded() {
    let (driver, contexts, tables) = trusted();
    driver.set_context(contexts, DEVICE + 8, tables[0], 4, DOMAIN);
    let other = SourceId::from_requester(0, DEVICE + 8);
    let refused = driver.machine.ats_write(other, Iova::new(INPUT), &[0]).unwrap_err();
    assert_eq!(refused.reason, Reason::TranslatedBlocked);
    assert_eq!(driver.read(FSTS) & 2, 2);
}

#[test]
fn a_device_that_is_released_is_emptied() {
    let (mut driver, contexts, _) = trusted();
    driver.publish(contexts + u64::from(DEVICE) * 16, 0);
    driver.submit(&[context_device(DEVICE, DOMAIN), iotlb_domain(DOMAIN)]);
    assert_eq!(ats_reads(&driver, INPUT).unwrap_err().reason, Reason::ContextNotPresent);
    driver.machine.settle();
    assert_eq!(driver.rules(), ["R33"]);
    driver.submit(&[device_tlb_global(DEVICE)]);
    driver.machine.check();
}

#[test]
fn all_of_a_device_tlb_is_named_with_bit_63_clear() {
    let (mut driver, ..) = trusted();
    driver.submit(&[[0x3 | u64::from(DEVICE) << 32, 0xffff_ffff_ffff_f001]]);
    assert_eq!(driver.rules(), ["R34"]);
}

#[test]
fn a_device_gets_no_more_invalidations_than_it_takes() {
    let (mut driver, ..) = trusted();
    driver.machine.set_device_tlb(device(), Answer::After(5_000), 4);
    driver.submit(&[device_tlb(DEVICE, INPUT); 4]);
    assert_eq!(driver.rules(), [""; 0]);
    driver.submit(&[device_tlb(DEVICE, INPUT); 5]);
    assert_eq!(driver.rules(), ["R23"]);
}

#[test]
fn a_fence_gives_a_device_time_and_a_plain_wait_does_not() {
    let (mut driver, ..) = trusted();
    driver.machine.set_device_tlb(device(), Answer::After(5_000), 4);
    // A wait that stores nothing; FN is bit 6.
    for (wait, rules) in [([0x5 | 1 << 6, 0], vec![]), ([0x5, 0], vec!["R23"])] {
        let four = [device_tlb(DEVICE, INPUT); 4];
        driver.submit(&[&four[..], &[wait], &four[..], &[wait], &four[..]].concat());
        let mut found = driver.rules();
        found.dedup();
        assert_eq!(found, rules);
        while !driver.submit(&[]) {}
    }
}

#[test]
fn an_unresponsive_device_stops_the_queue_and_drops_waits() {
    let (mut driver, _, tables) = trusted();
    driver.publish(tables[3], 0);
    driver.machine.set_device_tlb(device(), Answer::Never, 32);
    assert!(!driver.submit(&[iotlb_pages(DOMAIN, INPUT, 0, true), device_tlb(DEVICE, INPUT)]));
    assert!((0..20).any(|_| driver.poll(|| driver.read(FSTS) & 0x40 != 0)));
    assert_eq!(driver.read64(0xb0) >> 32, u64::from(DEVICE), "ITESID");
    assert!(!driver.submit(&[]), "nothing is fetched");
    assert_eq!(driver.load(driver.status), 2, "the wait of before is gone");
    driver.machine.set_device_tlb(device(), Answer::After(100), 32);
    driver.write(FSTS, 0x40);
    assert!(driver.poll(|| driver.load(driver.status) == 4), "the wait behind it");
    driver.machine.settle();
    assert_eq!(driver.rules(), ["R31"], "and the first invalidation was lost");
    driver.submit(&[device_tlb(DEVICE, INPUT)]);
    driver.machine.check();
}

#[test]
fn an_answer_to_nothing_is_an_error_that_stops_nothing() {
    let (mut driver, ..) = trusted();
    driver.machine.set_device_tlb(device(), Answer::Twice, 32);
    assert!(driver.submit(&[device_tlb(DEVICE, INPUT)]));
    assert_eq!(driver.read(FSTS), 0x20);
    assert_eq!(driver.read64(0xb0) >> 48, u64::from(DEVICE), "ICESID");
    driver.write(FSTS, 0x20);
    assert_eq!(driver.read(FSTS), 0);
}

#[test]
fn the_size_of_an_invalidation_is_coded_in_its_address() {
    let left = |address: u64| {
        let (mut driver, _, tables) = trusted();
        for page in 1..8 {
            driver.publish(tables[3] + page * 8, (OUTPUT + page * 4096) | RW);
            assert!(ats_reads(&driver, INPUT + page * 4096).is_ok());
        }
        for page in 0..8 {
            driver.publish(tables[3] + page * 8, 0);
        }
        driver.submit(&[iotlb_domain(DOMAIN), device_tlb(DEVICE, address)]);
        let left: Vec<u64> = (0..8).filter(|page| ats_reads(&driver, INPUT + page * 4096).is_ok()).collect();
        driver.machine.abandon();
        left
    };
    assert_eq!(left(INPUT + 0x2000), [0, 1, 3, 4, 5, 6, 7]);
    assert_eq!(left((INPUT + 0x2000) | 1), [0, 1, 4, 5, 6, 7], "8 KiB");
    assert_eq!(left((INPUT + 0x5000) | 1), [0, 1, 2, 3], "16 KiB");
    assert_eq!(left(0x7fff_ffff_ffff_f001), [0; 0]);
}
