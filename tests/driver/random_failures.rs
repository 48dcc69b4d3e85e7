//! Random changes while units and devices fail in every way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cofferdam::CellId;
use cofferdam::addr::{Iova, SourceId};
use cofferdam::iommu::{Edit, Error, Options, UnitState};
use cofferdam::limits::Limits;
use cofferdam_model::{Answer, Defect, Late, Machine, Reset, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;
use cofferdam_support::watched::{Call, Watched};

use crate::audit::{INPUT, RW, audit};
use crate::random_changes::{MEMORY, PAGES, any_edits, table_of_two_units};

/// Which pages of memory a device reaches, by whichever input address.
fn reached(machine: &Machine, device: SourceId, token: &mut u64) -> u64 {
    let mut pages = 0;
    for base in [INPUT, MEMORY] {
        for page in 0..PAGES {
            *token += 1;
            let translated =
                device.bus() == 1 && token.is_multiple_of(2) && ats_write(machine, device, base + page * PAGE, *token);
            if translated || write(machine, device, base + page * PAGE, *token) {
                for memory in 0..PAGES {
                    if peek(machine, MEMORY + memory * PAGE) == *token {
                        pages |= 1 << memory;
                    }
                }
            }
        }
    }
    pages
}

/// Random edits that keep devices of root cells behind one unit and those of other cells behind another, and destroy root
/// cells, too.
fn edits_of_units_apart(random: &mut Random, cells: &[CellId], root: Option<CellId>, how: &How) -> Vec<Edit> {
    let mut edits = any_edits(random, cells, root);
    for edit in &mut edits {
        match *edit {
            Edit::MapShared(cell, region) if !how.shared => *edit = Edit::Map(cell, region),
            Edit::Assign(ref mut device, cell, ref mut config) => {
                let bus = u8::from(Some(cell) != root);
                *device = function(bus, device.device());
                config.device_tlb &= how.device_tlbs && bus == 1;
            }
            _ => {}
        }
    }
    if random.one_in(8) {
        edits.extend(root.map(Edit::Destroy));
    }
    edits
}

/// What a history is about.
struct How {
    /// Cells have memory that the root cell keeps.
    shared: bool,
    /// Devices of other cells have device-TLBs.
    device_tlbs: bool,
}

/// How often histories came where they are to come.
#[derive(Debug, Default)]
struct Counts {
    /// Changes that failed in a unit.
    failed: u64,
    /// Devices of the root cell and of others reached memory at the same time.
    both_reach: u64,
    /// Devices of other cells reached memory that no table grants them any more.
    loose: u64,
    /// The same, and they never had it together with the root cell.
    withheld: u64,
}

/// Devices of other cells sit behind a unit that fails at any moment, those of root cells behind another one.
#[test]
fn no_root_cell_reaches_what_a_failed_unit_may() {
    let mut counts = Counts::default();
    for seed in 0..200 {
        one_history(seed, &mut counts);
    }
    let Counts { failed, both_reach, loose, withheld } = counts;
    assert!(failed > 200 && both_reach > 2000 && loose > 400 && withheld > 200, "{counts:?}");
}

fn one_history(seed: u64, counts: &mut Counts) {
    let mut random = Random::new(seed);
    let (caching, dead, pair) = (random.one_in(2), random.one_in(2), random.one_in(3));
    let how = How { shared: random.one_in(2), device_tlbs: random.one_in(2) };
    let machine = machine([UnitConfig::server().caching_mode(caching).serving(&[1]), UnitConfig::server()]);
    let ats = how.device_tlbs;
    if ats {
        (0..3).for_each(|device| machine.add_ats(function(1, device), 32));
    }
    let (left, dirty) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
    let before = |call: Call, machine: &Machine| match call {
        Call::Store(_) => {
            dirty.store(true, Ordering::Relaxed);
            if left.fetch_sub(1, Ordering::Relaxed) == 0 {
                machine.break_unit(0, if dead { Defect::QueueDead } else { Defect::QueueErrorAfter(0) });
            }
        }
        Call::Pause if dirty.swap(false, Ordering::Relaxed) => {
            for device in 0..3 {
                for page in 0..PAGES {
                    let _ = write(machine, function(1, device), INPUT + page * PAGE, 1);
                    if ats {
                        let _ = ats_write(machine, function(1, device), INPUT + page * PAGE, 1);
                    }
                }
            }
        }
        _ => {}
    };
    let hal = Watched::shared(&machine, before);
    let table = table_of_two_units(&machine);
    let limits = Limits {
        cells: random.between(2, 4) as usize,
        regions: random.between(1, 6) as usize,
        domains: random.between(1, 2) as usize,
        devices: 8,
        changes: 2,
        ..Limits::DEFAULT
    };
    let iommu = limited_front(&hal, &table, &limits, Options { timeout_ns: 100_000_000, ..Options::default() });
    let (mut root, mut cells): (_, Vec<CellId>) = (None, Vec::new());
    let mut ever: Vec<(CellId, u64)> = Vec::new();
    let mut token = 1000;
    let mut log = Vec::new();
    for _ in 0..60 {
        if root.is_none()
            && random.one_in(2)
            && let Ok(cell) = iommu.create_root_cell(UNSAFE_INTERRUPTS)
        {
            root = Some(cell);
            cells.push(cell);
            let _ = iommu.map(cell, region(MEMORY, MEMORY, PAGES * PAGE, RW));
            let _ = iommu.assign(function(0, 0), cell);
            log.push(format!("root {cell:?}"));
        }
        if let Ok(cell) = iommu.create_cell(UNSAFE_INTERRUPTS) {
            cells.push(cell);
        }
        if cells.is_empty() {
            continue;
        }
        let edits = [0; 2].map(|_| edits_of_units_apart(&mut random, &cells, root, &how));
        let unresponsive = function(1, random.below(3) as u8);
        if ats && random.one_in(4) {
            machine.set_device_tlb(unresponsive, Answer::Never, 32);
        }
        for edit in edits.iter().flatten() {
            if let Edit::MapShared(cell, region) = *edit {
                let pages = (region.output.as_u64() - MEMORY) / PAGE..;
                let pages = pages.take((region.input.bytes() / PAGE) as usize);
                ever.push((cell, pages.fold(0, |all, page| all | 1 << page)));
            }
        }
        if random.one_in(4) {
            left.store(random.below(60), Ordering::Relaxed);
        }
        let mut results = Vec::new();
        if pair {
            std::thread::scope(|scope| {
                let both = [&edits[0], &edits[1]].map(|edits| scope.spawn(|| iommu.commit(edits)));
                results.extend(both.map(|it| it.join().unwrap()));
            });
        } else {
            results.push(iommu.commit(&edits[0]));
        }
        counts.failed += results.iter().filter(|result| matches!(result, Err(Error::Unit(_)))).count() as u64;
        left.store(u64::MAX, Ordering::Relaxed);
        if ats {
            machine.set_device_tlb(unresponsive, Answer::After(0), 32);
        }
        if !dead {
            machine.mend_unit(0);
        }
        log.push(format!("{:?}: {results:?}", &edits[..results.len()]));
        cells.retain(|cell| iommu.coherency(*cell).is_ok());
        root = root.filter(|root| cells.contains(root));
        let roots = (0..3).fold(0, |all, device| all | reached(&machine, function(0, device), &mut token));
        let others = (0..3).fold(0, |all, device| all | reached(&machine, function(1, device), &mut token));
        let may = ever.iter().filter(|(cell, _)| cells.contains(cell)).fold(0, |all, (_, pages)| all | pages);
        let mut granted = 0;
        iommu
            .reach(|reach| {
                if reach.source.bus() == 1 {
                    let first = (reach.region.output.as_u64() - MEMORY) / PAGE;
                    (first..first + reach.region.input.bytes() / PAGE).for_each(|page| granted |= 1 << page);
                }
            })
            .unwrap();
        counts.both_reach += u64::from(roots != 0 && others != 0);
        counts.loose += u64::from(others & !granted != 0);
        counts.withheld += u64::from(others & !granted & !may != 0);
        assert_eq!(roots & others & !may, 0, "seed {seed} {limits:?}: {roots:b} {others:b}\n{}", log.join("\n"));
        let differences = audit(&iommu);
        let differences: Vec<_> = differences.iter().filter(|_| !dead).collect();
        assert!(differences.is_empty(), "seed {seed}: {differences:?}\n{}", log.join("\n"));
    }
    machine.abandon();
}

/// Queues that stop, registers that refuse, devices that do not answer, do not come to rest, or are not reset, and no frames.
#[test]
fn after_a_failure_of_any_kind_the_tables_are_what_is_committed() {
    let mut errors = BTreeMap::new();
    for seed in 0..60 {
        any_failures(seed, &mut errors);
    }
    let times = |error: &str| errors.get(error).copied().unwrap_or(0);
    let least = [
        ("Ok", 300),
        ("NoFrame(NoneLeft", 15),
        ("NotIdle", 30),
        ("Unit(Device", 1),
        ("Unit(Invalidation", 1),
        ("Unit(Queue", 10),
        ("out of service", 1),
    ];
    assert!(least.iter().all(|(error, least)| times(error) >= *least), "{errors:?}");
}

fn any_failures(seed: u64, errors: &mut BTreeMap<String, u32>) {
    let mut random = Random::new(seed);
    let unit = |random: &mut Random| {
        let unit = match random.below(5) {
            0 => UnitConfig::first_generation(),
            1 => UnitConfig::client(),
            2 => UnitConfig::everything(),
            _ => UnitConfig::server(),
        };
        let unit = unit.caching_mode(random.one_in(2));
        if random.one_in(4) { behind_write_buffers(unit) } else { unit }
    };
    let machine = machine([unit(&mut random).serving(&[1]), unit(&mut random)]);
    let all: Vec<_> = [0, 1].iter().flat_map(|bus| (0..3).map(|device| function(*bus, device))).collect();
    let resets = random.one_in(4);
    for device in &all {
        machine.add_express(*device);
        if random.one_in(2) {
            machine.add_ats(*device, random.between(1, 32) as usize);
        }
        if resets && random.one_in(3) {
            machine.add_reset(*device, Reset::Express, random.of(&[0, 1 << 40]));
        }
    }
    let limits = Limits {
        units: 2,
        cells: random.between(1, 4) as usize,
        regions: random.between(1, 6) as usize,
        domains: random.between(1, 3) as usize,
        devices: random.between(1, 8) as usize,
        device_tlbs: random.between(0, 4) as usize,
        windows: 0,
        changes: 1,
        ..Limits::DEFAULT
    };
    let table = table_of_two_units(&machine);
    let options = Options { timeout_ns: 1_000_000, device_timeout_ns: 100_000_000, ..Options::DEFAULT };
    let iommu = limited_front(&machine, &table, &limits, options);
    let root = iommu.create_root_cell(UNSAFE_INTERRUPTS).unwrap();
    let mut cells = vec![root];
    // From then on devices may reach less than they are granted.
    let mut failed_before = false;
    for step in 0..if resets { 25 } else { 80 } {
        while let Ok(cell) = iommu.create_cell(UNSAFE_INTERRUPTS) {
            cells.push(cell);
        }
        let edits = any_edits(&mut random, &cells, Some(root));
        for unit in 0..2 {
            if random.one_in(6) {
                machine.break_unit(unit, Defect::QueueErrorAfter(random.below(5)));
            } else if random.one_in(60) {
                machine.break_unit(unit, Defect::RegistersRefuse);
            }
        }
        let unresponsive = random.of(&all);
        if random.one_in(2) {
            machine.set_device_tlb(unresponsive, Answer::Never, 32);
        }
        if random.one_in(6) {
            let at = Iova::new(INPUT);
            machine.write_late(random.of(&all), at, &[1], 5_000_000, Late::UnderWay);
        }
        if random.one_in(5) {
            machine.allow_allocations(Some(random.below(5)));
        }
        let result = iommu.commit(&edits);
        failed_before |= matches!(result, Err(Error::Unit(_) | Error::NotIdle { .. } | Error::NotReset { .. }));
        machine.allow_allocations(None);
        (0..2).for_each(|unit| machine.mend_unit(unit));
        machine.set_device_tlb(unresponsive, Answer::After(0), 32);
        let text = match &result {
            Ok(_) => "Ok".to_string(),
            Err(error) => format!("{error:?}").chars().take_while(|it| it.is_alphanumeric() || *it == '(').collect(),
        };
        *errors.entry(text).or_default() += 1;
        let failed = states(&iommu).iter().any(|state| matches!(state, UnitState::Failed { .. }));
        let mut differences = Vec::new();
        iommu.audit(|it| differences.push(it.to_string())).unwrap();
        if failed_before {
            differences.retain(|it| !it.contains("which is granted"));
        }
        assert_eq!(differences, [""; 0], "seed {seed}, step {step}: {limits:?} {edits:?}: {result:?}");
        let violations = machine.violations();
        assert!(violations.is_empty(), "seed {seed}, step {step}: {edits:?}: {result:?}: {violations:?}");
        assert!(machine.frames_in_use() as u64 >= iommu.statistics().table_frames);
        cells.retain(|cell| iommu.coherency(*cell).is_ok());
        if failed {
            *errors.entry("out of service".into()).or_default() += 1;
            machine.abandon();
            return;
        }
    }
    if !resets {
        machine.pass(10_000_000);
        for index in (0..cells.len()).rev() {
            let result = iommu.destroy_cell(cells[index]);
            assert!(result.is_ok(), "seed {seed}: {result:?}");
        }
        let mut left = 0;
        iommu.reach(|_| left += 1).unwrap();
        assert_eq!(left, 0);
        let iommu = iommu;
        iommu.disable().unwrap();
    }
    machine.abandon();
}
