//! Coherency of several cells that changes: who learns of it, and when.

use cofferdam::addr::{Iova, Rights};
use cofferdam::iommu::{Edit, Error, Options, Remains};
use cofferdam::{CellId, Coherency};
use cofferdam_model::{Defect, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::of_machine;
use cofferdam_support::watched::{Call, Watched};

const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// Buses 1 and 2 are behind units that cannot be made to snoop, each behind one.
fn two_that_do_not_snoop() -> Machine {
    let graphics = UnitConfig::qemu_10_0(true);
    machine([graphics.clone().serving(&[1]), graphics.serving(&[2]), UnitConfig::server()])
}

type Watching<'m> = Watched<&'m Machine, dyn Fn(Call, &Machine) + Sync + 'm>;

fn table(machine: &Machine) -> Vec<u8> {
    of_machine(machine, &[&[1], &[2]]).table()
}

/// A cell with a page and a device of bus 0 each.
fn three_cells(iommu: &Front<&Watching<'_>>) -> [CellId; 3] {
    [0, 1, 2].map(|number| {
        let page = region(INPUT, MEMORY + u64::from(number) * PAGE, PAGE, Rights::all());
        cell_with(iommu, page, function(0, 3 + number))
    })
}

fn reported(iommu: &Front<&Watching<'_>>) -> Vec<(CellId, Coherency)> {
    let mut all = vec![];
    iommu.coherency_changes(|cell, now| all.push((cell, now))).unwrap();
    all
}

/// The coherency of a cell in the middle of a change is for the result of that change to report; that of the cells beside it is
/// reported meanwhile.
#[test]
fn a_cell_that_is_in_a_change_is_not_reported_before_its_end() {
    let machine = two_that_do_not_snoop();
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let iommu = enabled_front(&hal, &table(&machine), Options::default());
    let [one, two, changing] = three_cells(&iommu);
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    change.assign(function(1, 0), one).assign(function(1, 1), two);
    change.commit().unwrap_err();
    let committed = stop.meanwhile(
        || iommu.assign(function(2, 0), changing).unwrap(),
        || {
            assert_eq!(iommu.coherency(changing), Ok(Coherency::NotEnforced), "its table is there");
            assert_eq!(reported(&iommu), [one, two].map(|cell| (cell, Coherency::NotEnforced)));
            assert_eq!(reported(&iommu), []);
        },
    );
    assert_eq!(coherency_changes(&iommu, &committed, &[changing]), [(changing, Coherency::NotEnforced)]);
    assert_eq!(reported(&iommu), []);
    machine.abandon();
}

/// A change that fails reports the coherency of its own cells, and leaves that of others to be asked for.
#[test]
fn a_failed_change_reports_the_coherency_of_its_cells_alone() {
    let machine = two_that_do_not_snoop();
    let hal = Watched::shared(&machine, |_, _: &Machine| ());
    let iommu = enabled_front(&hal, &table(&machine), Options::default());
    let [one, two, three] = three_cells(&iommu);
    machine.break_unit(0, Defect::QueueDead);
    let mut change = iommu.change();
    for (number, cell) in (0..).zip([one, two, three]) {
        change.assign(function(1, number), cell);
    }
    change.commit().unwrap_err();
    let mut all = vec![];
    let elsewhere = range(INPUT + LARGE, PAGE);
    let edits = [Edit::Unmap(one, elsewhere), Edit::Unmap(three, elsewhere)];
    let refused = iommu.commit_reporting(&edits, |remains| all.push(remains));
    assert_eq!(refused, Err(Error::NotGranted(Iova::new(INPUT + LARGE))));
    all.retain(|remains| matches!(remains, Remains::Coherency(..)));
    assert_eq!(all, [one, three].map(|cell| Remains::Coherency(cell, Coherency::NotEnforced)));
    assert_eq!(reported(&iommu), [(two, Coherency::NotEnforced)]);
    machine.abandon();
}

/// What was said of a cell is not taken as said of the next one in its place, whatever each of them is.
#[test]
fn each_cell_begins_as_one_whose_dma_is_made_to_snoop() {
    let machine = two_that_do_not_snoop();
    let hal = Watched::shared(&machine, |_, _: &Machine| ());
    let iommu = enabled_front(&hal, &table(&machine), Options::default());
    for device in [function(1, 0), function(0, 0), function(1, 0), function(2, 0)] {
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        let page = region(INPUT, MEMORY, PAGE, Rights::all());
        let committed = iommu.commit(&[Edit::Map(cell, page), Edit::Assign(device, cell, Default::default())]).unwrap();
        let said = coherency_changes(&iommu, &committed, &[cell]);
        let snoops = device.bus() == 0;
        assert_eq!(said, if snoops { vec![] } else { vec![(cell, Coherency::NotEnforced)] }, "{device}");
        assert_eq!(iommu.coherency(cell) == Ok(Coherency::Enforced), snoops);
        iommu.destroy_cell(cell).unwrap();
    }
    machine.check();
}
