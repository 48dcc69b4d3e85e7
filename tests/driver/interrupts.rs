//! Interrupts go where they are routed, and nowhere else, whoever sends them and in whatever name.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::interrupt::{CpuSet, Cpus, Delivery, InterruptTargets, Message, Route, Source, Trigger, VectorSet};
use cofferdam::iommu::{DeviceConfig, Difference, Edit, Error, NotRemapped, Options, Refusal, UnitState, Unroutable};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{Machine, Reason, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
/// The IOAPIC of the model's table, and whose name it sends in.
pub(crate) const IO_APIC: SourceId = SourceId::from_requester(0, 0xff00);

/// CPUs 2 and 3, and vectors from 0x40 on.
const TARGETS: InterruptTargets =
    InterruptTargets { cpus: CpuSet::NONE.with(2, 3), vectors: VectorSet::NONE.with(0x40, 0xff), flat_ids: 0b1100 };
/// CPUs 4 and 5.
const OTHERS: InterruptTargets = InterruptTargets { cpus: CpuSet::NONE.with(4, 5), flat_ids: 0b11_0000, ..TARGETS };
pub(crate) const CONFIG: CellConfig =
    CellConfig { allow_unknown_isolation: true, interrupts: TARGETS, ..CellConfig::DEFAULT };
const OTHER_CONFIG: CellConfig = CellConfig { interrupts: OTHERS, ..CONFIG };

pub(crate) fn messages(count: u16) -> DeviceConfig {
    DeviceConfig { messages: count, ..DeviceConfig::default() }
}

pub(crate) fn of(device: SourceId, index: u16) -> Source {
    Source::Message { device, index }
}

/// Units that remap interrupts.
pub(crate) fn remapping_presets() -> Vec<(&'static str, UnitConfig)> {
    presets().into_iter().filter(|(_, unit)| unit.ecap >> 3 & 1 == 1).collect()
}

/// A front over a machine whose interrupts are remapped, switched on.
pub(crate) fn remapping(machine: &Machine, x2apic: bool) -> Front<&Machine> {
    let iommu = front(machine, &machine.dmar(), Options::default()).unwrap();
    iommu.remap_interrupts(&[0], x2apic).unwrap();
    iommu.enable().unwrap();
    iommu
}

/// What comes of a message that a device sends, with something added to the data.
pub(crate) fn send(machine: &Machine, device: SourceId, message: Message, number: u32) -> Result<(u32, u32), Reason> {
    let sent = machine.interrupt(device, message.address as u32, message.data + number);
    let (address, data) = sent.map_err(|fault| fault.reason)?;
    Ok((address as u32 >> 12 & 0xff | ((address >> 40) as u32) << 8, data & 0xff))
}

fn cell_of(iommu: &Front<&Machine>, config: CellConfig, device: SourceId, count: u16) -> CellId {
    let cell = iommu.create_cell(config).unwrap();
    iommu.assign_with(device, cell, messages(count)).unwrap();
    cell
}

pub(crate) fn unroutable(result: Result<cofferdam::iommu::Committed, Error>) -> Unroutable {
    match result {
        Err(Error::Route { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_interrupts_its_own_cell_and_nobody_else() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = remapping(&machine, false);
        let [cell, other] = [(CONFIG, CARD), (OTHER_CONFIG, OTHER)].map(|(config, id)| cell_of(&iommu, config, id, 4));
        iommu.route(cell, of(CARD, 0), Route::to(2, 0x41)).unwrap();
        iommu.route(cell, of(CARD, 3), Route::to(3, 0x42)).unwrap();
        iommu.route(other, of(OTHER, 0), Route::to(4, 0x41)).unwrap();
        let [first, fourth, theirs] = [of(CARD, 0), of(CARD, 3), of(OTHER, 0)].map(|it| iommu.message(it).unwrap());
        assert_eq!(send(&machine, CARD, first, 0), Ok((2, 0x41)), "{name}");
        assert_eq!(send(&machine, CARD, first, 3), Ok((3, 0x42)), "the fourth of MSI");
        assert_eq!(send(&machine, CARD, fourth, 0), Ok((3, 0x42)), "the fourth of MSI-X");
        assert_eq!(send(&machine, OTHER, theirs, 0), Ok((4, 0x41)));
        // What is not routed, what is another's, what is beyond the table, and any in compatibility format.
        assert_eq!(send(&machine, CARD, first, 1), Err(Reason::InterruptNotPresent));
        assert_eq!(send(&machine, CARD, theirs, 0), Err(Reason::InterruptSource));
        assert_eq!(send(&machine, OTHER, first, 0), Err(Reason::InterruptSource));
        assert_eq!(send(&machine, CARD, first, 0xffff), Err(Reason::InterruptIndex));
        assert_eq!(
            send(&machine, CARD, Message { address: 0xfee0_4000, data: 0x41 }, 0),
            Err(Reason::CompatibilityFormat)
        );
        let audit = iommu.audit(|difference| panic!("{name}: {difference}")).unwrap();
        assert_eq!((audit.interrupts, audit.unremapped), (3, 0));
        iommu.unroute(cell, of(CARD, 0)).unwrap();
        assert_eq!(send(&machine, CARD, first, 0), Err(Reason::InterruptNotPresent));
        iommu.release(CARD).unwrap();
        assert_eq!(send(&machine, CARD, fourth, 0), Err(Reason::InterruptNotPresent));
        iommu.destroy_cell(other).unwrap();
        assert_eq!(send(&machine, OTHER, theirs, 0), Err(Reason::InterruptNotPresent));
        iommu.destroy_cell(cell).unwrap();
        let iommu = iommu;
        iommu.disable().unwrap();
        assert_eq!(machine.frames_in_use(), 0, "{name}");
        machine.settle();
        machine.check();
    }
}

#[test]
fn a_live_route_goes_to_the_old_place_or_the_new_one() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = remapping(&machine, false);
        let cell = cell_of(&iommu, CONFIG, CARD, 1);
        iommu.route(cell, of(CARD, 0), Route::to(2, 0x41)).unwrap();
        let message = iommu.message(of(CARD, 0)).unwrap();
        assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41)));
        for vector in 0x42..0x60 {
            let to = Route::to(2 + u32::from(vector % 2), vector);
            iommu.route(cell, of(CARD, 0), to).unwrap();
            let now = send(&machine, CARD, message, 0);
            assert_eq!(now, Ok((2 + u32::from(vector % 2), vector.into())), "{name}");
            assert_eq!(iommu.message(of(CARD, 0)).unwrap(), message, "the device is not programmed again");
        }
        let before = iommu.statistics();
        iommu.route(cell, of(CARD, 0), Route::to(2, 0x40)).unwrap();
        let after = iommu.statistics();
        assert_eq!((after.doorbells - before.doorbells, after.waits - before.waits), (1, 1), "{name}");
        machine.settle();
        machine.check();
    }
}

#[test]
fn a_pin_belongs_to_the_cell_that_routes_it() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let [cell, other] = [CONFIG, OTHER_CONFIG].map(|config| iommu.create_cell(config).unwrap());
    let pin = Source::Pin { io_apic: 0, pin: 9 };
    let level = Route { trigger: Trigger::Level, ..Route::to(2, 0x55) };
    iommu.route(cell, pin, level).unwrap();
    let entry = iommu.redirection(0, 9).unwrap();
    assert_eq!((entry & 0xff, entry >> 15 & 1, entry >> 48 & 1), (0x55, 1, 1));
    let message = Message { address: 0xfee0_0010 | (entry >> 49 & 0x7fff) << 5 | (entry >> 11 & 1) << 2, data: 0 };
    assert_eq!(send(&machine, IO_APIC, message, 0), Ok((2, 0x55)));
    assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptSource));
    assert_eq!(unroutable(iommu.route(other, pin, Route::to(4, 0x55))), Unroutable::Taken(cell));
    assert_eq!(unroutable(iommu.unroute(other, pin)), Unroutable::NotRouted);
    let nowhere = Source::Pin { io_apic: 7, pin: 0 };
    assert_eq!(unroutable(iommu.route(cell, nowhere, level)), Unroutable::NoUnit);
    assert!(matches!(iommu.message(pin), Err(Error::Route { .. })), "a pin sends no message of its own");
    iommu.route(cell, pin, Route::to(3, 0x56)).unwrap();
    assert_eq!(iommu.redirection(0, 9).unwrap() & 0x80ff, 0x56);
    // It moves to another cell in one change.
    iommu.commit(&[Edit::Unroute(cell, pin), Edit::Route(other, pin, Route::to(5, 0x57))]).unwrap();
    let mut all = Vec::new();
    iommu.routes(|routed| all.push((routed.source, routed.cell, routed.course.route().unwrap()))).unwrap();
    assert_eq!(all, [(pin, other, Route::to(5, 0x57))]);
    assert_eq!(send(&machine, IO_APIC, message, 0), Err(Reason::InterruptNotPresent), "the old cell's slot");
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    iommu.destroy_cell(other).unwrap();
    iommu.routes(|routed| panic!("{routed:?}")).unwrap();
    iommu.route(cell, pin, level).unwrap();
    machine.settle();
    machine.check();
}

#[test]
fn what_a_cell_may_not_have_is_refused_by_name() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let cell = cell_of(&iommu, CONFIG, CARD, 2);
    let route = |route| unroutable(iommu.route(cell, of(CARD, 0), route));
    assert_eq!(route(Route::to(4, 0x41)), Unroutable::Cpus(Cpus::Physical(4)));
    assert_eq!(route(Route::to(2, 0x3f)), Unroutable::Vector(0x3f));
    assert_eq!(route(Route { trigger: Trigger::Level, ..Route::to(2, 0x41) }), Unroutable::Level);
    let set = |set| Route { cpus: Cpus::Logical(set), delivery: Delivery::LowestPriority, ..Route::to(0, 0x41) };
    assert_eq!(route(set(0b1_1100)), Unroutable::Cpus(Cpus::Logical(0b1_1100)));
    let all = iommu.route(cell, of(CARD, 0), set(0b1100));
    assert!(all.is_ok());
    assert_eq!(unroutable(iommu.route(cell, of(CARD, 2), Route::to(2, 0x41))), Unroutable::NotHeld);
    assert_eq!(unroutable(iommu.route(cell, of(OTHER, 0), Route::to(2, 0x41))), Unroutable::NotHeld);
    assert_eq!(unroutable(iommu.unroute(cell, of(CARD, 1))), Unroutable::NotRouted);
    let other = iommu.create_cell(OTHER_CONFIG).unwrap();
    assert_eq!(unroutable(iommu.route(other, of(CARD, 0), Route::to(4, 0x41))), Unroutable::NotHeld);
    // A refused change leaves what was routed.
    let both = [Edit::Unroute(cell, of(CARD, 0)), Edit::Route(cell, of(CARD, 1), Route::to(9, 0x41))];
    assert!(iommu.commit(&both).is_err());
    let message = iommu.message(of(CARD, 0)).unwrap();
    let sent = machine.interrupt(CARD, message.address as u32, 0).unwrap();
    assert_eq!(sent, (0xfee0_c00c, 0x4141), "logical, to one of them, with lowest priority");
    iommu.audit(|difference| panic!("{difference}")).unwrap();
}

#[test]
fn a_table_is_full_by_name_and_refused_slots_are_free_again() {
    let machine = machine([UnitConfig::server()]);
    let iommu = Front::new(&machine, Options::default());
    let limits = Limits { interrupts: 64, lines: 1, ..Limits::DEFAULT };
    iommu.probe_acpi(memory(&limits).leak(), &limits, &machine.dmar(), |_| ()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let cell = cell_of(&iommu, CONFIG, CARD, 33);
    let full = iommu.assign_with(OTHER, cell, messages(1));
    assert!(matches!(full, Err(Error::Full(full)) if full.what == "interrupts" && full.capacity == 64), "{full:?}");
    iommu.release(CARD).unwrap();
    for _ in 0..3 {
        // A change that is refused gives the slots back that it took.
        let edits = [Edit::Assign(CARD, cell, messages(64)), Edit::Assign(OTHER, cell, messages(1))];
        assert!(matches!(iommu.commit(&edits), Err(Error::Full(_))));
        let edits =
            [Edit::Assign(CARD, cell, messages(64)), Edit::Release(CARD), Edit::Assign(OTHER, cell, messages(64))];
        iommu.commit(&edits).unwrap();
        iommu.release(OTHER).unwrap();
    }
    iommu.route(cell, Source::Pin { io_apic: 0, pin: 0 }, Route::to(2, 0x41)).unwrap();
    let full = iommu.route(cell, Source::Pin { io_apic: 0, pin: 1 }, Route::to(2, 0x41));
    assert!(matches!(full, Err(Error::Full(full)) if full.capacity == 1), "{full:?}");
    assert!(matches!(iommu.assign_with(OTHER, cell, messages(64)), Err(Error::Full(_))));
    iommu.assign_with(OTHER, cell, messages(32)).unwrap();
}

#[test]
fn a_machine_whose_interrupts_cannot_be_remapped_says_why() {
    let reason = |units: Vec<UnitConfig>, io_apics: &[u8], x2apic| {
        let machine = machine(units);
        let iommu = front_with_findings(&machine, &machine.dmar(), Options::default(), |_| ()).unwrap();
        match iommu.remap_interrupts(io_apics, x2apic) {
            Err(Error::NotRemapped(reason)) => Some(reason),
            Ok(()) => None,
            Err(error) => panic!("{error}"),
        }
    };
    let without = |unit: UnitConfig, bit: u32| UnitConfig { ecap: unit.ecap & !(1 << bit), ..unit };
    let server = UnitConfig::server;
    assert_eq!(reason(vec![server()], &[0], false), None);
    assert_eq!(reason(vec![server()], &[0, 3], false), Some(NotRemapped::IoApic(3)));
    assert_eq!(reason(vec![without(server(), 3)], &[], false), Some(NotRemapped::Firmware));
    assert_eq!(reason(vec![without(server(), 1)], &[0], false), Some(NotRemapped::NoUnit), "it has no queue");
    let two = |second: UnitConfig| vec![server().serving(&[7]), second];
    for bit in [1, 3] {
        assert_eq!(reason(two(without(server(), bit)), &[0], false), None, "the other unit can");
    }
    let mixed = reason(two(without(server(), 4)), &[0], true);
    assert!(matches!(mixed, Some(NotRemapped::NotExtended(_))), "{mixed:?}");
    assert_eq!(reason(two(server()), &[0], true), None);
    let old = machine([server()]);
    old.lose_pair_stores();
    let iommu = front(&old, &old.dmar(), Options::default()).unwrap();
    assert_eq!(iommu.remap_interrupts(&[0], false), Err(Error::NotRemapped(NotRemapped::NoPairStore)));
    let only = UnitConfig { ecap: server().ecap | 1 << 61, ..server() };
    assert!(matches!(reason(vec![only], &[0], false), Some(NotRemapped::ExtendedOnly(_))));
    let machine = machine([server()]);
    let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
    iommu.prepare().unwrap();
    assert_eq!(iommu.remap_interrupts(&[0], false), Err(Error::NotRemapped(NotRemapped::Late)));
    let mut opted_out = machine.dmar();
    (opted_out[37], opted_out[9]) = (opted_out[37] | 2, opted_out[9].wrapping_sub(2));
    let iommu = front_with_findings(&machine, &opted_out, Options::default(), |_| ()).unwrap();
    assert_eq!(iommu.remap_interrupts(&[0], true), Err(Error::NotRemapped(NotRemapped::OptOut)));
    assert_eq!(iommu.remap_interrupts(&[0], false), Ok(()));
}

#[test]
fn a_cell_gets_a_device_only_where_its_interrupts_are_remapped() {
    let without = UnitConfig { ecap: UnitConfig::server().ecap & !(1 << 3), ..UnitConfig::server() };
    let machine = machine([without.serving(&[7]), UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign(CARD, cell).unwrap();
    let refused = |result| match result {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let behind = function(7, 1);
    assert_eq!(refused(iommu.assign(behind, cell)), Refusal::UnsafeInterrupts);
    let excepted = iommu.create_cell(CellConfig { allow_unsafe_interrupts: true, ..CONFIG }).unwrap();
    assert_eq!(refused(iommu.assign_with(behind, excepted, messages(1))), Refusal::NoMessages);
    iommu.assign(behind, excepted).unwrap();
    // An audit names the unit, behind which devices without a cell send what they like as well.
    let mut found = Vec::new();
    let audit = iommu.audit(|difference| found.push(difference)).unwrap();
    assert_eq!((audit.unremapped, found), (1, vec![Difference::InterruptsOpen { unit: machine.windows()[0] }]));
    assert_eq!(machine.interrupt(function(7, 9), 0xfee0_2000, 0x400), Ok((0xfee0_2000, 0x400)), "NMI");
}

#[test]
fn in_x2apic_mode_interrupts_reach_cpus_above_255() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, true);
    let targets = InterruptTargets { cpus: CpuSet::NONE.with(0x1_0203, 0x1_0204), ..TARGETS };
    let cell = cell_of(&iommu, CellConfig { interrupts: targets, ..CONFIG }, CARD, 1);
    iommu.route(cell, of(CARD, 0), Route::to(0x1_0203, 0x41)).unwrap();
    let message = iommu.message(of(CARD, 0)).unwrap();
    assert_eq!(send(&machine, CARD, message, 0), Ok((0x1_0203, 0x41)));
    let pair = Route { cpus: Cpus::Logical(0x1020 << 16 | 0b1_1000), ..Route::to(0, 0x41) };
    iommu.route(cell, of(CARD, 0), pair).unwrap();
    iommu.audit(|difference| panic!("{difference}")).unwrap();
    assert_eq!(states(&iommu), [UnitState::On]);
    let three = Route { cpus: Cpus::Logical(0x1020 << 16 | 0b11_1000), ..Route::to(0, 0x41) };
    assert!(matches!(unroutable(iommu.route(cell, of(CARD, 0), three)), Unroutable::Cpus(_)));
}

/// Interrupts are routed before a unit is switched on, and arrive from the first moment on.
#[test]
fn routes_of_a_prepared_unit_are_live_when_it_is_switched_on() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
        iommu.remap_interrupts(&[0], false).unwrap();
        iommu.prepare().unwrap();
        let cell = cell_of(&iommu, CONFIG, CARD, 1);
        iommu.map(cell, region(0, 0x6000_0000, PAGE, Rights::all())).unwrap();
        iommu.route(cell, of(CARD, 0), Route::to(2, 0x41)).unwrap();
        let message = iommu.message(of(CARD, 0)).unwrap();
        iommu.enable().unwrap();
        assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41)), "{name}");
        iommu.audit(|difference| panic!("{name}: {difference}")).unwrap();
        machine.settle();
        machine.check();
    }
}
