//! What an audit of the live tables finds, and that it finds nothing where nothing is wrong.

use std::fmt::Display;

use cofferdam::CellConfig;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Error, Options, Reach};
use cofferdam_model::UnitConfig;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::Watched;

pub(crate) const RW: Rights = Rights::all();
pub(crate) const MEMORY_A: u64 = 0x6000_0000;
pub(crate) const MEMORY_B: u64 = 0x7000_0000;
pub(crate) const INPUT: u64 = 0x4000_0000;

/// All that an audit finds.
pub(crate) fn audit<H: Hal>(iommu: &Front<H>) -> Vec<Difference> {
    let mut all = Vec::new();
    let audit = iommu.audit(|difference| all.push(difference)).unwrap();
    assert_eq!(audit.differences, all.len() as u64);
    all
}

#[track_caller]
pub(crate) fn assert_nothing_differs<H: Hal>(iommu: &Front<H>, when: impl Display) {
    let all: String = audit(iommu).iter().map(|difference| format!("\n  {difference}")).collect();
    assert!(all.is_empty(), "{when}:{all}");
}

/// All that devices reach.
pub(crate) fn reach<H: Hal>(iommu: &Front<H>) -> Vec<Reach> {
    let mut all = Vec::new();
    iommu.reach(|reach| all.push(reach)).unwrap();
    all
}

#[test]
fn nothing_differs_on_any_unit_after_any_step() {
    for (name, unit) in presets() {
        let machine = machine([unit]);
        let iommu = enabled_with_reserved(&machine, &[(0x9_0000, 0x9_1fff, 5)]);
        let step = |step| assert_nothing_differs(&iommu, format_args!("{name}: {step}"));
        step("no cell");
        let (first, second) = (function(0, 3), function(2, 3));
        let a = cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), first);
        step("a cell");
        iommu.assign(second, a).unwrap();
        step("two devices share a table");
        iommu.assign(function(0, 5), a).unwrap();
        step("a device with reserved memory");
        let b = cell_with(&iommu, region(INPUT + PAGE, MEMORY_B, PAGE, Rights::READ), function(0, 4));
        step("two cells");
        iommu.unmap(a, range(INPUT + LARGE - PAGE, 2 * PAGE)).unwrap();
        step("large pages are split");
        iommu.protect(a, range(INPUT, PAGE), Rights::WRITE).unwrap();
        step("other rights");
        iommu.map_shared(a, region(INPUT + LARGE, MEMORY_B + PAGE, PAGE, RW)).unwrap();
        iommu.map_shared(b, region(INPUT + LARGE, MEMORY_B + PAGE, PAGE, Rights::READ)).unwrap();
        step("both cells share a page");
        iommu.mute(first, true).unwrap();
        step("a muted device");
        iommu.release(second).unwrap();
        step("a device without a cell");
        let audit = iommu.audit(|_| ()).unwrap();
        assert_eq!(audit.functions, 3, "{name}");
        iommu.destroy_cell(a).unwrap();
        step("one cell is gone");
        iommu.map(b, region(0, 0x2000_0000, 3 * LARGE, RW)).unwrap();
        step("another region");
        iommu.destroy_cell(b).unwrap();
        step("both are gone");
    }
}

#[test]
fn nothing_differs_where_units_have_tables_of_their_own() {
    let machine = machine([UnitConfig::client_graphics().serving(&[1]), UnitConfig::client(), UnitConfig::server()]);
    let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
    iommu.enable().unwrap();
    let cell = cell_with(&iommu, region(INPUT, MEMORY_A, 2 * LARGE, RW), function(1, 3));
    for bus in [2, 3, 2, 1] {
        assert_nothing_differs(&iommu, "before the next bus");
        let _ = iommu.assign(function(bus, bus), cell);
    }
    assert_nothing_differs(&iommu, "all units");
    let snooped: Vec<_> = reach(&iommu).iter().map(|reach| (reach.source.bus(), reach.snoop)).collect();
    assert_eq!(snooped, [(1, false), (1, false), (2, true), (3, true)]);
    iommu.destroy_cell(cell).unwrap();
    assert_nothing_differs(&iommu, "no cell");
}

#[test]
fn a_source_reaches_ranges_as_long_as_can_be() {
    let machine = machine([UnitConfig::client()]);
    let iommu = enabled_with_reserved(&machine, &[(0x9_0000, 0x9_1fff, 3)]);
    let cell = cell_with(&iommu, region(INPUT - PAGE, MEMORY_A - PAGE, 0x4000_0000 + 3 * PAGE, RW), function(0, 3));
    iommu.protect(cell, range(INPUT + LARGE, PAGE), Rights::READ).unwrap();
    iommu.map(cell, region(INPUT + 0x8000_0000, 0, PAGE, RW)).unwrap();
    let rest = 0x4000_0000 + 2 * PAGE - LARGE - PAGE;
    let expected = [
        region(0x9_0000, 0x9_0000, 2 * PAGE, RW),
        region(INPUT - PAGE, MEMORY_A - PAGE, LARGE + PAGE, RW),
        region(INPUT + LARGE, MEMORY_A + LARGE, PAGE, Rights::READ),
        region(INPUT + LARGE + PAGE, MEMORY_A + LARGE + PAGE, rest, RW),
        region(INPUT + 0x8000_0000, 0, PAGE, RW),
    ];
    let expected = expected.map(|region| Reach { source: function(0, 3), region, snoop: true });
    assert_eq!(reach(&iommu), expected);
    assert_nothing_differs(&iommu, "all of it");
}

#[test]
fn cells_that_allow_unsafe_interrupts_are_named() {
    let machine = machine([UnitConfig::client()]);
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(iommu.audit(|_| ()).unwrap_err(), Error::NotEnabled);
    assert_eq!(iommu.reach(|_| ()), Err(Error::NotEnabled));
    iommu.enable().unwrap();
    let safe = iommu.create_cell(CellConfig::default()).unwrap();
    let unsafe_one = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    assert_eq!([safe, unsafe_one].map(|cell| iommu.allows_unsafe_interrupts(cell)), [Ok(false), Ok(true)]);
}

#[test]
fn a_source_has_the_segment_of_its_unit() {
    let machine = machine([UnitConfig { segment: 2, ..UnitConfig::client() }]);
    let iommu = enabled_front(&machine, &machine.dmar(), Options::default());
    let (source, region) = (SourceId::new(2, 0, 3, 0).unwrap(), region(INPUT, MEMORY_A, PAGE, RW));
    let _cell = cell_with(&iommu, region, source);
    assert_eq!(reach(&iommu), [Reach { source, region, snoop: true }]);
    assert_nothing_differs(&iommu, "another segment");
}

#[test]
fn an_audit_waits_for_a_change_under_way() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let iommu = enabled_front(&hal, &of_machine(&machine, &[]).table(), Options::default());
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    iommu.map(cell, region(INPUT, MEMORY_A, PAGE, RW)).unwrap();
    iommu.assign(function(0, 3), cell).unwrap();
    let changed = stop.meanwhile(
        || iommu.unmap(cell, range(INPUT, PAGE)),
        || {
            let in_change = Error::InChange { cell: Some(cell) };
            assert_eq!(iommu.audit(|_| ()).unwrap_err(), in_change);
            assert_eq!(iommu.reach(|_| ()), Err(in_change));
        },
    );
    changed.unwrap();
    assert_nothing_differs(&iommu, "after the change");
}
