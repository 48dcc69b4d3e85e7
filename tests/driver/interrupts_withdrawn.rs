//! What was routed and is not any more, whatever failed meanwhile: nobody inherits it, and it is free again for others.

use std::cell::Cell as Slot;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;
use cofferdam::interrupt::{CpuSet, FoundCourse, InterruptTargets, Message, Route, Source, VectorSet};
use cofferdam::iommu::{Difference, Edit, Error, NotRemapped, Options, Unroutable};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Defect, Machine, Reason, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::watched::{Call, Watched};

use super::audit::audit;
use super::interrupts::*;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const PIN: Source = Source::Pin { io_apic: 0, pin: 3 };
const HERE: Route = Route::to(2, 0x41);
const THERE: Route = Route::to(4, 0x51);
const THEIRS: InterruptTargets =
    InterruptTargets { cpus: CpuSet::NONE.with(4, 5), vectors: VectorSet::ALL, flat_ids: 0b11_0000 };
const OTHER_CONFIG: CellConfig = CellConfig { interrupts: THEIRS, ..CONFIG };
const IRTA: u32 = 0xb8;

fn routes<H: Hal>(iommu: &Front<H>) -> Vec<(Source, CellId, Route)> {
    let mut all = Vec::new();
    iommu.routes(|it| all.push((it.source, it.cell, it.course.route().unwrap()))).unwrap();
    all
}

/// What an IOAPIC sends that has this in its redirection table.
pub(crate) fn pin_message(entry: u64) -> Message {
    Message { address: 0xfee0_0010 | (entry >> 49 & 0x7fff) << 5 | (entry >> 11 & 1) << 2, data: 0 }
}

/// The unit of all dies, is forgotten, and is switched on again after a reset.
fn forgotten(machine: &Machine, iommu: &Front<&Machine>, cell: CellId) {
    machine.break_unit(0, Defect::QueueDead);
    iommu.route(cell, of(CARD, 0), Route::to(3, 0x42)).unwrap_err();
    // SAFETY: no device of the model holds what it got by the unit.
    unsafe { iommu.forget_unit(machine.windows()[0]) }.unwrap();
    machine.mend_unit(0);
    machine.reset_unit(0);
    iommu.enable().unwrap();
}

#[test]
fn what_a_forgotten_device_had_routed_is_nobodys() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(1)).unwrap();
    iommu.route(cell, of(CARD, 0), HERE).unwrap();
    iommu.route(cell, PIN, HERE).unwrap();
    let [message, pin] = [iommu.message(of(CARD, 0)).unwrap(), pin_message(iommu.redirection(0, 3).unwrap())];
    forgotten(&machine, &iommu, cell);
    assert_eq!(routes(&iommu), []);
    assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptNotPresent));
    assert_eq!(send(&machine, IO_APIC, pin, 0), Err(Reason::InterruptNotPresent));
    iommu.destroy_cell(cell).unwrap();
    let other = iommu.create_cell(OTHER_CONFIG).unwrap();
    iommu.assign_with(CARD, other, messages(1)).unwrap();
    assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptNotPresent), "the next owner has routed nothing");
    assert_eq!(audit(&iommu), []);
    machine.abandon();
}

#[test]
fn slots_behind_a_forgotten_unit_are_free_again() {
    let machine = machine([UnitConfig::server()]);
    let iommu = Front::new(&machine, Options::default());
    let limits = Limits { interrupts: 64, ..Limits::DEFAULT };
    iommu.probe_acpi(memory(&limits).leak(), &limits, &machine.dmar(), |_| ()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(64)).unwrap();
    iommu.route(cell, of(CARD, 0), HERE).unwrap();
    forgotten(&machine, &iommu, cell);
    iommu.assign_with(CARD, cell, messages(64)).unwrap();
    machine.abandon();
}

#[test]
fn units_stay_on_while_a_pin_is_routed() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.route(cell, PIN, HERE).unwrap();
    let message = pin_message(iommu.redirection(0, 3).unwrap());
    let refused = iommu.disable().unwrap_err();
    assert_eq!(refused, Error::Route { source: PIN, reason: Unroutable::Taken(cell) });
    assert_eq!(send(&machine, IO_APIC, message, 0), Ok((2, 0x41)), "nothing changed");
    iommu.unroute(cell, PIN).unwrap();
    iommu.disable().unwrap();
    assert_eq!(machine.frames_in_use(), 0);
}

/// A unit that could not be switched off keeps its table, and with it the mode that its entries are written in.
#[test]
fn the_mode_stays_while_a_unit_has_a_table() {
    for x2apic in [false, true] {
        let machine = machine([UnitConfig::server().serving(&[7]), UnitConfig::server()]);
        let iommu = remapping(&machine, x2apic);
        machine.break_unit(1, Defect::StatusStuckHigh(1 << 31));
        iommu.disable().unwrap_err();
        assert_eq!(iommu.remap_interrupts(&[0], !x2apic), Err(Error::NotRemapped(NotRemapped::Late)));
        machine.abandon();
    }
}

#[test]
fn a_device_that_sends_dma_in_another_ones_name_speaks_for_itself_alone() {
    let machine = machine([UnitConfig::server()]);
    let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.add_alias(function(7, 1), function(7, 3).into()).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(function(7, 1), cell, messages(1)).unwrap();
    iommu.route(cell, of(function(7, 1), 0), HERE).unwrap();
    let message = iommu.message(of(function(7, 1), 0)).unwrap();
    assert_eq!(send(&machine, function(7, 1), message, 0), Ok((2, 0x41)));
    for other in [2, 3, 9] {
        assert_eq!(send(&machine, function(7, other), message, 0), Err(Reason::InterruptSource), "{other}");
    }
    // An entry that takes the other name goes to a CPU that is not its cell's, and later to one that is.
    let unit = machine.windows()[0];
    // SAFETY: the unit has this register.
    let entry = PhysAddr::new(unsafe { machine.read64(mapped(unit), IRTA) } & !0xfff) + 2 * 16_u64;
    machine.flip(entry, 0x0400_0051_0001);
    machine.flip(entry + 8, 1 << 18 | u64::from(function(7, 3).requester()));
    let extra = |found| Difference::ExtraInterrupt { unit, index: 2, found: FoundCourse::Remapped(found) };
    let crosses = Difference::InterruptCrosses { unit, index: 2, source: function(7, 1), cell };
    assert_eq!(audit(&iommu), [crosses, extra(THERE)]);
    machine.flip(entry, 0x0600_0000_0000);
    assert_eq!(audit(&iommu), [extra(Route::to(2, 0x51))]);
    machine.abandon();
}

#[test]
fn units_that_do_not_remap_are_reported_when_interrupts_were_to_be() {
    let without = UnitConfig { ecap: UnitConfig::server().ecap & !(1 << 3), ..UnitConfig::server() };
    for (far, defect) in [(without, None), (UnitConfig::server(), Some(Defect::StatusStuckLow(1 << 26)))] {
        let machine = machine([far.serving(&[7]), UnitConfig::server()]);
        let options = Options { accept_unblocked: true, ..Options::default() };
        let iommu = front(&machine, &machine.dmar(), options).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        if let Some(defect) = defect {
            machine.break_unit(0, defect);
        }
        iommu.enable().unwrap();
        assert!(machine.interrupt(function(7, 1), 0xfee0_2000, 0x400).is_ok(), "an NMI");
        let open = Difference::InterruptsOpen { unit: machine.windows()[0] };
        assert!(audit(&iommu).contains(&open));
        machine.abandon();
    }
}

/// The unit dies as a pin is routed by it: it may have seen the entry, so the pin is its cell's until the unit has confirmed that it is
/// cut.
#[test]
fn a_pin_that_was_being_routed_when_its_unit_died_is_nobody_elses() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = remapping(&machine, false);
        let [other, cell] = [OTHER_CONFIG, CONFIG].map(|config| iommu.create_cell(config).unwrap());
        iommu.assign_with(CARD, cell, messages(1)).unwrap();
        iommu.route(cell, of(CARD, 0), HERE).unwrap();
        machine.break_unit(0, Defect::QueueDead);
        // What is granted is flushed for the message, which was elsewhere.
        let message = Edit::Route(cell, of(CARD, 0), Route::to(3, 0x41));
        iommu.commit(&[message, Edit::Route(cell, PIN, HERE)]).unwrap_err();
        let taken = iommu.route(other, PIN, THERE).unwrap_err();
        assert!(matches!(taken, Error::Route { reason: Unroutable::Taken(it), .. } if it == cell), "{name}: {taken:?}");
        assert_eq!(routes(&iommu), [(of(CARD, 0), cell, HERE)], "{name}");
        machine.mend_unit(0);
        machine.reset_unit(0);
        iommu.enable().unwrap();
        let _ = iommu.route(other, PIN, THERE);
        iommu.route(other, PIN, THERE).unwrap();
        machine.abandon();
    }
}

/// A pin that was cut while its unit was dead is free once the unit has confirmed that, also when nobody does anything else behind it.
#[test]
fn a_pin_that_was_cut_is_free_for_who_wants_it_next() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let [first, cell] = [OTHER_CONFIG, CONFIG].map(|config| iommu.create_cell(config).unwrap());
    iommu.route(cell, PIN, HERE).unwrap();
    machine.break_unit(0, Defect::QueueDead);
    iommu.unroute(cell, PIN).unwrap_err();
    iommu.destroy_cell(cell).unwrap_err();
    let taken = iommu.route(first, PIN, THERE).unwrap_err();
    assert!(matches!(taken, Error::Route { reason: Unroutable::Taken(it), .. } if it == cell), "{taken:?}");
    machine.mend_unit(0);
    machine.reset_unit(0);
    iommu.enable().unwrap();
    let _ = iommu.route(first, PIN, THERE);
    iommu.route(first, PIN, THERE).unwrap();
    iommu.destroy_cell(cell).unwrap();
    machine.abandon();
}

type Shared = Watched<Machine, dyn Fn(Call, &Machine) + Sync>;
type Static = &'static Front<&'static Shared>;

thread_local! {
    /// The front that the next pause is to be used for, and its cells.
    static MEANWHILE: Slot<Option<(Static, [CellId; 3])>> = const { Slot::new(None) };
    static GRANTED: Slot<bool> = const { Slot::new(false) };
    static SENT: Slot<Option<Result<(u32, u32), Reason>>> = const { Slot::new(None) };
    static AFTER: Slot<u64> = const { Slot::new(0) };
    static FAILED: Slot<bool> = const { Slot::new(false) };
}

/// A front over two units whose waits are used by `meanwhile`.
fn watched(meanwhile: fn(Call, &Machine)) -> (&'static Machine, Static) {
    let units = [UnitConfig::server().serving(&[7]), UnitConfig::server()];
    let hal: &'static Shared = Box::leak(Box::new(Watched::shared(machine(units), meanwhile)));
    let iommu = front(hal, &hal.machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    (&hal.machine, Box::leak(Box::new(iommu)))
}

/// True if the second entry of the second unit is present: the first is for compatibility with nobody.
fn is_routed(machine: &Machine) -> bool {
    // SAFETY: each unit that remaps interrupts has this register.
    let pointer = unsafe { machine.read64(mapped(machine.windows()[1]), IRTA) };
    peek(machine, (pointer & !0xfff) + 16) & 1 != 0
}

/// Another cell routes a pin while a change that failed takes back what it had granted.
fn route_another(call: Call, machine: &Machine) {
    let Some((iommu, [_, other, _])) = MEANWHILE.get().filter(|_| call == Call::Pause) else { return };
    if is_routed(machine) {
        GRANTED.set(true);
    } else if GRANTED.get() {
        MEANWHILE.set(None);
        let pin = Source::Pin { io_apic: 0, pin: 9 };
        let routed = iommu.route(other, pin, THERE);
        let sent = iommu.redirection(0, 9).map(|entry| send(machine, IO_APIC, pin_message(entry), 0));
        SENT.set(sent.ok().filter(|_| routed.is_ok()));
    }
}

#[test]
fn a_slot_whose_route_is_being_taken_back_is_not_given_away() {
    let (machine, iommu) = watched(route_another);
    let [cell, other] = [CONFIG, OTHER_CONFIG].map(|config| iommu.create_cell(config).unwrap());
    let far = function(7, 1);
    iommu.assign_with(far, cell, messages(1)).unwrap();
    iommu.route(cell, of(far, 0), HERE).unwrap();
    iommu.route(cell, PIN, HERE).unwrap();
    machine.break_unit(1, Defect::QueueErrorAfter(0));
    iommu.unroute(cell, PIN).unwrap_err();
    machine.mend_unit(1);
    machine.break_unit(1, Defect::Slow(20_000));
    machine.break_unit(0, Defect::QueueErrorAfter(0));
    MEANWHILE.set(Some((iommu, [cell, other, other])));
    let edits = [Edit::Route(cell, PIN, Route::to(3, 0x45)), Edit::Route(cell, of(far, 0), Route::to(3, 0x46))];
    iommu.commit(&edits).unwrap_err();
    assert!(MEANWHILE.take().is_none(), "nobody came between");
    assert!(matches!(SENT.get(), None | Some(Ok((4, 0x51)))), "{:?}", SENT.get());
    machine.check();
}

/// Another cell's change fails behind the unit that a pin is moved at.
fn fail_another(call: Call, machine: &Machine) {
    let Some((iommu, [.., third])) = MEANWHILE.get().filter(|_| call == Call::Pause && !is_routed(machine)) else {
        return;
    };
    MEANWHILE.set(None);
    machine.break_unit(1, Defect::QueueErrorAfter(AFTER.get()));
    FAILED.set(iommu.route(third, of(CARD, 0), Route::to(3, 0x77)).is_err());
    machine.mend_unit(1);
    machine.break_unit(1, Defect::Slow(20_000));
}

#[test]
fn a_pin_that_moves_while_another_change_fails_has_one_owner() {
    let mut failed = 0;
    for after in 0..8 {
        let (machine, iommu) = watched(fail_another);
        let [a, b, c] = [CONFIG, OTHER_CONFIG, CONFIG].map(|config| iommu.create_cell(config).unwrap());
        iommu.assign_with(CARD, c, messages(1)).unwrap();
        iommu.route(c, of(CARD, 0), HERE).unwrap();
        iommu.route(a, PIN, HERE).unwrap();
        machine.break_unit(1, Defect::Slow(20_000));
        AFTER.set(after);
        FAILED.set(false);
        MEANWHILE.set(Some((iommu, [a, b, c])));
        let moved = iommu.commit(&[Edit::Unroute(a, PIN), Edit::Route(b, PIN, THERE)]);
        MEANWHILE.set(None);
        failed += u32::from(FAILED.get());
        let owners: Vec<_> = routes(iommu).into_iter().filter(|it| it.0 == PIN).map(|it| it.1).collect();
        assert!(owners.len() <= 1, "after {after}: {owners:?}");
        if moved.is_ok() {
            assert_eq!(owners, [b], "after {after}");
            assert!(iommu.route(a, PIN, Route::to(3, 0x47)).is_err(), "after {after}: it is another's");
            iommu.route(b, PIN, Route::to(5, 0x52)).unwrap();
        }
        machine.check();
    }
    assert_ne!(failed, 0, "no other change failed");
}
