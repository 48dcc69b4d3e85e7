//! Virtual functions (SR-IOV) and extended functions (ARI): whose memory, whose group and whose cache is theirs, too.

use cofferdam::addr::SourceId;
use cofferdam::iommu::{Error, Refusal};
use cofferdam::topology::Isolation;
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{of_machine, scope};

use crate::groups::{CELL, alone, of};

const RESERVED: u64 = 0x7800_0000;
/// Access Control Services of a port, and what an endpoint of several functions has of it.
const ACS: u16 = 0x1d;
const REDIRECTS: u16 = 0x0c;
/// Where tests put the SR-IOV capability.
const SR_IOV: u16 = 0x240;

/// A port at 0:1.0 with bus 1 below, with or without ARI Forwarding Enable.
pub(crate) fn port(machine: &Machine, ari: bool) {
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 1..=1);
    machine.add_acs(of(0, 1, 0), ACS);
    machine.set_config(of(0, 1, 0), 0x68, u32::from(ari) << 5);
}

/// A physical function of a device with others, and so many virtual ones: the first is `first` numbers behind, every other
/// number is one.
pub(crate) fn physical(machine: &Machine, function: SourceId, acs: Option<u16>, count: u16, first: u32) {
    machine.add_express(function);
    machine.set_config(function, 0x0c, 1 << 23);
    acs.into_iter().for_each(|acs| machine.add_acs(function, acs));
    machine.add_extended(function, 0x10, SR_IOV);
    // VF Enable, and as many as there may be.
    for (at, value) in [(0x08, 1), (0x0c, u32::from(count) << 16), (0x10, count.into()), (0x14, 2 << 16 | first)] {
        machine.set_config(function, SR_IOV + at, value);
    }
}

/// I4: reserved memory is for the function that is listed, not for its virtual functions or those of its neighbour.
#[test]
fn reserved_memory_is_for_the_listed_function_alone() {
    for ari in [false, true] {
        let machine = machine([UnitConfig::server()]);
        port(&machine, ari);
        let physical_ones = [of(1, 0, 0), of(1, 0, 1)];
        physical_ones.iter().for_each(|it| physical(&machine, *it, Some(REDIRECTS), 2, 0x80));
        let listed = scope(1, 0, 0, &[(1, 0), (0, 0)]);
        let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + 0x1fff, &[listed]).table();
        let iommu = enabled_front(&machine, &table, Default::default());
        let all = [physical_ones[0], physical_ones[1], of(1, 0x10, 0), of(1, 0x10, 1), of(1, 0x10, 2)];
        for device in all {
            alone(&iommu, device).unwrap();
            assert_eq!(write(&machine, device, RESERVED, 1), device == all[0], "{device}, ARI: {ari}");
            assert_eq!(reserved(&iommu, device).len(), usize::from(device == all[0]), "{device}, ARI: {ari}");
        }
        crate::audit::assert_nothing_differs(&iommu, format_args!("ARI: {ari}"));
    }
}

/// I4: what lies behind a bridge that is listed has its memory, virtual functions among it.
#[test]
fn reserved_memory_of_a_bridge_is_for_all_behind_it() {
    let machine = machine([UnitConfig::server()]);
    port(&machine, true);
    physical(&machine, of(1, 0, 0), Some(REDIRECTS), 2, 0x80);
    let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + 0x1fff, &[scope(2, 0, 0, &[(1, 0)])]).table();
    let iommu = enabled_front(&machine, &table, Default::default());
    let cell = iommu.create_cell(CELL).unwrap();
    for device in [of(1, 0, 0), of(1, 0x10, 0)] {
        iommu.assign(device, cell).unwrap();
        assert!(write(&machine, device, RESERVED, 1), "{device}");
    }
}

/// F5: a device whose functions do not isolate has its virtual functions in its group, in whichever order they are assigned.
#[test]
fn virtual_functions_share_the_group_of_their_device() {
    for ari in [false, true] {
        for acs in [None, Some(REDIRECTS)] {
            let machine = machine([UnitConfig::server()]);
            port(&machine, ari);
            let [first, second] = [of(1, 0, 0), of(1, 0, 1)];
            // Numbers within the first eight, or beyond.
            physical(&machine, first, acs, 2, 2);
            physical(&machine, second, acs, 2, 0x7f);
            let [near, far] = [of(1, 0, 2), of(1, 0x10, 0)];
            let iommu = enabled(&machine);
            for (it, other, shares) in
                [(first, second, true), (first, near, true), (second, near, true), (first, far, ari), (near, far, ari)]
            {
                for (it, other) in [(it, other), (other, it)] {
                    let shares = acs.is_none() && shares;
                    let group = iommu.device_info(it).unwrap().group;
                    assert_eq!(group.contains(other), shares, "{it} with {other}, ARI: {ari}, {acs:?}");
                    let cell = alone(&iommu, it).unwrap();
                    let second = alone(&iommu, other);
                    assert_eq!(second.is_err(), shares, "{it}, then {other}, ARI: {ari}, {acs:?}");
                    for cell in second.into_iter().chain([cell]) {
                        iommu.destroy_cell(cell).unwrap();
                    }
                }
            }
        }
    }
}

/// F10: numbers of virtual functions that are not enabled are nobody's.
#[test]
fn virtual_functions_are_there_once_they_are_enabled() {
    let machine = machine([UnitConfig::server()]);
    port(&machine, true);
    physical(&machine, of(1, 0, 0), Some(REDIRECTS), 2, 0x80);
    let device = of(1, 0x10, 0);
    let iommu = enabled(&machine);
    for enabled in [false, true, false] {
        machine.set_config(of(1, 0, 0), SR_IOV + 8, enabled.into());
        let expected = if enabled { Isolation::AccessControl } else { Isolation::Unknown };
        assert_eq!(iommu.device_info(device).unwrap().group.isolation(), expected);
        match alone(&iommu, device) {
            Ok(cell) => {
                iommu.destroy_cell(cell).unwrap();
            }
            Err(error) => {
                assert_eq!((error, enabled), (Error::Refused { device, reason: Refusal::UnknownIsolation }, false))
            }
        }
    }
}

/// F4: what function 0 says of CXL.cache holds for all functions of its device, unless its map excludes them.
#[test]
fn function_0_says_for_its_device_that_it_caches_memory() {
    const DEVICE: u16 = 0x200;
    const MAP: u16 = 0x280;
    for ari in [false, true] {
        let machine = machine([UnitConfig::server()]);
        port(&machine, ari);
        let all = [of(1, 0, 0), of(1, 0, 1), of(1, 0, 2), of(1, 5, 0)];
        for function in all {
            machine.add_express(function);
            machine.set_config(function, 0x0c, 1 << 23);
        }
        machine.add_extended(all[0], 0x23, DEVICE);
        machine.set_config(all[0], DEVICE + 4, 0x03c0_1e98);
        machine.set_config(all[0], DEVICE + 8, 1 << 16);
        machine.add_extended(all[0], 0x23, MAP);
        machine.set_config(all[0], MAP + 4, 0x02c0_1e98);
        machine.set_config(all[0], MAP + 8, 2);
        // Function 2 is excluded: by its number, or as the second of device 0.
        let (register, bit) = if ari { (0, 2) } else { (2, 0) };
        machine.set_config(all[0], MAP + 0x0c + 4 * register, 1 << bit);
        let iommu = enabled(&machine);
        let needs = all.map(|function| iommu.device_info(function).unwrap().needs_device_tlb);
        assert_eq!(needs, [true, true, false, ari], "ARI: {ari}");
        let refused = Error::Refused { device: all[1], reason: Refusal::NeedsDeviceTlb };
        assert_eq!(alone(&iommu, all[1]).unwrap_err(), refused);
    }
}
