//! Interrupts that are posted: recorded in a descriptor that the hypervisor hands over (R60).

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{CpuSet, Destination, FoundCourse, InterruptTargets, Message, Posting, Route, Source};
use cofferdam::iommu::{Difference, Edit, Error, Options, Unroutable};
use cofferdam::vtd::PostedDescriptor;
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Defect, Machine, Reason, Targets, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::Watched;

use super::audit::audit;
use super::interrupts::*;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
const HERE: Route = Route::to(2, 0x41);
/// The hypervisor's CPU, which no cell has, is notified.
const NOTICE: Destination = Destination { apic_id: 9, vector: 0xf2 };
const NOTIFIED: Result<(u32, u32), Reason> = Ok((9, 0xf2));
/// No notice is sent, since one is outstanding.
const SILENT: Result<(u32, u32), Reason> = Ok((0, 0));

/// Units that post interrupts.
fn posting_presets() -> Vec<(&'static str, UnitConfig)> {
    remapping_presets().into_iter().map(|(name, unit)| (name, unit.posts_interrupts())).collect()
}

/// Descriptors of the hypervisor, in memory of its own: 64 of them.
struct Descriptors<'m> {
    base: PhysAddr,
    all: &'m [PostedDescriptor; 64],
}

impl<'m> Descriptors<'m> {
    fn of(machine: &'m Machine) -> Self {
        let base = machine.allocate(0).unwrap();
        // SAFETY: the frame is allocated.
        let first = unsafe { machine.phys_to_virt(base) }.cast::<[PostedDescriptor; 64]>();
        // SAFETY: nobody frees it, and nobody but units uses it otherwise. It is zero, as a descriptor may be.
        let all = unsafe { first.as_ref() };
        all.iter().for_each(|descriptor| descriptor.notify(NOTICE, false));
        Self { base, all }
    }

    fn at(&self, index: usize) -> PhysAddr {
        self.base + index as u64 * 64
    }

    fn posting(&self, index: usize, vector: u8) -> Posting {
        // SAFETY: there is a descriptor, as long as the machine lives.
        unsafe { Posting::new(self.at(index), vector) }
    }

    /// What was recorded since the last look.
    fn take(&self, index: usize) -> Vec<u8> {
        let words = self.all[index].take();
        (0..=255).filter(|vector| words[usize::from(vector / 64)] >> (vector % 64) & 1 == 1).collect()
    }
}

fn wild(at: u64) -> Posting {
    // SAFETY: the driver hands this to no unit, which is what the test is about.
    unsafe { Posting::new(PhysAddr::new(at), 0x41) }
}

/// A cell of one device with this many messages.
pub(crate) fn cell_of<H: Hal>(iommu: &Front<H>, device: SourceId, count: u16) -> CellId {
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(device, cell, messages(count)).unwrap();
    cell
}

fn courses<H: Hal>(iommu: &Front<H>) -> Vec<(Source, FoundCourse)> {
    let mut all = Vec::new();
    iommu.routes(|it| all.push((it.source, it.course))).unwrap();
    all
}

fn posted(posting: Posting) -> FoundCourse {
    let (descriptor, vector, urgent) = (posting.descriptor(), posting.vector(), posting.is_urgent());
    FoundCourse::Posted { descriptor, vector, urgent }
}

#[test]
fn what_is_posted_is_recorded_and_its_cpu_notified() {
    for (name, unit) in posting_presets() {
        let machine = machine([unit]);
        let descriptors = Descriptors::of(&machine);
        let iommu = remapping(&machine, false);
        let cell = cell_of(&iommu, CARD, 2);
        let none = Targets { cpus: Vec::new(), flat_ids: Some(0), vectors: 16..=16 };
        machine.set_targets([(1, none)], [(CARD, 1), (OTHER, 2)]);
        machine.set_descriptors([(descriptors.at(5).as_u64(), 1)]);
        let posting = descriptors.posting(5, 0x83);
        iommu.post(cell, of(CARD, 0), posting).unwrap();
        let message = iommu.message(of(CARD, 0)).unwrap();
        assert_eq!(send(&machine, CARD, message, 0), NOTIFIED, "{name}");
        assert_eq!(send(&machine, CARD, message, 0), SILENT, "{name}");
        assert_eq!(descriptors.take(5), [0x83]);
        assert_eq!(send(&machine, OTHER, message, 0), Err(Reason::InterruptSource), "{name}");
        assert_eq!(send(&machine, CARD, message, 1), Err(Reason::InterruptNotPresent), "{name}");
        assert_eq!((descriptors.take(5), courses(&iommu)), (vec![], vec![(of(CARD, 0), posted(posting))]));
        assert_eq!(audit(&iommu), [], "{name}");
        // What is urgent is notified of also while others are not.
        descriptors.all[5].suppress();
        assert_eq!(send(&machine, CARD, message, 0), SILENT);
        iommu.post(cell, of(CARD, 0), posting.urgent()).unwrap();
        assert_eq!(send(&machine, CARD, message, 0), NOTIFIED);
        assert_eq!((descriptors.take(5), audit(&iommu)), (vec![0x83], vec![]));
        iommu.unroute(cell, of(CARD, 0)).unwrap();
        assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptNotPresent));
        machine.check();
    }
}

#[test]
fn in_x2apic_mode_wide_ids_are_notified() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, true);
    let cell = cell_of(&iommu, CARD, 1);
    descriptors.all[0].notify(Destination { apic_id: 0x1234, vector: 0xf2 }, true);
    iommu.post(cell, of(CARD, 0), descriptors.posting(0, 0xff)).unwrap();
    let message = iommu.message(of(CARD, 0)).unwrap();
    assert_eq!(send(&machine, CARD, message, 0), Ok((0x1234, 0xf2)));
    assert_eq!((descriptors.take(0), audit(&iommu)), (vec![0xff], vec![]));
}

/// A device that interrupts before each access of a change: what became of each interrupt.
#[test]
fn between_routes_and_postings_no_interrupt_is_lost_or_goes_elsewhere() {
    for (name, unit) in posting_presets() {
        let plain = machine([unit]);
        let descriptors = Descriptors::of(&plain);
        let (message, seen) = (std::cell::Cell::new(None::<Message>), std::cell::RefCell::new(Vec::new()));
        let look = |_: cofferdam_support::watched::Call, machine: &Machine| {
            let Some(message) = message.get() else { return };
            let sent = send(machine, CARD, message, 0);
            seen.borrow_mut().push((sent, descriptors.take(1), descriptors.take(63)));
        };
        let watched = Watched::new(&plain, look);
        let iommu = front(&watched, &plain.dmar(), Options::default()).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        iommu.enable().unwrap();
        let cell = cell_of(&iommu, CARD, 1);
        iommu.route(cell, of(CARD, 0), HERE).unwrap();
        message.set(Some(iommu.message(of(CARD, 0)).unwrap()));
        let (routed, near) = ((Ok((2, 0x41)), vec![], vec![]), (NOTIFIED, vec![0x83], vec![]));
        let far = (NOTIFIED, vec![], vec![0x30]);
        let edits = [
            (Edit::Post(cell, of(CARD, 0), descriptors.posting(1, 0x83)), near.clone()),
            (Edit::Post(cell, of(CARD, 0), descriptors.posting(63, 0x30)), far),
            (Edit::Post(cell, of(CARD, 0), descriptors.posting(1, 0x83)), near),
            (Edit::Route(cell, of(CARD, 0), HERE), routed.clone()),
        ];
        let mut before = routed;
        for (edit, after) in edits {
            seen.borrow_mut().clear();
            iommu.commit(&[edit]).unwrap();
            let all = seen.borrow();
            assert!(all.len() > 10 && all.iter().all(|it| *it == before || *it == after), "{name}: {all:?}");
            assert!(all.contains(&before) && all.contains(&after), "{name}: {all:?}");
            before = after;
        }
        message.set(None);
        plain.check();
    }
}

#[test]
fn what_cannot_be_posted_is_refused_by_name() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let cell = cell_of(&iommu, CARD, 1);
    let reason = |source, posting| unroutable(iommu.post(cell, source, posting));
    let (source, good) = (of(CARD, 0), descriptors.posting(0, 0x41));
    assert_eq!(reason(source, descriptors.posting(0, 15)), Unroutable::Vector(15));
    assert_eq!(reason(of(CARD, 1), good), Unroutable::NotHeld);
    assert_eq!(reason(of(OTHER, 0), good), Unroutable::NotHeld);
    assert_eq!(reason(Source::Pin { io_apic: 0, pin: 1 }, good), Unroutable::PostedPin);
    assert_eq!(reason(Source::Timer { hpet: 9, timer: 0 }, good), Unroutable::NoUnit);
    // Beside a boundary, in memory of cells, half in it, above what the machine has, and at the end of all addresses.
    let base = descriptors.base.as_u64();
    let end = (base..).step_by(4096).find(|at| own(&machine, *at).is_none()).unwrap();
    for at in [base + 8, base + 32, 0x10_0000, end, 1 << 46, (1 << 52) - 64] {
        assert_eq!(reason(source, wild(at)), Unroutable::Descriptor(PhysAddr::new(at)), "{at:#x}");
    }
    assert_eq!(courses(&iommu), []);
    let before = machine.snapshot();
    assert!(iommu.post(cell, source, wild(0x10_0000)).is_err());
    assert_eq!(machine.snapshot(), before);
    iommu.post(cell, source, descriptors.posting(0, 16)).unwrap();
    machine.check();
}

fn own(machine: &Machine, at: u64) -> Option<cofferdam::addr::PhysRange> {
    machine.own_memory(cofferdam::addr::PhysRange::new(PhysAddr::new(at), 64).unwrap())
}

#[test]
fn a_unit_that_cannot_post_says_so() {
    let machine = machine([UnitConfig::server()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let cell = cell_of(&iommu, CARD, 1);
    assert_eq!(unroutable(iommu.post(cell, of(CARD, 0), descriptors.posting(0, 0x41))), Unroutable::NotPosted);
    machine.check();
}

#[test]
fn a_descriptor_is_one_cells() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let (cell, other) = (cell_of(&iommu, CARD, 2), cell_of(&iommu, OTHER, 2));
    let shared = descriptors.posting(1, 0x41);
    let post = |cell, device, index| Edit::Post(cell, of(device, index), shared);
    // In one change, and after another; also by another message, and with another vector.
    let both = iommu.commit(&[post(cell, CARD, 0), post(other, OTHER, 0)]);
    assert_eq!(unroutable(both), Unroutable::DescriptorTaken(cell));
    assert_eq!(courses(&iommu), []);
    iommu.commit(&[post(cell, CARD, 1), post(cell, CARD, 0)]).unwrap();
    assert_eq!(
        unroutable(iommu.post(other, of(OTHER, 1), descriptors.posting(1, 0x99))),
        Unroutable::DescriptorTaken(cell)
    );
    // What ends in the same change may be recorded until that is done.
    let moved = [Edit::Unroute(cell, of(CARD, 0)), Edit::Unroute(cell, of(CARD, 1)), post(other, OTHER, 0)];
    assert_eq!(unroutable(iommu.commit(&moved)), Unroutable::DescriptorTaken(cell));
    assert_eq!(courses(&iommu).len(), 2);
    iommu.commit(&moved[..2]).unwrap();
    iommu.commit(&moved[2..]).unwrap();
    assert_eq!(audit(&iommu), []);
    iommu.destroy_cell(other).unwrap();
    iommu.commit(&[post(cell, CARD, 0)]).unwrap();
    machine.check();
}

#[test]
fn what_is_posted_ends_with_the_device_and_moves_with_none() {
    for (name, unit) in posting_presets() {
        let machine = machine([unit]);
        let descriptors = Descriptors::of(&machine);
        let iommu = remapping(&machine, false);
        let (cell, other) = (cell_of(&iommu, CARD, 1), cell_of(&iommu, OTHER, 1));
        iommu.post(cell, of(CARD, 0), descriptors.posting(0, 0x41)).unwrap();
        let message = iommu.message(of(CARD, 0)).unwrap();
        iommu.commit(&[Edit::Release(CARD), Edit::Assign(CARD, other, messages(1))]).unwrap();
        for message in [message, iommu.message(of(CARD, 0)).unwrap()] {
            assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptNotPresent), "{name}");
        }
        assert_eq!((descriptors.take(0), courses(&iommu), audit(&iommu)), (vec![], vec![], vec![]), "{name}");
        machine.check();
    }
}

#[test]
fn a_change_that_fails_leaves_what_was() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let cell = cell_of(&iommu, CARD, 1);
    iommu.post(cell, of(CARD, 0), descriptors.posting(0, 0x41)).unwrap();
    let message = iommu.message(of(CARD, 0)).unwrap();
    let before = courses(&iommu);
    machine.break_unit(0, Defect::QueueDead);
    for edit in [Edit::Route(cell, of(CARD, 0), HERE), Edit::Post(cell, of(CARD, 0), descriptors.posting(1, 0x42))] {
        let failed = iommu.commit(&[edit]);
        assert!(matches!(failed, Err(Error::Unit(UnitError::Timeout { .. } | UnitError::Failed { .. }))), "{failed:?}");
        assert_eq!(courses(&iommu), before);
    }
    let _ = send(&machine, CARD, message, 0);
    machine.abandon();
}

#[test]
fn an_audit_says_where_an_entry_is_posted_that_is_not_right() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let (cell, other) = (cell_of(&iommu, CARD, 1), cell_of(&iommu, OTHER, 1));
    iommu.post(cell, of(CARD, 0), descriptors.posting(1, 0x41)).unwrap();
    iommu.post(other, of(OTHER, 0), descriptors.posting(2, 0x41)).unwrap();
    assert_eq!(audit(&iommu), []);
    let unit = machine.windows()[0];
    // SAFETY: the unit has this register.
    let table = PhysAddr::new(unsafe { machine.read64(mapped(unit), 0xb8) } & !0xfff);
    let index = (iommu.message(of(CARD, 0)).unwrap().address as u32 >> 5 & 0x7fff) as u16;
    let entry = table + u64::from(index) * 16;
    let found =
        |descriptor, vector, urgent| FoundCourse::Posted { descriptor: descriptors.at(descriptor), vector, urgent };
    let crosses = Difference::InterruptCrosses { unit, index, source: CARD, cell };
    for (bits, found, crossing) in [
        (1 << 14, found(1, 0x41, true), false),
        (1 << 16, found(1, 0x40, false), false),
        (3 << 38, found(2, 0x41, false), true),
        (1 << 39, found(3, 0x41, false), true),
        (1 << 2, FoundCourse::Neither, true),
    ] {
        machine.flip(entry, bits);
        let other = Difference::OtherInterrupt { unit, index, found };
        let all = audit(&iommu);
        assert_eq!(all, if crossing { vec![crosses, other] } else { vec![other] }, "{bits:#x}");
        assert!(all.iter().all(|difference| !difference.to_string().is_empty()));
        machine.flip(entry, bits);
    }
    // Whose requests are taken: SID, SQ and SVT.
    for bit in [0, 7, 15, 16, 17, 18, 19] {
        machine.flip(entry + 8, 1 << bit);
        let other = Difference::OtherInterrupt { unit, index, found: found(1, 0x41, false) };
        let neither = Difference::OtherInterrupt { unit, index, found: FoundCourse::Neither };
        let all = audit(&iommu);
        assert!(all.contains(&other) || bit == 19 && all.contains(&neither), "{bit}: {all:?}");
        machine.flip(entry + 8, 1 << bit);
    }
    assert_eq!(audit(&iommu), []);
    machine.check();
}

#[test]
fn a_cells_own_cpus_are_no_question_for_what_is_posted() {
    let machine = machine([UnitConfig::server().posts_interrupts()]);
    let descriptors = Descriptors::of(&machine);
    let iommu = remapping(&machine, false);
    let nowhere = InterruptTargets { cpus: CpuSet::NONE, ..InterruptTargets::NONE };
    let cell = iommu.create_cell(CellConfig { interrupts: nowhere, ..CONFIG }).unwrap();
    iommu.assign_with(CARD, cell, messages(1)).unwrap();
    assert!(iommu.route(cell, of(CARD, 0), HERE).is_err());
    iommu.post(cell, of(CARD, 0), descriptors.posting(1, 0x20)).unwrap();
    assert_eq!(audit(&iommu), []);
    machine.check();
}
