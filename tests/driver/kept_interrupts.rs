//! Interrupts that units are found to remap go on where the caller says so, and all others end.

use std::cell::{Cell, RefCell};

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{Message, Route, Source};
use cofferdam::iommu::{Edit, Error, FoundInterrupt, TableOfInterrupts, Unroutable};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Machine, Reason, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::audit;
use super::interrupts::*;
use super::interrupts_withdrawn::pin_message;
use super::take_over::remap_interrupts;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
const PIN: Source = Source::Pin { io_apic: 0, pin: 3 };
/// IRTA for 256 entries, and for CPUs in x2APIC mode.
const SIZE: u64 = 7;
const EXTENDED: u64 = 1 << 11;

/// An entry with the words of vector 0x41 of CPU 2, for the requests of one function.
fn entry(index: usize, source: SourceId) -> [(usize, u64); 2] {
    [(index * 2, 0x0200_0041_0001), (index * 2 + 1, 1 << 18 | u64::from(source.requester()))]
}

/// What is found: the card's first and second message, a pin's, and the other device's message.
fn found() -> Vec<(usize, u64)> {
    [entry(37, CARD), entry(90, CARD), entry(5, IO_APIC), entry(38, OTHER)].concat()
}

fn message(index: u64) -> Message {
    Message { address: 0xfee0_0010 | index << 5, data: 0 }
}

fn irta(machine: &Machine) -> u64 {
    // SAFETY: each unit that remaps interrupts has this register.
    unsafe { machine.read64(mapped(machine.windows()[0]), 0xb8) }
}

/// GSTS: remapping of interrupts is on, and what is in compatibility format is blocked.
fn remaps(machine: &Machine) -> bool {
    // SAFETY: each unit has this register.
    (unsafe { machine.read32(mapped(machine.windows()[0]), 0x1c) }) >> 23 & 0b101 == 0b100
}

/// A front that is prepared, and a cell with the card that keeps these interrupts.
fn keeping<H: Hal>(hal: H, dmar: &[u8], kept: &[(Source, u16)]) -> (Front<H>, CellId) {
    let iommu = front(hal, dmar, TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.prepare().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    let edits: Vec<_> = kept.iter().map(|&(source, entry)| Edit::Keep(cell, source, entry)).collect();
    iommu.commit(&[&[Edit::Assign(CARD, cell, messages(0))], &edits[..]].concat()).unwrap();
    (iommu, cell)
}

fn free(machine: &Machine, frames: [PhysAddr; 2]) {
    // SAFETY: the unit uses neither any more.
    frames.into_iter().for_each(|frame| unsafe { machine.free(frame, 0) });
}

#[test]
fn what_is_found_is_listed() {
    let machine = machine([UnitConfig::server()]);
    let [_, table] = remap_interrupts(&machine, 0, SIZE, &[&found()[..], &[(80, 0x0200_0041_0081), (81, 0)]].concat());
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    let listed = |iommu: &Front<&Machine>| {
        let mut all = Vec::new();
        iommu
            .found_interrupts(|FoundInterrupt { entry, requester, route, .. }| all.push((entry, requester, route)))
            .unwrap();
        all
    };
    let to = Some(Route::to(2, 0x41));
    // The fifth takes requests of anybody, by NMI.
    let all =
        [(5, Some(IO_APIC), to), (37, Some(CARD), to), (38, Some(OTHER), to), (40, None, None), (90, Some(CARD), to)];
    assert_eq!(listed(&iommu), all);
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    assert_eq!(listed(&iommu), [], "the table is the driver's");
    let told = TableOfInterrupts { address: table, entries: 256, extended: false };
    assert_eq!(iommu.units().next().unwrap().found_interrupts, Some(told));
    machine.abandon();
}

/// R69: at each access of the driver, what is kept arrives where it did, and what is not arrives there or is blocked.
#[test]
fn what_is_kept_goes_on_without_a_gap_and_nothing_else_does() {
    for (name, unit) in remapping_presets() {
        let (looks, sent) = (Cell::new(true), RefCell::new([0, 0]));
        let before = |call: Call, machine: &Machine| {
            if call == Call::ConfigRead || !looks.get() {
                return;
            }
            assert!(remaps(machine), "{name}");
            for (source, index) in [(CARD, 37), (CARD, 90), (IO_APIC, 5)] {
                assert_eq!(send(machine, source, message(index), 0), Ok((2, 0x41)), "{name}: entry {index}");
            }
            let theirs = send(machine, OTHER, message(38), 0);
            assert!(matches!(theirs, Ok((2, 0x41)) | Err(Reason::InterruptNotPresent)), "{name}: {theirs:?}");
            sent.borrow_mut()[usize::from(theirs.is_ok())] += 1;
            let old = machine.interrupt(CARD, 0xfee0_2000, 0x41).map_err(|fault| fault.reason);
            assert_eq!(old, Err(Reason::CompatibilityFormat), "{name}");
        };
        let machine = machine([unit]);
        let frames = remap_interrupts(&machine, 0, SIZE, &found());
        machine.take_violations();
        let hal = Watched::new(machine, before);
        let kept = [(of(CARD, 0), 37), (of(CARD, 1), 90), (PIN, 5)];
        let (iommu, cell) = keeping(&hal, &hal.machine.dmar(), &kept);
        let found = irta(&hal.machine);
        // However many calls it takes.
        for left in 0.. {
            hal.machine.allow_allocations(Some(left));
            match iommu.enable() {
                Ok(_) => break,
                Err(Error::Unit(UnitError::NoFrame { .. })) => assert!(left < 9),
                Err(other) => panic!("{name}: {other}"),
            }
        }
        hal.machine.allow_allocations(None);
        looks.set(false);
        assert!(sent.borrow().iter().all(|count| *count > 3), "{name}: {sent:?}");
        assert!(irta(&hal.machine) != found && remaps(&hal.machine), "{name}");
        assert_eq!(send(&hal.machine, OTHER, message(38), 0), Err(Reason::InterruptNotPresent), "{name}");
        assert_eq!(audit(&iommu), []);
        // The source is programmed with that already, and stays so wherever it goes.
        assert_eq!(iommu.message(of(CARD, 1)).unwrap().address & !8, message(90).address);
        assert_eq!(pin_message(iommu.redirection(0, 3).unwrap()), message(5));
        assert_eq!(iommu.audit(|_| ()).unwrap().interrupts, 3);
        iommu.destroy_cell(cell).unwrap();
        iommu.disable().unwrap();
        assert!(irta(&hal.machine) == found && remaps(&hal.machine), "{name}: handed back");
        assert_eq!(send(&hal.machine, OTHER, message(38), 0), Ok((2, 0x41)), "{name}");
        assert_eq!(hal.machine.frames_in_use(), frames.len(), "{name}");
        hal.machine.abandon();
    }
}

#[test]
fn what_is_kept_is_routed_like_all_else_and_ends_with_its_device() {
    let machine = machine([UnitConfig::server()]);
    let frames = remap_interrupts(&machine, 0, SIZE, &found());
    machine.take_violations();
    let (iommu, cell) = keeping(&machine, &machine.dmar(), &[(of(CARD, 0), 37), (of(CARD, 1), 90), (PIN, 5)]);
    iommu.enable().unwrap();
    free(&machine, frames);
    iommu.route(cell, of(CARD, 1), Route::to(3, 0x55)).unwrap();
    iommu.route(cell, PIN, Route::to(3, 0x56)).unwrap();
    assert_eq!(send(&machine, CARD, message(90), 0), Ok((3, 0x55)));
    assert_eq!(send(&machine, IO_APIC, message(5), 0), Ok((3, 0x56)));
    iommu.unroute(cell, of(CARD, 1)).unwrap();
    assert_eq!(send(&machine, CARD, message(90), 0), Err(Reason::InterruptNotPresent));
    assert_eq!(send(&machine, CARD, message(37), 0), Ok((2, 0x41)));
    iommu.release(CARD).unwrap();
    assert_eq!(send(&machine, CARD, message(37), 0), Err(Reason::InterruptNotPresent));
    iommu.assign_with(CARD, cell, messages(128)).unwrap();
    assert_eq!(
        iommu.message(of(CARD, 0)).unwrap().address & 0x8000,
        0,
        "entries from 0 on but for the pin's, or from 128"
    );
    assert_eq!(send(&machine, CARD, message(37), 0), Err(Reason::InterruptNotPresent), "nothing is routed for it");
    let mut routed = 0;
    iommu.routes(|_| routed += 1).unwrap();
    assert_eq!((routed, audit(&iommu)), (1, vec![]));
    machine.settle();
    machine.check();
    machine.abandon();
}

#[test]
fn only_what_is_found_of_the_source_and_is_the_cells_is_kept() {
    let machine = machine([UnitConfig::server()]);
    let nmi = [(80, 0x0200_0041_0081), (81, 1 << 18 | u64::from(CARD.requester()))];
    let elsewhere = [(82, 0x0400_0041_0001), nmi[1]].map(|(at, word)| (if at == 81 { 83 } else { at }, word));
    remap_interrupts(&machine, 0, SIZE, &[&found()[..], &nmi, &elsewhere].concat());
    machine.take_violations();
    let (iommu, cell) = keeping(&machine, &machine.dmar(), &[(of(CARD, 0), 37)]);
    let keep = |iommu: &Front<&Machine>, source, entry| match iommu.commit(&[Edit::Keep(cell, source, entry)]) {
        Err(Error::Route { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let first = of(CARD, 1);
    assert_eq!(keep(&iommu, first, 38), Unroutable::NotFound(38), "another device's");
    assert_eq!(keep(&iommu, first, 36), Unroutable::NotFound(36), "not present");
    assert_eq!(keep(&iommu, first, 40), Unroutable::NotFound(40), "an NMI");
    assert_eq!(keep(&iommu, first, 256), Unroutable::NotFound(256), "not so many");
    assert!(matches!(keep(&iommu, first, 41), Unroutable::Cpus(_)), "no CPU of the cell's");
    assert_eq!(keep(&iommu, first, 37), Unroutable::EntryTaken(37));
    assert_eq!(keep(&iommu, of(CARD, 0), 90), Unroutable::HasEntry(37));
    assert_eq!(keep(&iommu, of(OTHER, 0), 38), Unroutable::NotHeld);
    assert_eq!(keep(&iommu, Source::Pin { io_apic: 9, pin: 0 }, 5), Unroutable::NoUnit);
    iommu.enable().unwrap();
    assert_eq!(keep(&iommu, first, 90), Unroutable::NotFound(90), "the table is the driver's by now");
    assert_eq!(audit(&iommu), []);
    machine.abandon();
}

/// Entries would be read in the wrong mode for a moment, so the unit's is ended first.
#[test]
fn a_table_in_another_mode_is_not_followed() {
    let machine = machine([UnitConfig::everything()]);
    let theirs = [(74, 0x0002_0041_0001_u64 << 16 | 1), (75, 1 << 18 | u64::from(CARD.requester()))];
    remap_interrupts(&machine, 0, SIZE | EXTENDED, &theirs);
    machine.take_violations();
    let (iommu, cell) = keeping(&machine, &machine.dmar(), &[]);
    let refused = iommu.commit(&[Edit::Keep(cell, of(CARD, 0), 37)]).unwrap_err();
    assert_eq!(refused, Error::Route { source: of(CARD, 0), reason: Unroutable::NotFound(37) });
    iommu.enable().unwrap();
    assert!(remaps(&machine));
    assert_eq!(send(&machine, CARD, message(37), 0), Err(Reason::InterruptNotPresent));
    machine.abandon();
}

/// What was let through in compatibility format is blocked while the driver has the unit, and let through again afterwards.
#[test]
fn compatibility_format_is_given_back_as_it_was_found() {
    let machine = machine([UnitConfig { forgives: vec!["R53"], ..UnitConfig::server() }]);
    remap_interrupts(&machine, 0, SIZE, &found());
    let old = || machine.interrupt(CARD, 0xfee0_2000, 0x41).map_err(|fault| fault.reason);
    // SAFETY: the machine takes any access and reports a wrong one.
    unsafe { machine.write32(mapped(machine.windows()[0]), 0x18, 0x0680_0000) };
    machine.pass(1_000_000);
    assert!(old().is_ok());
    machine.take_violations();
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    assert_eq!(old(), Err(Reason::CompatibilityFormat));
    iommu.disable().unwrap();
    assert!(old().is_ok());
    assert_eq!(machine.violations(), []);
    machine.abandon();
}

/// Each unit has a table of its own, in which a former owner may have used the same entries.
#[test]
fn units_keep_entries_with_the_same_index() {
    let units = [UnitConfig::server().serving(&[7]), UnitConfig::server()];
    let machine = machine(units);
    let far = function(7, 1);
    remap_interrupts(&machine, 0, SIZE, &entry(37, far));
    remap_interrupts(&machine, 1, SIZE, &entry(37, CARD));
    machine.take_violations();
    let iommu = front(&machine, &machine.dmar(), TAKES_OVER).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.prepare().unwrap();
    let [cell, other] = [(); 2].map(|()| iommu.create_cell(CellConfig { ..CONFIG }).unwrap());
    for (device, cell) in [(far, cell), (CARD, other)] {
        iommu.commit(&[Edit::Assign(device, cell, messages(0)), Edit::Keep(cell, of(device, 0), 37)]).unwrap();
    }
    iommu.enable().unwrap();
    for (leaves, stays) in [(CARD, far), (far, OTHER)] {
        iommu.release(leaves).unwrap();
        assert_eq!(send(&machine, leaves, message(37), 0), Err(Reason::InterruptNotPresent));
        if stays != far {
            break;
        }
        // Nobody else gets the entry as long as it is one's.
        iommu.assign_with(OTHER, other, messages(128)).unwrap();
        for index in 0..128 {
            iommu.route(other, of(OTHER, index), Route::to(3, 0x60)).unwrap();
        }
        assert_eq!(send(&machine, OTHER, message(37), 0), Err(Reason::InterruptNotPresent));
        assert_eq!(send(&machine, far, message(37), 0), Ok((2, 0x41)));
        assert_eq!(audit(&iommu), []);
        iommu.release(OTHER).unwrap();
    }
    iommu.assign_with(OTHER, other, messages(64)).unwrap();
    iommu.route(other, of(OTHER, 37), Route::to(3, 0x60)).unwrap();
    assert_eq!(send(&machine, OTHER, message(37), 0), Ok((3, 0x60)), "free again");
    machine.settle();
    machine.check();
    machine.abandon();
}
