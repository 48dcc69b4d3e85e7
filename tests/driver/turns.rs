//! Calls that wait for cells: in which order they come, and what one that does not look again holds up.

use std::cell::Cell;
use std::thread;

use cofferdam::CellId;
use cofferdam::addr::Rights;
use cofferdam::iommu::{Edit, Error, Options};
use cofferdam_model::{Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

const MEMORY: u64 = 0x6000_0000;
const RW: Rights = Rights::all();

thread_local! {
    /// How often this thread's calls waited.
    static PAUSES: Cell<u32> = const { Cell::new(0) };
}

/// How often the calls of this thread waited in `run`.
fn pauses(run: impl FnOnce()) -> u32 {
    PAUSES.set(0);
    run();
    PAUSES.get()
}

fn look(stop: &Stop) -> impl Fn(Call, &Machine) + Sync + '_ {
    move |call, _| {
        stop.look(call);
        PAUSES.set(PAUSES.get() + u32::from(call == Call::Pause));
    }
}

/// A machine on which a call can be stopped, and a front with a cell whose changes wait for the unit, and one without devices.
macro_rules! fixture {
    ($machine:ident, $stop:ident, $iommu:ident, $cell:ident, $other:ident) => {
        let ($machine, $stop) = (machine([UnitConfig::server()]), Stop::new());
        let hal = Watched::shared(&$machine, look(&$stop));
        let $iommu = enabled_front(&hal, &of_machine(&$machine, &[]).table(), Options::default());
        let $cell: CellId = cell_with(&$iommu, region(0, MEMORY, 4 * PAGE, RW), function(0, 3));
        let $other: CellId = $iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    };
}

/// L1: who waits for a cell is not overtaken by a change that comes when the cell is at rest again.
#[test]
fn a_change_comes_before_those_that_came_later() {
    fixture!(machine, stop, iommu, cell, _other);
    let there = |page: u64| region(16 * PAGE, MEMORY + page * PAGE, PAGE, RW);
    thread::scope(|scope| {
        let first = stop.halt(scope, || iommu.unmap(cell, range(0, PAGE)));
        let second = stop.halt(scope, || iommu.map(cell, there(8)));
        first().unwrap();
        // The cell is at rest, and whose turn it is has not looked yet.
        let third = stop.halt(scope, || iommu.map(cell, there(9)));
        let fourth = stop.halt(scope, || iommu.unmap(cell, range(16 * PAGE, PAGE)));
        second().unwrap();
        assert_eq!(third().unwrap_err(), Error::Overlap(there(8)));
        fourth().unwrap();
    });
    assert_eq!(pauses(|| iommu.map(cell, there(8)).map(drop).unwrap()), 0, "nobody waits any more");
}

/// L1: an audit, which waits for all cells, comes although changes of one cell or another never cease.
#[test]
fn an_audit_comes_before_changes_that_came_later() {
    fixture!(machine, stop, iommu, cell, other);
    thread::scope(|scope| {
        let first = stop.halt(scope, || iommu.unmap(cell, range(0, PAGE)));
        let audit =
            stop.halt(scope, || iommu.audit(|difference| panic!("{difference}")).map(|audit| audit.differences));
        first().unwrap();
        let later = stop.halt(scope, || iommu.map(other, region(0, MEMORY + LARGE, PAGE, RW)));
        assert_eq!(audit(), Ok(0));
        later().unwrap();
    });
}

/// L1: one that began to wait and does not look again, since its CPU is away, holds nobody up for long.
#[test]
fn who_does_not_look_again_is_passed() {
    fixture!(machine, stop, iommu, cell, _other);
    let there = |page: u64| region(page * PAGE, MEMORY + page * PAGE, PAGE, RW);
    thread::scope(|scope| {
        let first = stop.halt(scope, || iommu.unmap(cell, range(0, PAGE)));
        let away = stop.halt(scope, || iommu.map(cell, there(8)));
        first().unwrap();
        assert_eq!(pauses(|| iommu.map(cell, there(9)).map(drop).unwrap()), 256);
        assert_eq!(pauses(|| iommu.map(cell, there(10)).map(drop).unwrap()), 0, "once is enough");
        away().unwrap();
    });
}

/// L1: a change whose time is over names the cell that it waited for, and is waited for no more.
#[test]
fn a_wait_that_fails_leaves_the_queue() {
    fixture!(machine, stop, iommu, cell, other);
    let more = region(8 * PAGE, MEMORY + 8 * PAGE, PAGE, RW);
    let slow = || iommu.unmap(cell, range(0, PAGE));
    let changed = stop.meanwhile(slow, || {
        assert_eq!(iommu.map(cell, more), Err(Error::InChange { cell: Some(cell) }));
        assert_eq!(iommu.audit(|_| ()).map(drop), Err(Error::InChange { cell: Some(cell) }));
        assert_eq!(pauses(|| iommu.map(other, region(0, MEMORY + LARGE, PAGE, RW)).map(drop).unwrap()), 0);
    });
    changed.unwrap();
    assert_eq!(pauses(|| iommu.map(cell, more).map(drop).unwrap()), 0);
    assert!(machine.violations().is_empty());
}

/// A call whose time is over before it has let another go first often enough: no cell is in a change, and none is said to be.
#[test]
fn no_call_fails_for_a_change_that_nobody_makes() {
    let (machine, stop) = (machine([UnitConfig::server()]), Stop::new());
    let hal = Watched::shared(&machine, stop.looks());
    let options = Options { timeout_ns: 5_000, ..Options::DEFAULT };
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), options);
    let cell = cell_with(&iommu, region(0, MEMORY, 4 * PAGE, RW), function(0, 3));
    let there = |page: u64| region(page * PAGE, MEMORY + page * PAGE, PAGE, RW);
    let mut result = None;
    thread::scope(|scope| {
        let first = stop.halt(scope, || iommu.unmap(cell, range(0, PAGE)));
        let away = stop.halt(scope, || iommu.map(cell, there(8)));
        first().unwrap();
        // Every change has ended, and the CPU of the one that waits is away.
        result = Some(iommu.map(cell, there(9)).map(drop));
        let _ = away();
    });
    assert_eq!(result, Some(Ok(())));
}

/// A call that waited and is refused then, since one of its cells is gone, leaves no turn behind.
#[test]
fn who_is_refused_after_a_wait_has_no_turn_any_more() {
    fixture!(machine, stop, iommu, cell, other);
    let page = |page: u64| region(16 * PAGE, MEMORY + page * PAGE, PAGE, RW);
    thread::scope(|scope| {
        let first = stop.halt(scope, || iommu.unmap(cell, range(0, PAGE)));
        let second = stop.halt(scope, || iommu.commit(&[Edit::Map(cell, page(8)), Edit::Map(other, page(9))]));
        iommu.destroy_cell(other).unwrap();
        first().unwrap();
        assert_eq!(second(), Err(Error::NoSuchCell(other)));
    });
    let map = || {
        iommu.map(cell, page(10)).unwrap();
    };
    assert_eq!(pauses(map), 0);
    machine.check();
}
