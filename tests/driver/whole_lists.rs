//! All that the front lists of several cells, each with several devices behind two units, held against what the test works out.

use std::collections::BTreeSet;
use std::ops::Range;

use cofferdam::addr::{Rights, SourceId};
use cofferdam::iommu::{DeviceConfig, Options, SharedMemory};
use cofferdam::{CellConfig, CellId, limits};
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::tables::{endpoint, of_machine, scope};
use cofferdam_support::watched::Watched;

use crate::audit::{assert_nothing_differs, reach};

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
/// What the root cell has, but for what others have for themselves.
const MEMORY: Range<u64> = 0x60000..0x60040;
const HAS_DEVICE_TLB: DeviceConfig = DeviceConfig { device_tlb: true, messages: 0 };

/// The pages of the n-th reserved memory.
fn reserved(number: u64) -> Range<u64> {
    let first = 0x30000 + number * 0x100;
    first..first + 1 + number % 3
}

fn bytes(pages: &Range<u64>) -> (u64, u64) {
    (pages.start * PAGE, (pages.end - pages.start) * PAGE)
}

/// A cell: pages of its own, pages that it shares, and its devices, each with the numbers of its reserved memory.
struct Plan {
    own: Range<u64>,
    shared: Range<u64>,
    shares_reserved: bool,
    devices: Vec<(SourceId, Vec<u64>)>,
}

impl Plan {
    fn reserved(&self) -> impl Iterator<Item = Range<u64>> {
        let numbers: BTreeSet<u64> = self.devices.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect();
        numbers.into_iter().map(reserved)
    }
}

/// The root cell, and those beside it.
fn plans() -> Vec<Plan> {
    let plan = |own: Range<u64>, shared: Range<u64>, shares_reserved, devices: &[(u8, u8, &[u64])]| {
        let at = |pages: Range<u64>| MEMORY.start + pages.start..MEMORY.start + pages.end;
        let devices = devices.iter().map(|&(bus, device, numbers)| (function(bus, device), numbers.to_vec())).collect();
        Plan { own: at(own), shared: at(shared), shares_reserved, devices }
    };
    vec![
        plan(0..64, 0..0, false, &[(0, 1, &[]), (1, 1, &[6]), (0, 9, &[])]),
        plan(8..12, 16..22, false, &[(0, 3, &[]), (0, 4, &[0]), (1, 3, &[1, 2])]),
        plan(12..14, 20..28, true, &[(0, 5, &[]), (1, 4, &[3]), (0, 6, &[4])]),
        plan(30..33, 18..24, true, &[(1, 5, &[]), (0, 7, &[5]), (1, 6, &[4]), (0, 8, &[4])]),
        plan(40..41, 0..0, false, &[]),
    ]
}

/// The pages that the devices of a cell reach, without reserved memory.
fn pages(plans: &[Plan], cell: usize) -> BTreeSet<u64> {
    let plan = &plans[cell];
    if cell != 0 {
        return plan.own.clone().chain(plan.shared.clone()).collect();
    }
    MEMORY.filter(|page| !plans[1..].iter().any(|other| other.own.contains(page))).collect()
}

/// Where a page is for the devices of a cell.
fn input(cell: usize, page: u64) -> u64 {
    if cell == 0 { page * PAGE } else { INPUT + (page - MEMORY.start) * PAGE }
}

fn table(machine: &Machine, plans: &[Plan]) -> Vec<u8> {
    let users = |number| {
        let all = plans.iter().flat_map(|plan| &plan.devices).filter(move |(_, numbers)| numbers.contains(&number));
        all.map(|(user, _)| scope(1, 0, user.bus(), &[(user.device(), 0)])).collect::<Vec<_>>()
    };
    let table = (0..=6).fold(of_machine(machine, &[&[1]]), |table, number| {
        let (first, bytes) = bytes(&reserved(number));
        table.rmrr(0, first, first + bytes - 1, &users(number))
    });
    table.atsr(1, 0, &[]).table()
}

fn make_cells(iommu: &Front<&Machine>, plans: &[Plan], with_device_tlb: &[SourceId]) -> Vec<CellId> {
    let make = |(number, plan): (usize, &Plan)| {
        let config = CellConfig { allow_shared_reserved: plan.shares_reserved, ..UNSAFE_INTERRUPTS };
        let cell = if number == 0 { iommu.create_root_cell(config) } else { iommu.create_cell(config) }.unwrap();
        let mut change = iommu.change();
        let at = |pages: &Range<u64>| {
            let (first, bytes) = bytes(pages);
            region(input(number, pages.start), first, bytes, RW)
        };
        change.map(cell, at(&plan.own));
        if !plan.shared.is_empty() {
            change.map_shared(cell, at(&plan.shared));
        }
        for (device, _) in &plan.devices {
            let device_tlb = with_device_tlb.contains(device);
            change.assign_with(*device, cell, DeviceConfig { device_tlb, messages: 0 });
        }
        change.commit().unwrap();
        cell
    };
    plans.iter().enumerate().map(make).collect()
}

/// Which pages each pair of these cells shares, by their numbers, each once.
fn shared_pages(iommu: &Front<&Machine>, cells: &[CellId]) -> Vec<(u64, [usize; 2])> {
    let mut all = vec![];
    let of_pages = |SharedMemory { memory, cells: pair }: SharedMemory| {
        let pair = pair.map(|cell| cells.iter().position(|it| *it == cell).unwrap());
        all.extend((memory.first().as_u64() / PAGE..=memory.last().as_u64() / PAGE).map(|page| (page, pair)));
    };
    iommu.shared_memory(of_pages).unwrap();
    all.sort_unstable();
    all
}

fn assigned(iommu: &Front<&Machine>) -> Vec<(SourceId, CellId, bool)> {
    let mut all = vec![];
    iommu.assigned(|it| all.push((it.device, it.cell, it.quarantined))).unwrap();
    all.sort_unstable_by_key(|it| it.0);
    all
}

/// All input addresses that lie in none of the holes.
fn outside(mut holes: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    holes.sort_unstable();
    let starts = [0].into_iter().chain(holes.iter().map(|hole| hole.1));
    let ends = holes.iter().map(|hole| hole.0).chain([1 << 57]);
    starts.zip(ends).collect()
}

/// The input ranges of a cell, each with the address behind it.
fn ranges<H: cofferdam::hal::Hal>(iommu: &Front<H>, cell: CellId) -> Vec<(u64, u64)> {
    let all = input_ranges(iommu, cell).unwrap();
    all.iter().map(|range| (range.start().as_u64(), range.last().as_u64() + 1)).collect()
}

/// Interrupts, and reserved memory.
fn holes(reserved: impl Iterator<Item = Range<u64>>) -> Vec<(u64, u64)> {
    let reserved = reserved.map(|pages| (pages.start * PAGE, pages.end * PAGE));
    reserved.chain([(0xfee0_0000, 0xfef0_0000)]).collect()
}

/// The root cell and four others, with memory of their own, in common and reserved, and one quarantined device: what is shared,
/// assigned, reached, withheld and left for input addresses is what the plan of the cells says, no more and no less.
#[test]
fn all_that_is_listed_of_several_cells_is_as_planned() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let (silent, answering) = (function(1, 4), function(1, 5));
    [silent, answering].iter().for_each(|device| machine.add_ats(*device, 32));
    let plans = plans();
    let iommu = enabled_front(&machine, &table(&machine, &plans), Options::default());
    let cells = make_cells(&iommu, &plans, &[silent, answering]);
    machine.set_device_tlb(silent, Answer::Never, 32);
    iommu.release(silent).unwrap_err();

    let numbered = || plans.iter().enumerate().zip(&cells).map(|((number, plan), cell)| (number, plan, *cell));
    let devices = || numbered().flat_map(|(_, plan, cell)| plan.devices.iter().map(move |(device, _)| (*device, cell)));
    let mut expected: Vec<_> = devices().map(|(device, cell)| (device, cell, device == silent)).collect();
    expected.sort_unstable_by_key(|it| it.0);
    assert_eq!(assigned(&iommu), expected);

    let shared = |number: usize, plan: &Plan| -> BTreeSet<u64> {
        let own = if number == 0 { pages(&plans, 0) } else { plan.shared.clone().collect() };
        own.into_iter().chain(plan.reserved().filter(|_| plan.shares_reserved).flatten()).collect()
    };
    let mut expected = vec![];
    for (number, plan, _) in numbered() {
        for (other, other_plan, _) in numbered().skip(number + 1) {
            let both = &shared(number, plan) & &shared(other, other_plan);
            expected.extend(both.into_iter().map(|page| (page, [number, other])));
        }
    }
    expected.sort_unstable();
    assert_eq!(shared_pages(&iommu, &cells), expected);
    let shares = numbered().map(|(number, plan, cell)| (cell, number != 0 && !plan.shared.is_empty()));
    shares.for_each(|(cell, shares)| assert_eq!(iommu.shares(cell), Ok(shares), "{cell}"));

    let mut expected = BTreeSet::new();
    for (number, plan, cell) in numbered() {
        assert_eq!(ranges(&iommu, cell), outside(holes(plan.reserved())), "{cell}");
        for (device, numbers) in plan.devices.iter().filter(|(device, _)| *device != silent) {
            expected.extend(pages(&plans, number).into_iter().map(|page| (*device, input(number, page), page * PAGE)));
            let one_to_one = numbers.iter().flat_map(|number| reserved(*number));
            expected.extend(one_to_one.map(|page| (*device, page * PAGE, page * PAGE)));
        }
    }
    let found = reach(&iommu);
    let of_pages = found.iter().flat_map(|it| {
        let (input, output) = (it.region.input.start().as_u64(), it.region.output.as_u64());
        (0..it.region.input.bytes()).step_by(PAGE as usize).map(move |at| (it.source, input + at, output + at))
    });
    assert_eq!(of_pages.collect::<BTreeSet<_>>(), expected);

    assert_nothing_differs(&iommu, "all cells");
    let audit = iommu.audit(|_| ()).unwrap();
    assert_eq!((audit.functions, audit.device_tlbs), (devices().count() as u64 - 1, 1));
    // The table that one quarantined device alone has: five levels over its cell's memory, of which the lower two are not over
    // its reserved memory.
    assert_eq!((audit.ranges, audit.withheld, audit.quarantined_frames), (found.len() as u64, 0, 5 + 2));
    assert_eq!(iommu.statistics().table_frames, machine.frames_in_use() as u64);
    for (device, cell) in devices() {
        let info = iommu.device_info(device).unwrap();
        let unit = machine.windows()[if device.bus() == 1 { 0 } else { 1 }];
        let with = [function(0, 6), function(1, 6), function(0, 8)];
        let others = with.iter().copied().filter(|other| with.contains(&device) && *other != device);
        assert_eq!((info.cell, info.unit), (Some(cell), unit), "{device}");
        assert!(info.reserved_with.first().eq(others), "{device}");
    }

    // A unit does not do what it is to do for three of the cells.
    machine.break_unit(0, Defect::QueueDead);
    let taken = [(1, plans[1].own.start), (2, plans[2].shared.end - 1), (3, plans[3].own.start)];
    let mut change = iommu.change();
    for (number, page) in taken {
        change.unmap(cells[number], range(input(number, page), PAGE));
    }
    change.commit().unwrap_err();
    let mut withheld = vec![];
    iommu.withheld(|it| withheld.push((it.cell, it.memory, it.shared))).unwrap();
    let expected = taken.map(|(number, page)| (cells[number], outputs(page * PAGE, PAGE), number == 2));
    assert_eq!(withheld, expected);
    assert_eq!(iommu.audit(|_| ()).unwrap().withheld, 3);
    for (number, _, cell) in numbered().skip(1) {
        let mut left = pages(&plans, number);
        taken.iter().filter(|taken| taken.0 == number).for_each(|taken| assert!(left.remove(&taken.1)));
        let mut found = BTreeSet::new();
        let of_pages = |region: cofferdam::addr::Region| {
            found.extend((0..region.input.bytes() / PAGE).map(|page| region.output.as_u64() / PAGE + page));
        };
        iommu.regions(cell, of_pages).unwrap();
        assert_eq!(found, left, "{cell}");
    }
    assert_eq!(iommu.statistics().table_frames, machine.frames_in_use() as u64);
    machine.abandon();
}

/// In the middle of a change a device that leaves is still listed, and its reserved memory is left to others; one that arrives is
/// not listed yet, and its reserved memory is left out. Regions are those from before.
#[test]
fn lists_in_the_middle_of_a_change_are_as_documented() {
    let machine = machine([UnitConfig::server()]);
    let stop = Stop::new();
    let hal = Watched::shared(&machine, stop.looks());
    let named = of_machine(&machine, &[]);
    let table = (3..6).fold(named, |table, device| {
        let (first, bytes) = bytes(&reserved(device));
        table.rmrr(0, first, first + bytes - 1, &[endpoint(device as u8, 0)])
    });
    let iommu = enabled_front(&hal, &table.table(), Options::default());
    let [leaves, arrives, stays] = [3, 4, 5].map(|device| function(0, device));
    let memory = region(INPUT, MEMORY.start * PAGE, 2 * PAGE, RW);
    let cell = cell_with(&iommu, memory, leaves);
    iommu.assign(stays, cell).unwrap();
    assert!(write(&machine, leaves, INPUT, 1));
    let listed = || {
        let mut all = vec![];
        iommu.assigned(|it| all.push(it.device)).unwrap();
        all.sort_unstable();
        all
    };
    let regions = || {
        let mut all = vec![];
        iommu.regions(cell, |region| all.push(region)).unwrap();
        all
    };
    let without = |numbers: [u64; 2]| outside(holes(numbers.into_iter().map(reserved)));
    assert_eq!((listed(), ranges(&iommu, cell)), (vec![leaves, stays], without([3, 5])));
    let mut change = iommu.change();
    change.release(leaves).assign(arrives, cell).unmap(cell, range(INPUT, PAGE));
    let edits = change.edits.clone();
    let changed = stop.meanwhile(
        || iommu.commit(&edits),
        || {
            assert_eq!((listed(), ranges(&iommu, cell)), (vec![leaves, stays], without([4, 5])));
            assert_eq!(regions(), [memory]);
        },
    );
    changed.unwrap();
    assert_eq!((listed(), ranges(&iommu, cell)), (vec![arrives, stays], without([4, 5])));
    assert_eq!(regions(), [region(INPUT + PAGE, (MEMORY.start + 1) * PAGE, PAGE, RW)]);
}

/// What each of two units counts is in the sum, and frames of all cells' tables are.
#[test]
fn what_each_unit_counts_is_in_the_sum() {
    let machine = machine([UnitConfig::server().serving(&[1]), UnitConfig::server()]);
    let table = of_machine(&machine, &[&[1]]).atsr(1, 0, &[]).table();
    let iommu = enabled_front(&machine, &table, Options::default());
    let memory = |bus: u8| region(INPUT, MEMORY.start * PAGE + u64::from(bus) * LARGE, PAGE, RW);
    for (errors, bus) in (1..).zip([1, 0]) {
        let device = function(bus, 3);
        machine.add_ats(device, 32);
        machine.set_device_tlb(device, Answer::Twice, 32);
        let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        iommu.assign_with(device, cell, HAS_DEVICE_TLB).unwrap();
        let before = iommu.statistics();
        iommu.map(cell, memory(bus)).unwrap();
        let mapped = iommu.statistics();
        assert_eq!(mapped.flushes_avoided, before.flushes_avoided + 1, "bus {bus}");
        iommu.unmap(cell, range(INPUT, PAGE)).unwrap();
        let unmapped = iommu.statistics();
        let spent = |counts: fn(&cofferdam::iommu::Statistics) -> u64| counts(&unmapped) - counts(&mapped);
        assert_eq!([spent(|it| it.waits), spent(|it| it.doorbells)], [1, 1], "bus {bus}");
        assert_eq!(spent(|it| it.descriptors), 3, "bus {bus}");
        assert_eq!(iommu.faults(|fault| panic!("{fault}")), Default::default());
        assert_eq!(iommu.statistics().completion_errors, errors, "bus {bus}");
        for number in 0..=limits::FAULTING_DEVICES as u8 {
            assert!(!write(&machine, SourceId::new(0, bus, 4 + number / 8, number % 8).unwrap(), 0, 0));
            assert_eq!(iommu.faults(|_| ()).records, 1);
        }
        assert_eq!(iommu.statistics().other_faults, errors, "bus {bus}");
        assert_eq!(iommu.statistics().table_frames, machine.frames_in_use() as u64, "bus {bus}");
    }
}
