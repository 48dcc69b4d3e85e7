//! Edits of one change that are about several cells: no two of them are given what only one may have, and what a cell
//! loses by the change stands in nobody's way.

use cofferdam::addr::SourceId;
use cofferdam::interrupt::{CpuSet, InterruptTargets, Route, Source, VectorSet};
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options, Owner, Refusal};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{BridgeKind, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::{dmar, endpoint, ioapic, of_machine, scope};
use cofferdam_support::watched::Watched;

use crate::audit::{INPUT, RW, assert_nothing_differs};
use crate::groups::{functions, of};
use crate::interrupts::{CONFIG, messages};

const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x8000_0000;
const SHARES_RESERVED: CellConfig = CellConfig { allow_shared_reserved: true, ..UNSAFE_INTERRUPTS };
/// The third of the functions of which an HPET may use any, and a timer of it.
const FUNCTION: SourceId = SourceId::from_requester(0, 0xf07e);
const TIMER: Source = Source::Timer { hpet: 0, timer: 1 };
const HERE: Route = Route::to(2, 0x41);

/// The same memory for two cells, unless both share it.
#[test]
fn two_cells_are_not_given_the_same_memory() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let cells = [3, 4]
        .map(|device| cell_with(&iommu, region(0, MEMORY + u64::from(device) * LARGE, PAGE, RW), function(0, device)));
    let [whole, part] = [region(INPUT, MEMORY, 4 * PAGE, RW), region(INPUT, MEMORY + 3 * PAGE, 2 * PAGE, RW)];
    let map = |cell, region, shared| if shared { Edit::MapShared(cell, region) } else { Edit::Map(cell, region) };
    for (first, second) in [(false, false), (false, true), (true, false), (true, true)] {
        for [one, two] in [cells, [cells[1], cells[0]]] {
            let result = iommu.commit(&[map(one, whole, first), map(two, part, second)]).map(drop);
            if first && second {
                assert_eq!(result, Ok(()));
                iommu.commit(&[Edit::Unmap(one, whole.input), Edit::Unmap(two, part.input)]).unwrap();
                continue;
            }
            let Err(Error::Owned { memory, owner: Owner::Cell(owner) }) = result else { panic!("{result:?}") };
            assert!(memory == outputs(MEMORY + 3 * PAGE, PAGE) && cells.contains(&owner), "{first}, {second}");
            assert!(!write(&machine, function(0, 3), INPUT, 1) && !write(&machine, function(0, 4), INPUT, 1));
        }
    }
}

fn with_reserved<'m>(machine: &'m Machine, devices: &[u8]) -> Front<&'m Machine> {
    let scopes: Vec<_> = devices.iter().map(|device| endpoint(*device, 0)).collect();
    let table = of_machine(machine, &[]).rmrr(0, RESERVED, RESERVED + 0xfff, &scopes);
    enabled_front(machine, &table.table(), Options::default())
}

/// Memory that firmware reserves for a device is free in the change by which the device leaves, unless another keeps
/// it.
#[test]
fn reserved_memory_is_free_with_the_last_device_that_it_is_for() {
    for last in [true, false] {
        let machine = machine([UnitConfig::server()]);
        let iommu = with_reserved(&machine, &[3, 4]);
        let [cell, other] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
        let page = region(INPUT, RESERVED, PAGE, RW);
        iommu.assign(function(0, 5), other).unwrap();
        iommu.assign(function(0, 3), cell).unwrap();
        if !last {
            iommu.assign(function(0, 4), cell).unwrap();
        }
        let result = iommu.commit(&[Edit::Release(function(0, 3)), Edit::Map(other, page)]).map(drop);
        let owner = Owner::Reserved { device: function(0, 4), cell };
        let owned = Err(Error::Owned { memory: outputs(RESERVED, PAGE), owner });
        assert_eq!(result, if last { Ok(()) } else { owned });
        assert_eq!(write(&machine, function(0, 5), INPUT, 1), last);
        assert_nothing_differs(&iommu, "after the change");
    }
}

/// Memory that firmware reserves for a device of a cell that allows others to share it: they can, whoever comes first.
#[test]
fn reserved_memory_that_may_be_shared_can_be_mapped_later() {
    let machine = machine([UnitConfig::server()]);
    let iommu = with_reserved(&machine, &[3]);
    let page = region(INPUT, RESERVED, PAGE, RW);
    let owner = iommu.create_cell(SHARES_RESERVED).unwrap();
    iommu.assign(function(0, 3), owner).unwrap();
    let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.assign(function(0, 4), other).unwrap();
    let owned = Error::Owned {
        memory: outputs(RESERVED, PAGE),
        owner: Owner::Reserved { device: function(0, 3), cell: owner },
    };
    assert_eq!(iommu.map(other, page), Err(owned));
    iommu.map_shared(other, page).unwrap();
    assert!(write(&machine, function(0, 3), RESERVED, 3) && read(&machine, function(0, 4), INPUT) == Some(3));
    assert_nothing_differs(&iommu, "shared");
}

/// What is withheld for a cell is free in the change that destroys the cell, since its devices are gone before anything
/// is granted.
#[test]
fn what_is_withheld_is_free_with_its_cell() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let memory = region(INPUT, MEMORY, PAGE, RW);
    let cell = cell_with(&iommu, memory, function(1, 3));
    let other = cell_with(&iommu, region(INPUT + LARGE, MEMORY + LARGE, PAGE, RW), function(0, 4));
    assert!(write(&machine, function(1, 3), INPUT, 1));
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    iommu.unmap(cell, memory.input).unwrap_err();
    machine.mend_unit(0);
    let withheld = Error::Owned { memory: outputs(MEMORY, PAGE), owner: Owner::Withheld(cell) };
    assert_eq!(iommu.map(other, memory).map(drop), Err(withheld));
    iommu.commit(&[Edit::Destroy(cell), Edit::Map(other, memory)]).unwrap();
    assert!(!write(&machine, function(1, 3), INPUT, 2) && write(&machine, function(0, 4), INPUT, 3));
    assert_nothing_differs(&iommu, "it is the other's");
    machine.check();
}

/// A device that leaves takes the windows of its bridges along: its cell may have memory there by the same change.
#[test]
fn windows_are_free_with_the_device_that_does_not_pass_them() {
    const WINDOW: u64 = 0x9000_0000;
    let machine = machine([UnitConfig::server()]);
    let (port, device) = (of(0, 1, 0), of(1, 0, 0));
    machine.add_bridge(port, BridgeKind::Conventional, 1..=1);
    machine.set_windows(port, (WINDOW, WINDOW + 0xf_ffff), (0x10_0000, 0));
    machine.add_express(device);
    let iommu = enabled(&machine);
    let cell = cell_with(&iommu, region(INPUT, MEMORY, PAGE, RW), device);
    assert!(!windows(&iommu, device).is_empty());
    let there = Edit::Map(cell, region(WINDOW, MEMORY + PAGE, PAGE, RW));
    assert!(matches!(iommu.commit(&[there]), Err(Error::Window(_))));
    iommu.commit(&[Edit::Release(device), there]).unwrap();
    iommu.assign(function(0, 4), cell).unwrap();
    assert!(write(&machine, function(0, 4), WINDOW, 1));
}

/// A cell with a timer that goes to CPU 2, and another that may have CPU 6.
fn with_timer<H: cofferdam::hal::Hal>(hal: H, machine: &Machine) -> (Front<H>, [CellId; 2]) {
    let hpet = |function| scope(4, 0, 0xf0, &[(15, function)]);
    let scopes = [ioapic(0), hpet(0), hpet(3)];
    let table = dmar().set(37, 1).drhd(1, 0, machine.windows()[0].base.as_u64(), &scopes).table();
    let iommu = front(hal, &table, Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let targets = InterruptTargets { cpus: CpuSet::NONE.with(6, 6), vectors: VectorSet::ALL, flat_ids: 0 };
    let cells = [CONFIG, CellConfig { interrupts: targets, ..CONFIG }].map(|config| iommu.create_cell(config).unwrap());
    iommu.route(cells[0], TIMER, HERE).unwrap();
    (iommu, cells)
}

/// A device that could send what another cell has is refused whatever else the change does with that cell, unless what
/// it could send goes by the same change.
#[test]
fn who_could_send_an_interrupt_of_another_cell_comes_when_that_is_gone() {
    let machine = machine([UnitConfig::server()]);
    let (iommu, [cell, other]) = with_timer(&machine, &machine);
    let assign = Edit::Assign(FUNCTION, other, DeviceConfig::default());
    let refused = Err(Error::Refused { device: FUNCTION, reason: Refusal::SharesInterrupts(None) });
    let more = Edit::Map(cell, region(INPUT, MEMORY, PAGE, RW));
    assert_eq!(iommu.commit(&[more, assign]).map(drop), refused);
    assert_eq!(iommu.commit(&[assign, more]).map(drop), refused);
    iommu.commit(&[Edit::Unroute(cell, TIMER), assign]).unwrap();
    assert_nothing_differs(&iommu, "it is gone");
}

/// What goes by a change of another CPU that waits for the unit is not gone yet.
#[test]
fn who_could_send_an_interrupt_that_is_about_to_go_is_refused() {
    let (machine, stop) = (machine([UnitConfig::server()]), Stop::new());
    let hal = Watched::shared(&machine, stop.looks());
    let (iommu, [cell, other]) = with_timer(&hal, &machine);
    let unrouted = stop.meanwhile(
        || iommu.unroute(cell, TIMER),
        || {
            let refused = Error::Refused { device: FUNCTION, reason: Refusal::SharesInterrupts(None) };
            assert_eq!(iommu.assign(FUNCTION, other).map(drop), Err(refused));
        },
    );
    unrouted.unwrap();
    iommu.assign(FUNCTION, other).unwrap();
}

/// A device whose entries take all functions, since it sends in the names of two, is refused while another cell has a
/// third.
#[test]
fn who_has_entries_that_take_a_function_of_another_cell_is_refused() {
    let machine = machine([UnitConfig::server()]);
    let [sata, third] = [of(0, 3, 0), of(0, 3, 2)];
    functions(&machine, &[sata, third], Some(0x0c));
    // It has the id of function 1, too.
    machine.set_config(sata, 0, 0x9123_1b4b);
    let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let [cell, other] = [(); 2].map(|()| iommu.create_cell(CONFIG).unwrap());
    iommu.assign(third, other).unwrap();
    let refused = Error::Refused { device: sata, reason: Refusal::SharesInterrupts(Some(third)) };
    assert_eq!(iommu.assign_with(sata, cell, messages(1)).map(drop), Err(refused));
    iommu.assign(sata, cell).unwrap();
    iommu.release(sata).unwrap();
    let edits = [Edit::Release(third), Edit::Assign(sata, cell, messages(1))];
    iommu.commit(&edits).unwrap();
    let refused = Error::Refused { device: third, reason: Refusal::SharesInterrupts(None) };
    assert_eq!(iommu.assign(third, other).map(drop), Err(refused));
}

/// What a cell gets by a change goes with the cell; what another gets, does not.
#[test]
fn a_cell_that_is_destroyed_takes_its_own_with_it_and_nothing_else() {
    let machine = machine([UnitConfig::server()]);
    let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let [goes, stays] = [(); 2].map(|()| iommu.create_cell(CONFIG).unwrap());
    let [own, theirs, had] = [3, 4, 5].map(|device| function(0, device));
    let pin = |pin| Source::Pin { io_apic: 0, pin };
    iommu.assign(had, stays).unwrap();
    iommu.commit(&[Edit::Map(stays, region(INPUT, MEMORY, PAGE, RW)), Edit::Route(stays, pin(1), HERE)]).unwrap();
    let edits = [
        Edit::Assign(own, goes, DeviceConfig::default()),
        Edit::Assign(theirs, stays, DeviceConfig::default()),
        Edit::Route(goes, pin(2), HERE),
        Edit::Route(stays, pin(3), HERE),
        Edit::Destroy(goes),
    ];
    iommu.commit(&edits).unwrap();
    let mut left = Vec::new();
    iommu.assigned(|it| left.push((it.device, it.cell))).unwrap();
    assert_eq!(left, [(had, stays), (theirs, stays)]);
    let mut routed = Vec::new();
    iommu.routes(|it| routed.push((it.source, it.cell))).unwrap();
    assert_eq!(routed, [(pin(1), stays), (pin(3), stays)]);
    let reach = [own, theirs, had].map(|device| write(&machine, device, INPUT, 1));
    assert_eq!(reach, [false, true, true]);
    assert_nothing_differs(&iommu, "after the change");
    iommu.commit(&[Edit::Unroute(stays, pin(1)), Edit::Unroute(stays, pin(3))]).unwrap();
    assert_eq!(iommu.create_cell(CONFIG).map(|cell| iommu.route(cell, pin(2), HERE).is_ok()), Ok(true), "free again");
}

/// Of a device that comes, goes and comes, each edit is about what the one before it left.
#[test]
fn a_release_is_about_one_device_and_what_came_before() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let [cell, other] = [(); 2].map(|()| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    iommu.map(other, region(INPUT, MEMORY + PAGE, PAGE, RW)).unwrap();
    let [one, two] = [3, 4].map(|device| function(0, device));
    let assign = |device, cell| Edit::Assign(device, cell, DeviceConfig::default());
    let reach = || [one, two].map(|device| write(&machine, device, INPUT, 1));
    iommu.commit(&[assign(one, cell), assign(two, cell), Edit::Release(one)]).unwrap();
    assert_eq!(reach(), [false, true]);
    iommu.commit(&[Edit::Release(two), assign(two, other), assign(one, other), Edit::Release(two)]).unwrap();
    assert_eq!(reach(), [true, false], "it left its cell, and did not stay in the other");
    assert_nothing_differs(&iommu, "after the changes");
    let twice = iommu.commit(&[Edit::Release(one), Edit::Release(one)]).map(drop);
    assert_eq!(twice, Err(Error::NotAssigned(one)));
    assert_eq!(reach(), [true, false], "nothing changed");
    iommu.commit(&[Edit::Release(one)]).unwrap();
    assert_eq!(reach(), [false, false]);
    machine.settle();
    machine.check();
}
