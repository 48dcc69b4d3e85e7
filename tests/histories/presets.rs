//! One history of cells and devices on each board, against a plain map of what each device may reach. How long it is
//! does not depend on what is asked for.

use std::collections::BTreeMap;

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam::iommu::DeviceConfig;
use cofferdam_model::{Config, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

const PAGES: u64 = 1536;
const CELLS: usize = 3;
const DEVICES: u8 = 6;

/// Where each input page leads, and with what rights.
type Pages = BTreeMap<u64, (u64, Rights)>;

/// What ought to be: the pages of each cell, and the cell of each device.
struct Expected {
    cells: Vec<(CellId, Pages)>,
    devices: BTreeMap<SourceId, usize>,
    /// Devices may have device-TLBs.
    device_tlbs: bool,
    /// Each has the same source-ids.
    segments: u16,
}

fn any_device(random: &mut Random, segments: u16) -> SourceId {
    let (segment, bus) = (random.below(segments.into()) as u16, random.below(2) as u8);
    SourceId::new(segment, bus, random.below(DEVICES.into()) as u8, 0).unwrap()
}

fn step(random: &mut Random, iommu: &Front<&Machine>, expected: &mut Expected) {
    let cell_index = random.below(CELLS as u64) as usize;
    let (cell, pages) = &mut expected.cells[cell_index];
    let device = any_device(random, expected.segments);
    let first = random.below(PAGES);
    let count = 1 + if random.one_in(3) { random.below(PAGES - first) } else { random.below(3) };
    let count = count.min(PAGES - first);
    match random.below(9) {
        0..=2 => {
            // Often with the alignment that large pages need.
            let base = 0x6000_0000 + 0x1000_0000 * cell_index as u64;
            let output = if random.one_in(2) { base + first * PAGE } else { base + (first ^ 5) * PAGE };
            let rights = random.of(&[Rights::READ, Rights::WRITE, Rights::all()]);
            let free = (first..first + count).all(|page| !pages.contains_key(&page));
            let result = iommu.map(*cell, region(first * PAGE, output, count * PAGE, rights));
            match result {
                Ok(_) => {
                    assert!(free);
                    pages.extend((0..count).map(|page| (first + page, (output + page * PAGE, rights))));
                }
                Err(cofferdam::iommu::Error::Full(_)) => {}
                Err(error) => assert!(!free, "{error}"),
            }
        }
        3..=4 => {
            let granted = (first..first + count).all(|page| pages.contains_key(&page));
            match iommu.unmap(*cell, range(first * PAGE, count * PAGE)) {
                Ok(_) => {
                    assert!(granted);
                    pages.retain(|page, _| !(first..first + count).contains(page));
                }
                Err(cofferdam::iommu::Error::Full(_)) => {}
                Err(error) => assert!(!granted, "{error}"),
            }
        }
        5 => {
            let granted = (first..first + count).all(|page| pages.contains_key(&page));
            let rights = random.of(&[Rights::READ, Rights::WRITE, Rights::all()]);
            match iommu.protect(*cell, range(first * PAGE, count * PAGE), rights) {
                Ok(_) => {
                    assert!(granted);
                    pages.range_mut(first..first + count).for_each(|(_, page)| page.1 = rights);
                }
                Err(cofferdam::iommu::Error::Full(_)) => {}
                Err(error) => assert!(!granted, "{error}"),
            }
        }
        6..=7 => {
            let free = !expected.devices.contains_key(&device);
            let config = DeviceConfig { device_tlb: expected.device_tlbs && random.one_in(2), messages: 0 };
            let result = iommu.assign_with(device, *cell, config);
            assert_eq!(result.is_ok(), free, "{result:?}");
            expected.devices.entry(device).or_insert(cell_index);
        }
        _ => assert_eq!(iommu.release(device).is_ok(), expected.devices.remove(&device).is_some()),
    }
}

fn check(random: &mut Random, machine: &Machine, expected: &Expected) {
    for _ in 0..4 {
        let device = any_device(random, expected.segments);
        let page = random.below(PAGES);
        let cell = expected.devices.get(&device).map(|&index| &expected.cells[index].1);
        let target = cell.and_then(|pages| pages.get(&page));
        let (at, token) = (page * PAGE, random.word());
        let readable = target.is_some_and(|(_, rights)| rights.contains(Rights::READ));
        let writable = target.is_some_and(|(_, rights)| rights.contains(Rights::WRITE));
        if let Some((output, _)) = target {
            poke(machine, *output, token);
        }
        // Through its device-TLB, if it has one, or past it.
        let through = !random.one_in(3);
        let found = if through { ats_read(machine, device, at) } else { read(machine, device, at) };
        assert_eq!(found, readable.then_some(token), "{device} reads {at:#x}");
        let reached = if through { ats_write(machine, device, at, !token) } else { write(machine, device, at, !token) };
        assert_eq!(reached, writable, "{device} writes {at:#x}");
        if let Some((output, _)) = target {
            assert_eq!(peek(machine, *output), if writable { !token } else { token });
        }
    }
}

/// Runs one history on a machine whose caches are as `seed` says: all that they may hold at any time if there is none.
fn run(name: &str, units: Vec<UnitConfig>, seed: Option<u64>, steps: u32) {
    let device_tlbs = units.iter().all(|unit| unit.ecap & 0b110 == 0b110);
    let segments = units.iter().map(|unit| unit.segment + 1).max().unwrap();
    let count = units.len();
    let machine = Machine::new(Config { seed, ..Config::new(units) });
    for segment in 0..segments {
        for (bus, device) in (0..2).flat_map(|bus| (0..DEVICES).map(move |device| (bus, device))) {
            machine.add_ats(SourceId::new(segment, bus, device, 0).unwrap(), 32 >> device);
        }
    }
    let iommu = enabled_with_ats(&machine);
    let mut random = Random::new(seed.unwrap_or_default() << 32 | name.len() as u64);
    let cells = (0..CELLS).map(|_| (iommu.create_cell(UNSAFE_INTERRUPTS).unwrap(), BTreeMap::new())).collect();
    let mut expected = Expected { cells, devices: BTreeMap::new(), device_tlbs, segments };
    for _ in 0..steps {
        step(&mut random, &iommu, &mut expected);
        machine.settle();
        check(&mut random, &machine, &expected);
    }
    for (cell, _) in &expected.cells {
        iommu.destroy_cell(*cell).unwrap();
    }
    machine.settle();
    // Queue, status words, root table, and the context tables of two buses.
    // (A queue for abort mode takes one more.)
    assert!(machine.frames_in_use() <= count * 6, "{name}: {} frames are left", machine.frames_in_use());
    machine.check();
}

/// U15, T1: among the boards is one of two units that share a bus, and one of two segments whose source-ids are the same.
#[test]
fn every_history_leaves_each_device_with_what_its_cell_has() {
    for (name, units) in boards() {
        run(name, units, None, 1000);
    }
}

#[test]
fn what_hardware_sees_early_or_forgets_late_changes_nothing() {
    for (name, units) in boards() {
        for seed in 1..4 {
            run(name, units.clone(), Some(seed), 300);
        }
    }
}
