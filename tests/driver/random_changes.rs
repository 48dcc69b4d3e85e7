//! Random changes, with capacities that are soon used up and with failures at any moment.

use cofferdam::CellId;
use cofferdam::addr::Rights;
use cofferdam::iommu::{DeviceConfig, Edit, Error, Options};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::tables::of_machine;

use crate::audit::{INPUT, RW, assert_nothing_differs, reach};

pub(crate) const MEMORY: u64 = 0x6000_0000;
/// Pages of memory that [`any_edits`] map, and of inputs where they do.
pub(crate) const PAGES: u64 = 8;
const SEEDS: u64 = 40;
const STEPS: u64 = 150;

/// Random edits of few cells, pages and devices. The root cell is never destroyed.
pub(crate) fn any_edits(random: &mut Random, cells: &[CellId], root: Option<CellId>) -> Vec<Edit> {
    let count = random.between(1, 3);
    let mut edits = Vec::new();
    for _ in 0..count {
        let cell = random.of(cells);
        let device = function(random.below(2) as u8, random.below(3) as u8);
        let pages = random.between(1, 3);
        let mut page = || random.below(PAGES - pages + 1) * PAGE;
        let memory = MEMORY + page();
        let input = if Some(cell) == root { memory } else { INPUT + page() };
        let rights = random.of(&[RW, RW, Rights::READ, Rights::WRITE]);
        let region = region(input, memory, pages * PAGE, rights);
        edits.push(match random.below(12) {
            0..3 => Edit::Map(cell, region),
            3 => Edit::MapShared(cell, region),
            4 | 5 => Edit::Unmap(cell, region.input),
            6 => Edit::Protect(cell, region.input, rights),
            7..10 => Edit::Assign(device, cell, DeviceConfig { device_tlb: random.one_in(2), messages: 0 }),
            10 => Edit::Release(device),
            _ if random.one_in(4) && Some(cell) != root => Edit::Destroy(cell),
            _ => Edit::Release(device),
        });
    }
    edits
}

/// The same, but cells stay.
pub(crate) fn edits_that_keep_cells(random: &mut Random, cells: &[CellId], root: CellId) -> Vec<Edit> {
    any_edits(random, cells, Some(root)).into_iter().filter(|edit| !matches!(edit, Edit::Destroy(_))).collect()
}

/// Two units, of which one may cache what is absent, with devices that have device-TLBs and others.
pub(crate) fn two_units(seed: u64) -> Machine {
    let (one, two) = (UnitConfig::server(), UnitConfig::server());
    let machine =
        machine([one.caching_mode(seed.is_multiple_of(2)).serving(&[1]), two.coherent(seed.is_multiple_of(3))]);
    for (bus, device) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        machine.add_ats(function(bus, device), 32);
    }
    machine
}

/// A table of these, with device-TLBs behind both.
pub(crate) fn table_of_two_units(machine: &Machine) -> Vec<u8> {
    of_machine(machine, &[&[1]]).atsr(1, 0, &[]).table()
}

/// Two machines: one is asked for all changes, with few frames now and then, the other only for those that the first made.
#[test]
fn a_refused_change_leaves_no_trace() {
    let mut counts = [0; 2];
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let machines = [two_units(seed), two_units(seed)];
        machines.iter().for_each(|machine| machine.add_ats(function(0, 2), 32));
        let limits = Limits {
            units: 2,
            cells: 4,
            regions: random.between(1, 5) as usize,
            domains: random.between(1, 2) as usize,
            devices: random.between(2, 8) as usize,
            device_tlbs: random.between(0, 2) as usize,
            windows: 0,
            changes: 1,
            ..Limits::DEFAULT
        };
        let [all, made] = machines
            .each_ref()
            .map(|machine| limited_front(machine, &table_of_two_units(machine), &limits, Options::default()));
        let root = all.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        assert_eq!(made.create_root_cell(UNSAFE_INTERRUPTS), Ok(root));
        let mut cells = vec![root];
        for step in 0..STEPS {
            while cells.len() < 4 {
                let cell = all.create_cell(UNSAFE_INTERRUPTS).unwrap();
                assert_eq!(made.create_cell(UNSAFE_INTERRUPTS), Ok(cell));
                cells.push(cell);
            }
            let edits = any_edits(&mut random, &cells, Some(root));
            let frames = random.one_in(3).then(|| random.below(6));
            machines[0].allow_allocations(frames);
            let result = all.commit(&edits);
            machines[0].allow_allocations(None);
            // What others give back, the root cell does not get without frames: the second has as many.
            machines[1].allow_allocations(frames);
            let context = || format!("seed {seed}, step {step}, {limits:?}: {edits:?}: {result:?}");
            counts[usize::from(result.is_err())] += 1;
            if let Ok(committed) = result {
                assert_eq!(made.commit(&edits), Ok(committed), "{}", context());
            }
            machines[1].allow_allocations(None);
            assert_eq!(reach(&all), reach(&made), "{}", context());
            assert_nothing_differs(&all, format_args!("{}", context()));
            assert_eq!(all.statistics().table_frames as usize, machines[0].frames_in_use(), "{}", context());
            assert_eq!(machines[0].frames_in_use(), machines[1].frames_in_use(), "{}", context());
            cells.retain(|cell| all.coherency(*cell).is_ok());
        }
        machines.iter().for_each(Machine::check);
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}

/// Queues that stop and devices that do not answer, at any moment of any change: the tables say what the configuration says.
#[test]
fn after_any_failure_the_tables_are_what_is_committed() {
    let mut failed = 0;
    for seed in 0..SEEDS {
        let mut random = Random::new(seed + 1000);
        let machine = two_units(seed);
        let limits = Limits { cells: 4, domains: 2, devices: 8, changes: 1, ..Limits::DEFAULT };
        let iommu = limited_front(&machine, &table_of_two_units(&machine), &limits, Options::default());
        let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
        let mut cells = vec![root];
        let mut unresponsive = Vec::new();
        for step in 0..STEPS {
            while cells.len() < 4 {
                cells.push(iommu.create_cell(UNSAFE_INTERRUPTS).unwrap());
            }
            let edits = any_edits(&mut random, &cells, Some(root));
            for unit in 0..2 {
                if random.one_in(3) {
                    machine.break_unit(unit, Defect::QueueErrorAfter(random.below(4)));
                }
            }
            if random.one_in(3) {
                let device = function(random.below(2) as u8, random.below(2) as u8);
                machine.set_device_tlb(device, Answer::Never, 32);
                unresponsive.push(device);
            }
            let result = iommu.commit(&edits);
            failed += u64::from(matches!(result, Err(Error::Unit(_))));
            (0..2).for_each(|unit| machine.mend_unit(unit));
            for device in unresponsive.drain(..) {
                machine.set_device_tlb(device, Answer::After(0), 32);
            }
            assert_nothing_differs(&iommu, format_args!("seed {seed}, step {step}: {edits:?}: {result:?}"));
            cells.retain(|cell| iommu.coherency(*cell).is_ok());
        }
        machine.check();
        let all: Vec<_> = cells.iter().map(|cell| Edit::Destroy(*cell)).collect();
        iommu.commit(&all).unwrap();
        assert_eq!(reach(&iommu), [], "seed {seed}");
        assert_nothing_differs(&iommu, format_args!("seed {seed}, without cells"));
    }
    assert!(failed > 100, "{failed}");
}
