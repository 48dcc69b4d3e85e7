//! Firmware's tables of which a part cannot be honoured: what that costs, and whom (R66).

use cofferdam::CellConfig;
use cofferdam::iommu::{Error, Options, Refusal};
use cofferdam::limits::Limits;
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{dmar, endpoint, of_machine, scope};

use crate::audit::{INPUT, RW, assert_nothing_differs};

const MEMORY: u64 = 0x6000_0000;
/// Part of the table is lost, so that more devices may be on the machine than a unit blocks.
const ACCEPTED: Options = Options { accept_unblocked: true, ..TAKES_OVER };
const RESERVED: u64 = 0x7800_0000;

/// A front over a machine of one unit, switched on, with memory that is reserved for 00:03.0.
fn with_reserved(machine: &Machine, first: u64, last: u64) -> Front<&Machine> {
    let table = of_machine(machine, &[]).rmrr(0, first, last, &[endpoint(3, 0)]).table();
    let iommu = front_with_findings(machine, &table, TAKES_OVER, |_| ()).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// F1: a device reaches the page of reserved memory of one byte, and nothing beside it.
#[test]
fn reserved_memory_of_one_byte_is_reached() {
    let machine = machine([UnitConfig::server()]);
    let iommu = with_reserved(&machine, RESERVED, RESERVED);
    let device = function(0, 3);
    assert_eq!(iommu.device_info(device).unwrap().refusal, None);
    cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    assert!(write(&machine, device, RESERVED, 1) && write(&machine, device, RESERVED + PAGE - 8, 1));
    assert!(!write(&machine, device, RESERVED + PAGE, 1) && !write(&machine, device, RESERVED - 8, 1));
    assert_nothing_differs(&iommu, "one byte");
}

/// F1, I7: a device whose reserved memory ends before it starts, or holds a unit's registers, is given to no cell.
#[test]
fn a_device_whose_reserved_memory_is_lost_is_refused() {
    let device = function(0, 3);
    for class in [0x0106_0000, 0x0c03_3000] {
        let machine = machine([UnitConfig::server()]);
        machine.set_config(device, 0, 0x1234_8086);
        machine.set_config(device, 0x08, class);
        let registers = machine.windows()[0].base.as_u64();
        for (first, last) in [(RESERVED, RESERVED - 1), (registers, registers + PAGE - 1), (registers, registers)] {
            let iommu = with_reserved(&machine, first, last);
            let relaxable = class == 0x0c03_3000;
            let refusal = iommu.device_info(device).unwrap().refusal;
            assert_eq!(refusal, (!relaxable).then_some(Refusal::LostReserved), "a cell may leave it out");
            for leave_out_relaxable in [false, true] {
                let cell = iommu.create_cell(CellConfig { leave_out_relaxable, ..UNSAFE_INTERRUPTS }).unwrap();
                iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
                let assigned = iommu.assign(device, cell).map(drop);
                let refused = Error::Refused { device, reason: Refusal::LostReserved };
                assert_eq!(assigned, if relaxable && leave_out_relaxable { Ok(()) } else { Err(refused) });
                assert_eq!(write(&machine, device, INPUT, 1), assigned.is_ok());
                assert!(!write(&machine, device, registers, 1));
                iommu.assign(function(0, 4), cell).unwrap();
                assert_nothing_differs(&iommu, format_args!("{first:#x}"));
                iommu.destroy_cell(cell).unwrap();
            }
        }
    }
}

/// I14: a device that a scope of unknown kind may name is not given to a cell behind the wrong unit.
#[test]
fn a_device_of_an_unknown_scope_is_refused() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let [one, rest] = [0, 1].map(|unit| machine.windows()[unit]);
    let size = |bytes: u32| (bytes / 4096).ilog2() as u8;
    let named = [endpoint(4, 0), scope(6, 0, 0, &[(3, 0)])];
    let table = dmar()
        .set(37, 0)
        .sized_drhd(0, size(one.bytes), 0, one.base.as_u64(), &[scope(1, 0, 1, &[(0, 0)]), named[1].clone()])
        .sized_drhd(1, size(rest.bytes), 0, rest.base.as_u64(), &[])
        .table();
    let iommu = front_with_findings(&machine, &table, ACCEPTED, |_| ()).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), function(1, 0));
    let device = function(0, 3);
    let refused = Error::Refused { device, reason: Refusal::UncertainUnit };
    assert_eq!(iommu.assign(device, cell).map(drop), Err(refused));
    assert_eq!(iommu.device_info(device).unwrap().refusal, Some(Refusal::UncertainUnit));
    assert!(!write(&machine, device, INPUT, 1) && write(&machine, function(1, 0), INPUT, 1));
}

/// L7: a front has as many units as its user wants: 65 of them translate, each its own bus.
#[test]
fn a_front_has_more_than_64_units() {
    let units = (0..65_u8)
        .map(|unit| if unit == 64 { UnitConfig::server() } else { UnitConfig::server().serving(&[unit + 1]) });
    let machine = machine(units.collect::<Vec<_>>());
    let buses: Vec<[u8; 1]> = (1..65).map(|bus| [bus]).collect();
    let buses: Vec<&[u8]> = buses.iter().map(|bus| &bus[..]).collect();
    let limits = Limits { units: 65, scopes: 4096, ..Limits::DEFAULT };
    let iommu = limited_front(&machine, &of_machine(&machine, &buses).table(), &limits, TAKES_OVER);
    assert_eq!(iommu.units().count(), 65);
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    for bus in [1, 64, 0] {
        iommu.assign(function(bus, 3), cell).unwrap();
        assert!(write(&machine, function(bus, 3), INPUT, 1) && !write(&machine, function(bus, 4), INPUT, 1));
    }
    assert_nothing_differs(&iommu, "65 units");
}

/// L8: of more reserved memory or scopes than there is room for, the devices concerned are refused and all others assigned.
#[test]
fn what_has_no_room_costs_its_devices() {
    let machine = machine([UnitConfig::server()]);
    let devices = |first: u8| (first..first + 4).map(|device| endpoint(device, 0)).collect::<Vec<_>>();
    let table = of_machine(&machine, &[])
        .rmrr(0, RESERVED, RESERVED + PAGE - 1, &devices(0))
        .rmrr(0, RESERVED + PAGE, RESERVED + 2 * PAGE - 1, &devices(4))
        .rmrr(0, RESERVED + 2 * PAGE, RESERVED + 3 * PAGE - 1, &[scope(1, 0, 9, &[(1, 0)])])
        .table();
    for (limits, lost) in [
        (Limits { reserved: 1, ..Limits::DEFAULT }, Refusal::LostReserved),
        (Limits { scopes: 9, ..Limits::DEFAULT }, Refusal::UncertainUnit),
    ] {
        let iommu = empty_front(&machine, ACCEPTED);
        iommu.probe_acpi(memory(&limits).leak(), &limits, &table, |_| ()).unwrap();
        iommu.enable().unwrap();
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign(function(0, 1), cell).unwrap();
        assert!(write(&machine, function(0, 1), RESERVED, 1));
        let device = function(9, 1);
        assert_eq!(iommu.assign(device, cell).map(drop), Err(Error::Refused { device, reason: lost }));
        assert!(!write(&machine, device, RESERVED + 2 * PAGE, 1));
        iommu.assign(function(8, 1), cell).unwrap();
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
    }
}
