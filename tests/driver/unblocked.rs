//! Devices that no unit blocks.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::addr::{Rights, SourceId};
use cofferdam::error::UnitError;
use cofferdam::iommu::{Difference, Error, Options, UnitState};
use cofferdam::{CellConfig, ResetPolicy};
use cofferdam_model::{Defect, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{dmar, endpoint, of_machine};
use cofferdam_support::watched::{Call, Watched};

thread_local! {
    /// This thread looks at functions.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

const ACCEPTS: Options = Options { accept_unblocked: true, ..Options::DEFAULT };

/// A machine whose only unit serves 00:03.0.
fn for_one_function() -> Machine {
    machine([UnitConfig::server().serving_functions(&[(0, 3 << 3)])])
}

/// Its table: nothing takes the rest.
fn table_for_one(machine: &Machine) -> Vec<u8> {
    dmar().set(37, 0).drhd(0, 0, machine.windows()[0].base.as_u64(), &[endpoint(3, 0)]).table()
}

fn unblocked(iommu: &Front<&Machine>) -> (Vec<SourceId>, cofferdam::iommu::Unblocked) {
    let mut functions = Vec::new();
    let found = iommu.unblocked(&mut |function| functions.push(function)).unwrap();
    assert_eq!(usize::from(found.functions.count()), functions.len());
    (functions, found)
}

/// I5: where no unit takes what the table does not list, `enable` is no success: it names what is left, and all else is
/// blocked. The audit names each of these devices.
#[test]
fn what_no_unit_serves_is_told_and_not_accepted() {
    let machine = for_one_function();
    let (named, others) = (function(0, 3), [function(0, 2), function(0, 4), function(9, 0)]);
    [named].iter().chain(&others).for_each(|device| machine.add_express(*device));
    let table = table_for_one(&machine);
    let iommu = front_with_findings(&machine, &table, Options::DEFAULT, |_| ()).unwrap();
    let Err(Error::Unblocked(told)) = iommu.enable() else { panic!() };
    assert_eq!((told.units, told.open_segment, told.table_incomplete), (0, Some(0), false));
    assert!(told.functions.first().eq(others));
    assert_eq!(states(&iommu), [UnitState::On]);
    assert!(!write(&machine, named, 0x1000, 1) && others.iter().all(|it| write(&machine, *it, 0x1000, 1)));
    assert_eq!(unblocked(&iommu), (others.to_vec(), told));
    let mut found = Vec::new();
    iommu.audit(|difference| found.push(difference)).unwrap();
    assert_eq!(found, others.map(|source| Difference::Unserved { source }));
    // What is served can be used.
    let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), named);
    assert!(write(&machine, named, 0, 1));
    assert_eq!(iommu.assign(others[0], cell), Err(Error::NoSuchDevice(others[0])));
}

/// I5: where configuration space shows no function of such a segment, nobody knows what is there: that is no success either.
#[test]
fn an_open_segment_that_shows_nothing_is_not_accepted() {
    let machine = for_one_function();
    let iommu = front_with_findings(&machine, &table_for_one(&machine), Options::DEFAULT, |_| ()).unwrap();
    let Err(Error::Unblocked(told)) = iommu.enable() else { panic!() };
    assert_eq!((told.units, told.functions.count(), told.open_segment, told.table_incomplete), (0, 0, Some(0), false));
    assert_eq!((states(&iommu), unblocked(&iommu)), (vec![UnitState::On], (vec![], told)));
    assert!(!write(&machine, function(0, 3), 0x1000, 1) && write(&machine, function(0, 4), 0x1000, 1));
}

/// Each function is named once, in whichever order the table has the units of segments.
#[test]
fn a_segment_is_looked_at_once_wherever_its_units_stand() {
    let units = [UnitConfig::server().serving(&[1]), UnitConfig::server().in_segment(1), UnitConfig::server()];
    let machine = machine(units);
    let all = [(0, 1), (0, 2), (1, 2)].map(|(segment, bus)| SourceId::new(segment, bus, 0, 0).unwrap());
    all.iter().for_each(|device| machine.add_express(*device));
    let iommu = discover(&machine, &[&[1]]).unwrap();
    let (mut functions, found) = unblocked(&iommu);
    functions.sort();
    assert_eq!((functions, found.units), (all.to_vec(), 3));
}

/// I5: an option accepts it, by name, and the result says what is accepted.
#[test]
fn what_no_unit_serves_can_be_accepted() {
    let machine = for_one_function();
    machine.add_express(function(0, 4));
    let table = table_for_one(&machine);
    let iommu = front_with_findings(&machine, &table, ACCEPTS, |_| ()).unwrap();
    let accepted = iommu.enable().unwrap();
    assert!(accepted.functions.first().eq([function(0, 4)]));
    assert_eq!(accepted.to_string(), "not blocked: 0000:00:04.0; what the firmware's table does not list in segment 0");
}

/// I5: a unit at address 0 cannot be used, and what it serves is told, as on a machine whose unit for all the rest is there.
#[test]
fn what_an_unusable_unit_was_to_serve_is_told() {
    let machine = for_one_function();
    machine.add_express(function(0, 4));
    let base = machine.windows()[0].base.as_u64();
    let table = dmar().set(37, 0).drhd(0, 0, base, &[endpoint(3, 0)]).drhd(1, 0, 0, &[]).table();
    let iommu = front_with_findings(&machine, &table, Options::DEFAULT, |_| ()).unwrap();
    let Err(Error::Unblocked(told)) = iommu.enable() else { panic!() };
    assert!(told.open_segment == Some(0) && told.functions.first().eq([function(0, 4)]), "{told}");
}

/// I5: a table of which a part was lost leaves devices uncertain, which is told.
#[test]
fn a_table_that_lost_a_part_is_not_accepted() {
    let machine = machine([UnitConfig::server()]);
    let table = of_machine(&machine, &[]).structure(0, &[0; 4]).table();
    let iommu = front_with_findings(&machine, &table, Options::DEFAULT, |_| ()).unwrap();
    let Err(Error::Unblocked(told)) = iommu.enable() else { panic!() };
    assert!(told.table_incomplete && told.functions.count() == 0 && told.open_segment.is_none());
    assert_eq!(states(&iommu), [UnitState::On]);
}

/// I5: functions behind a unit that is not on are among what is not blocked; a unit error comes first, unless accepted.
#[test]
fn what_a_failed_unit_serves_is_told() {
    for options in [Options::DEFAULT, ACCEPTS] {
        let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
        [function(1, 3), function(0, 3)].iter().for_each(|device| machine.add_express(*device));
        machine.break_unit(0, Defect::AllOnes);
        let iommu = front(&machine, &of_machine(&machine, &[&[1]]).table(), options).unwrap();
        let enabled = iommu.enable();
        let (functions, found) = unblocked(&iommu);
        assert_eq!((functions, found.units, found.open_segment), (vec![function(1, 3)], 1, None));
        match enabled {
            Ok(accepted) => assert!(options.accept_unblocked && accepted == found),
            Err(Error::Unit(UnitError::Dead { .. })) => assert!(!options.accept_unblocked),
            Err(other) => panic!("{other}"),
        }
    }
}

/// I5: where a unit of each segment takes the rest, and all are on, nothing is left, and no function is looked at.
#[test]
fn nothing_is_left_where_units_take_the_rest() {
    for (name, units) in boards() {
        let machine = machine(units);
        machine.add_express(function(0, 3));
        let iommu = discover(&machine, &[]).unwrap();
        assert_eq!(unblocked(&iommu).0.len(), 1, "{name}: before");
        assert!(iommu.enable().unwrap().is_nothing(), "{name}");
        assert_eq!(unblocked(&iommu).0, [], "{name}");
        iommu.audit(|difference| panic!("{name}: {difference}")).unwrap();
    }
}

/// Where units of two segments take no rest, the functions of both are named, and the first of the segments; where units of one
/// do, the other is named.
#[test]
fn what_is_not_blocked_is_told_of_each_segment() {
    for open in [&[0, 1][..], &[0], &[1]] {
        let machine = machine([0, 1].map(|segment| {
            let all = UnitConfig::server().in_segment(segment);
            if open.contains(&segment) { all.serving_functions(&[(0, 3 << 3)]) } else { all }
        }));
        let both = |device| [0, 1].map(|segment| SourceId::new(segment, 0, device, 0).unwrap());
        for device in [3, 4, 5] {
            both(device).iter().for_each(|it| machine.add_express(*it));
        }
        let table = [0, 1].into_iter().fold(dmar().set(37, 0), |table, segment: u16| {
            let base = machine.windows()[usize::from(segment)].base.as_u64();
            let named: &[_] = if open.contains(&segment) { &[endpoint(3, 0)] } else { &[] };
            table.drhd(u8::from(named.is_empty()), segment, base, named)
        });
        let iommu = front_with_findings(&machine, &table.table(), ACCEPTS, |_| ()).unwrap();
        let whole = (0..2).flat_map(|segment| [3, 4, 5].map(|device| both(device)[segment])).collect::<Vec<_>>();
        assert_eq!((unblocked(&iommu).0, unblocked(&iommu).1.units), (whole, 2), "{open:?}: before");
        let accepted = iommu.enable().unwrap();
        let left = open.iter().flat_map(|segment| [4, 5].map(|device| both(device)[usize::from(*segment)]));
        let left = left.collect::<Vec<_>>();
        assert_eq!(unblocked(&iommu), (left.clone(), accepted), "{open:?}");
        assert_eq!((accepted.units, accepted.open_segment), (0, Some(open[0])), "{open:?}");
        let mut found = Vec::new();
        iommu.audit(|difference| found.push(difference)).unwrap();
        assert_eq!(found, left.iter().map(|&source| Difference::Unserved { source }).collect::<Vec<_>>(), "{open:?}");
    }
}

/// No device is reset while all functions are looked at for those that no unit blocks.
#[test]
fn no_reset_begins_while_functions_are_looked_at() {
    let (machine, has_begun) = (for_one_function(), AtomicBool::new(false));
    let (named, other) = (function(0, 3), function(0, 4));
    [named, other].iter().for_each(|device| machine.add_express(*device));
    machine.add_reset(named, Reset::Express, 1000);
    let look = |call, machine: &Machine| {
        if call == Call::ConfigRead && LOOKS.get() && !has_begun.swap(true, Ordering::SeqCst) {
            // The other CPU's time, if it may do anything.
            let start = Instant::now();
            while machine.resets(named) == 0 && start.elapsed() < Duration::from_millis(50) {
                thread::yield_now();
            }
        }
    };
    let hal = Watched::shared(&machine, look);
    let iommu = front_with_findings(&hal, &table_for_one(&machine), ACCEPTS, |_| ()).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(CellConfig { reset: ResetPolicy::Required, ..UNSAFE_INTERRUPTS }).unwrap();
    iommu.assign(named, cell).unwrap();
    let mut functions = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !has_begun.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            iommu.release(named).unwrap();
        });
        LOOKS.set(true);
        iommu.unblocked(&mut |function| functions.push(function)).unwrap();
        LOOKS.set(false);
    });
    assert_eq!((functions, machine.violations()), (vec![other], vec![]));
}
