//! Postings that end while units are slow, or fail, or are not switched on yet: a descriptor is one cell's until each unit has
//! confirmed that it is left.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::{Message, Posting, Route, Source};
use cofferdam::iommu::{Committed, Edit, Error, Options, Unroutable};
use cofferdam::{CellConfig, CellId, ResetPolicy};
use cofferdam_model::{Defect, Machine, Reset, Targets, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::stop::Stop;
use cofferdam_support::watched::{Call, Watched};

use super::interrupts::*;
use super::posted::cell_of;
use super::take_over::remap_interrupts;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
/// Behind the first unit of two.
const FAR: SourceId = SourceId::from_requester(0, 1 << 8 | 5 << 3);
const HERE: Route = Route::to(2, 0x41);

/// Memory of the hypervisor's with 64 descriptors.
fn page(machine: &Machine) -> PhysAddr {
    machine.allocate(0).unwrap()
}

fn posting(base: PhysAddr, index: u64, vector: u8) -> Posting {
    // SAFETY: the frame is never freed, and zero, as a descriptor may be.
    unsafe { Posting::new(base + index * 64, vector) }
}

/// The model looks whose descriptors the two devices post to.
fn watch(machine: &Machine, descriptor: PhysAddr) {
    let all = || Targets { cpus: vec![0..=99], flat_ids: Some(0xff), vectors: 0..=255 };
    machine.set_targets([(1, all()), (2, all())], [(FAR, 1), (OTHER, 2)]);
    machine.set_descriptors([(descriptor.as_u64(), 1)]);
}

fn two() -> Machine {
    machine([UnitConfig::server().posts_interrupts().serving(&[1]), UnitConfig::server().posts_interrupts()])
}

fn is_taken(result: Result<Committed, Error>, cell: CellId) -> bool {
    matches!(result, Err(Error::Route { reason: Unroutable::DescriptorTaken(it), .. }) if it == cell)
}

#[test]
fn a_descriptor_that_a_failed_unit_may_still_post_to_is_not_anothers() {
    for way in 0..4 {
        let machine = two();
        let base = page(&machine);
        let iommu = remapping(&machine, false);
        let (cell, other) = (cell_of(&iommu, FAR, 1), cell_of(&iommu, OTHER, 1));
        iommu.post(cell, of(FAR, 0), posting(base, 0, 0x41)).unwrap();
        let message = iommu.message(of(FAR, 0)).unwrap();
        watch(&machine, base);
        send(&machine, FAR, message, 0).unwrap();
        machine.break_unit(0, Defect::QueueDead);
        let edits = match way {
            0 => vec![Edit::Unroute(cell, of(FAR, 0))],
            1 => vec![Edit::Release(FAR)],
            2 => vec![Edit::Destroy(cell)],
            _ => vec![Edit::Release(FAR), Edit::Assign(FAR, other, messages(1))],
        };
        iommu.commit(&edits).unwrap_err();
        assert!(is_taken(iommu.post(other, of(OTHER, 0), posting(base, 0, 0x42)), cell), "{way}");
        assert!(send(&machine, FAR, message, 0).is_ok(), "{way}: by what the unit has cached");
        iommu.post(other, of(OTHER, 0), posting(base, 1, 0x42)).unwrap();
        let crossed: Vec<_> = machine.abandon().into_iter().filter(|it| it.rule == "OWN").collect();
        assert!(crossed.is_empty(), "{way}: {crossed:?}");
    }
}

/// What was granted is taken back, and the unit goes on but has not confirmed that.
#[test]
fn a_descriptor_of_a_posting_that_was_taken_back_is_not_anothers() {
    let mut unconfirmed = 0;
    for count in 0.. {
        let machine = two();
        let base = page(&machine);
        let iommu = remapping(&machine, false);
        let (cell, other) = (cell_of(&iommu, FAR, 1), cell_of(&iommu, OTHER, 1));
        iommu.post(cell, of(FAR, 0), posting(base, 0, 0x41)).unwrap();
        machine.break_unit(0, Defect::QueueErrorAfter(count));
        let is_done = iommu.post(cell, of(FAR, 0), posting(base, 1, 0x41)).is_ok();
        let needs_flush = iommu.units().any(|unit| unit.needs_flush);
        let second = iommu.post(other, of(OTHER, 0), posting(base, 1, 0x42));
        assert!(is_taken(second, cell) == (is_done || needs_flush), "{count}: {second:?}");
        machine.mend_unit(0);
        // Once the unit has confirmed a change of the cell, what was left is free.
        iommu.post(cell, of(FAR, 0), posting(base, 0, 0x43)).unwrap();
        iommu.post(other, of(OTHER, 0), posting(base, 1, 0x42)).unwrap();
        machine.abandon();
        unconfirmed += u32::from(needs_flush);
        if is_done {
            break;
        }
    }
    assert_ne!(unconfirmed, 0);
}

thread_local! {
    static FIRST: Cell<bool> = const { Cell::new(false) };
}

/// While a change that ends a posting waits for its unit, another CPU posts another cell's interrupt to the descriptor.
#[test]
fn a_descriptor_is_taken_until_the_unit_has_confirmed_that_it_is_left() {
    let (stops, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let before = |call: Call, _: &Machine| {
        if FIRST.get() && call == Call::Pause && !stops.swap(true, SeqCst) {
            let since = Instant::now();
            while !done.load(SeqCst) && since.elapsed() < Duration::from_secs(10) {
                thread::yield_now();
            }
        }
    };
    let machine = two();
    let base = page(&machine);
    let hal = Watched::shared(&machine, before);
    let iommu = front(&hal, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let (cell, other) = (cell_of(&iommu, FAR, 1), cell_of(&iommu, OTHER, 1));
    iommu.post(cell, of(FAR, 0), posting(base, 0, 0x41)).unwrap();
    let message = iommu.message(of(FAR, 0)).unwrap();
    watch(&machine, base);
    machine.break_unit(0, Defect::Slow(1_000_000));
    let (iommu, stops) = (&iommu, &stops);
    let taken = thread::scope(|scope| {
        let one = scope.spawn(|| {
            FIRST.set(true);
            iommu.unroute(cell, of(FAR, 0))
        });
        while !stops.load(SeqCst) && !one.is_finished() {
            thread::yield_now();
        }
        assert!(!one.is_finished());
        let taken = iommu.post(other, of(OTHER, 0), posting(base, 0, 0x42));
        assert!(send(&machine, FAR, message, 0).is_ok(), "by what the unit has cached");
        done.store(true, SeqCst);
        one.join().unwrap().unwrap();
        taken
    });
    assert!(is_taken(taken, cell), "{taken:?}");
    iommu.post(other, of(OTHER, 0), posting(base, 0, 0x42)).unwrap();
    let crossed: Vec<_> = machine.abandon().into_iter().filter(|it| it.rule == "OWN").collect();
    assert!(crossed.is_empty(), "{crossed:?}");
}

/// Before `enable`, units may use the table that they are found with: what is routed has no entry there.
#[test]
fn a_first_route_before_enable_does_not_contradict_the_found_table() {
    for found_posted in [false, true] {
        for source in [of(CARD, 0), Source::Pin { io_apic: 0, pin: 3 }] {
            let machine = machine([UnitConfig::server().posts_interrupts()]);
            let base = page(&machine);
            let id = if let Source::Pin { .. } = source { IO_APIC } else { CARD };
            let lower = if found_posted { base.as_u64() << 32 | 0x41_8001 } else { 0x0300_0055_0001 };
            let upper = 1 << 18 | u64::from(id.requester());
            let entries: Vec<_> = (0..8).flat_map(|n| [(n * 2, lower), (n * 2 + 1, upper)]).collect();
            remap_interrupts(&machine, 0, 7, &entries);
            machine.take_violations();
            let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
            iommu.remap_interrupts(&[0], false).unwrap();
            iommu.prepare().unwrap();
            let cell = iommu.create_cell(CONFIG).unwrap();
            iommu.assign_with(CARD, cell, messages(1)).unwrap();
            iommu.route(cell, source, HERE).unwrap();
            iommu.enable().unwrap();
            let message = match source {
                Source::Pin { pin, .. } => {
                    let entry = iommu.redirection(0, pin).unwrap();
                    Message { address: 0xfee0_0010 | (entry >> 49 & 0x7fff) << 5, data: 0 }
                }
                _ => iommu.message(source).unwrap(),
            };
            assert_eq!(send(&machine, id, message, 0), Ok((2, 0x41)), "{source}, {found_posted}");
            let found = machine.abandon();
            assert!(found.is_empty(), "{source}, {found_posted}: {found:?}");
        }
    }
}

/// R49: another function of the same device is being reset as it leaves its cell.
#[test]
fn a_posting_looks_at_no_function_that_is_being_reset() {
    let neighbour = SourceId::from_requester(0, 5 << 3 | 1);
    let (machine, stop) = (machine([UnitConfig::server().posts_interrupts()]), Stop::new());
    let base = page(&machine);
    machine.add_express(neighbour);
    machine.add_reset(neighbour, Reset::Express, 1000);
    machine.add_express(CARD);
    [CARD, neighbour].iter().for_each(|it| machine.add_acs(*it, 0x0c));
    let hal = Watched::shared(&machine, |call, machine: &Machine| {
        if machine.resets(neighbour) > 0 {
            stop.look(call);
        }
    });
    let dmar = machine.dmar();
    let iommu = front(&hal, &dmar, Options { timeout_ns: u64::MAX, ..TAKES_OVER }).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let cell = cell_of(&iommu, CARD, 1);
    let other = iommu.create_cell(CellConfig { reset: ResetPolicy::Required, ..CONFIG }).unwrap();
    iommu.assign(neighbour, other).unwrap();
    let post = || iommu.post(cell, of(CARD, 0), posting(base, 0, 0x41)).map(|_| ()).unwrap();
    stop.meanwhile(|| iommu.release(neighbour), post).unwrap();
    machine.check();
}

#[test]
fn a_posting_costs_no_look_at_configuration_space() {
    let reads = Cell::new(0);
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let base = page(&machine);
    let hal = Watched::new(&machine, |call, _: &Machine| reads.set(reads.get() + u32::from(call == Call::ConfigRead)));
    let iommu = front(&hal, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let cell = cell_of(&iommu, CARD, 1);
    reads.set(0);
    iommu.post(cell, of(CARD, 0), posting(base, 0, 0x41)).unwrap();
    assert_eq!(reads.get(), 0);
}
