//! What is left of routes when a unit fails, is reset, or has another table than the driver's; and what an audit says of that.

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::error::UnitError;
use cofferdam::hal::Hal;
use cofferdam::interrupt::{CpuSet, Cpus, FoundCourse, InterruptTargets, Message, Route, Source, VectorSet};
use cofferdam::iommu::{Difference, Edit, Error, Options, Refusal, UnitState, Unroutable};
use cofferdam::limits::Limits;
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{BridgeKind, Defect, Machine, Reason, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::*;

use super::audit::audit;
use super::interrupts::*;

const CARD: SourceId = SourceId::from_requester(0, 5 << 3);
const OTHER: SourceId = SourceId::from_requester(0, 6 << 3);
const PIN: Source = Source::Pin { io_apic: 0, pin: 3 };
const HERE: Route = Route::to(2, 0x41);
const IRTA: u32 = 0xb8;

/// A cell of one device with this many messages, of which the first goes to CPU 2.
fn routed<H: Hal>(iommu: &Front<H>, device: SourceId, count: u16) -> (CellId, Message) {
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.commit(&[Edit::Assign(device, cell, messages(count)), Edit::Route(cell, of(device, 0), HERE)]).unwrap();
    (cell, iommu.message(of(device, 0)).unwrap())
}

/// Where the table of the first unit is.
fn table(machine: &Machine) -> PhysAddr {
    // SAFETY: each unit that remaps interrupts has this register.
    let pointer = unsafe { machine.read64(mapped(machine.windows()[0]), IRTA) };
    PhysAddr::new(pointer & !0xfff)
}

#[test]
fn after_a_reset_nothing_is_said_to_be_remapped_and_enable_routes_again() {
    for (name, unit) in remapping_presets() {
        let machine = machine([unit]);
        let iommu = remapping(&machine, false);
        let (cell, message) = routed(&iommu, CARD, 1);
        let unit = machine.windows()[0];
        machine.reset_unit(0);
        assert!(matches!(states(&iommu)[..], [UnitState::Failed { blocking: false, .. }]), "{name}");
        let found = audit(&iommu);
        assert_eq!(found, [Difference::InterruptsOpen { unit }, Difference::NotTranslating { unit }], "{name}");
        let failed = iommu.route(cell, of(CARD, 0), Route::to(3, 0x42));
        assert!(matches!(failed, Err(Error::Unit(UnitError::Reset { .. }))), "{name}: {failed:?}");
        iommu.enable().unwrap();
        assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41)), "{name}");
        assert_eq!(send(&machine, OTHER, message, 0), Err(Reason::InterruptSource), "{name}");
        assert_eq!(audit(&iommu), [], "{name}");
        machine.abandon();
    }
}

#[test]
fn a_unit_that_shows_remapping_off_or_open_is_out_of_service() {
    for (defect, bit) in [
        (Defect::StatusStuckLow(1 << 25), "IRES"),
        (Defect::StatusStuckLow(1 << 24), "IRTPS"),
        (Defect::StatusStuckHigh(1 << 23), "CFIS"),
    ] {
        let machine = machine([UnitConfig::server()]);
        let iommu = remapping(&machine, false);
        let (cell, _) = routed(&iommu, CARD, 1);
        let unit = machine.windows()[0];
        machine.break_unit(0, defect);
        let error = UnitError::Reset { unit, register: "GSTS_REG", bit };
        assert_eq!(states(&iommu), [UnitState::Failed { error, blocking: true }]);
        assert_eq!(iommu.assign(OTHER, cell), Err(Error::Unit(error)));
        assert_eq!(audit(&iommu), [Difference::InterruptsOpen { unit }], "{bit}");
        machine.abandon();
    }
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let (cell, _) = routed(&iommu, CARD, 1);
    let unit = machine.windows()[0];
    // SAFETY: the register is there; what it does is what the test is about.
    unsafe { machine.write64(mapped(unit), IRTA, 0x7000) };
    let error = UnitError::Reset { unit, register: "IRTA_REG", bit: "IRTA" };
    assert_eq!(iommu.assign(OTHER, cell), Err(Error::Unit(error)));
    assert_eq!(audit(&iommu), [Difference::RemapsInterrupts { unit }]);
    machine.abandon();
}

#[test]
fn a_route_of_a_unit_that_dies_is_not_made() {
    let machine = machine([UnitConfig::server().serving(&[7]), UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let there = SourceId::from_requester(0, 0x708);
    let ((cell, message), (dead, _)) = (routed(&iommu, CARD, 1), routed(&iommu, there, 2));
    machine.break_unit(0, Defect::QueueDead);
    let failed = iommu.route(dead, of(there, 0), Route::to(3, 0x42));
    assert!(matches!(failed, Err(Error::Unit(UnitError::Timeout { .. }))), "{failed:?}");
    let mut all = Vec::new();
    iommu.routes(|it| all.push((it.source, it.course.route().unwrap()))).unwrap();
    assert_eq!(all, [(of(CARD, 0), HERE), (of(there, 0), HERE)], "as before");
    assert!(iommu.route(dead, of(there, 1), HERE).is_err());
    // The other unit goes on, with all slots that the dead one does not hold.
    iommu.route(cell, of(CARD, 0), Route::to(3, 0x43)).unwrap();
    assert_eq!(send(&machine, CARD, message, 0), Ok((3, 0x43)));
    iommu.route(cell, PIN, HERE).unwrap();
    iommu.unroute(cell, PIN).unwrap();
    assert!(iommu.destroy_cell(dead).is_err());
    let left = iommu.assign_with(OTHER, cell, messages(128));
    left.unwrap();
    machine.abandon();
}

#[test]
fn a_table_without_frames_is_no_half_done_change() {
    for (name, unit) in remapping_presets() {
        for frames in 0.. {
            let machine = machine([unit.clone()]);
            let iommu = front(&machine, &machine.dmar(), Options::default()).unwrap();
            iommu.remap_interrupts(&[0], false).unwrap();
            machine.allow_allocations(Some(frames));
            let enabled = iommu.enable();
            machine.allow_allocations(None);
            if enabled.is_ok() {
                assert!(frames > 2, "{name}");
                break;
            }
            iommu.enable().unwrap();
            let (_, message) = routed(&iommu, CARD, 1);
            assert_eq!(send(&machine, CARD, message, 0), Ok((2, 0x41)), "{name}, {frames}");
            iommu.release(CARD).unwrap();
            iommu.disable().unwrap();
            assert_eq!(machine.frames_in_use(), 0, "{name}, {frames}");
            machine.settle();
            machine.check();
        }
    }
}

#[test]
fn a_large_table_is_used_to_its_last_entry() {
    let machine =
        Machine::new(cofferdam_model::Config { frames: 1024, ..cofferdam_model::Config::new([UnitConfig::server()]) });
    let limits = Limits { interrupts: 1 << 16, ..Limits::DEFAULT };
    let iommu = Front::new(&machine, Options::default());
    iommu.probe_acpi(memory(&limits).leak(), &limits, &machine.dmar(), |_| ()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    iommu.assign_with(CARD, cell, messages(1 << 15)).unwrap();
    iommu.assign_with(OTHER, cell, messages(1 << 15)).unwrap();
    let last = of(OTHER, 0x7fff);
    iommu.route(cell, last, HERE).unwrap();
    let message = iommu.message(last).unwrap();
    assert_eq!(message.address, 0xfeef_fffc);
    assert_eq!(send(&machine, OTHER, message, 0), Ok((2, 0x41)));
    assert_eq!(send(&machine, OTHER, message, 1), Err(Reason::InterruptIndex));
    assert_eq!(audit(&iommu), []);
}

#[test]
fn each_bit_of_an_entry_that_matters_is_compared() {
    let machine = machine([UnitConfig::server()]);
    let iommu = remapping(&machine, false);
    let (cell, _) = routed(&iommu, CARD, 1);
    let (unit, table) = (machine.windows()[0], table(&machine));
    for bit in 0..128 {
        let word = table + bit / 64 * 8;
        machine.flip(word, 1 << (bit % 64));
        let found = audit(&iommu);
        // FPD concerns faults alone; four bits are software's.
        let ignored = matches!(bit, 1 | 8..=11);
        assert_eq!(found.is_empty(), ignored, "bit {bit}: {found:?}");
        let crosses = found.contains(&Difference::InterruptCrosses { unit, index: 0, source: CARD, cell });
        let goes = |route| found.contains(&Difference::OtherInterrupt { unit, index: 0, found: route });
        match bit {
            0 => assert_eq!(found, [Difference::MissingInterrupts { unit, found: 0, routed: 1 }]),
            16 => assert!(goes(FoundCourse::Remapped(Route::to(2, 0x40))) && !crosses),
            40 => assert!(goes(FoundCourse::Remapped(Route::to(3, 0x41))) && !crosses),
            41 => assert!(goes(FoundCourse::Remapped(Route::to(0, 0x41))) && crosses),
            2 => assert!(goes(FoundCourse::Remapped(Route { cpus: Cpus::Logical(2), ..HERE })) && crosses),
            // What hardware refuses, and what no cell may send, as NMI.
            6 | 7 | 12..=15 | 24..=39 | 48..=63 => assert!(goes(FoundCourse::Neither) && crosses, "bit {bit}"),
            _ => {}
        }
        machine.flip(word, 1 << (bit % 64));
    }
    // An entry that nothing is routed by, and that takes what anybody sends: one more device speaks for CPU 2 by it.
    let targets = InterruptTargets { cpus: CpuSet::NONE.with(4, 5), vectors: VectorSet::ALL, flat_ids: 0 };
    let other = iommu.create_cell(CellConfig { interrupts: targets, ..CONFIG }).unwrap();
    iommu.assign(OTHER, other).unwrap();
    machine.flip(table + 0x20, 0x0200_0041_0001);
    let extra = Difference::ExtraInterrupt { unit, index: 2, found: FoundCourse::Remapped(HERE) };
    let crosses = Difference::InterruptCrosses { unit, index: 2, source: OTHER, cell: other };
    assert_eq!(audit(&iommu), [crosses, extra]);
    machine.abandon();
}

/// What is behind a bridge to conventional PCI sends in the bridge's name, and shares a cell with all behind it.
#[test]
fn devices_behind_bridges_are_taken_by_the_name_that_the_bridge_gives() {
    for (kind, own) in [(BridgeKind::ExpressToPci, false), (BridgeKind::Conventional, true)] {
        let machine = machine([UnitConfig::server()]);
        let bridge = function(0, 0x1e);
        machine.add_bridge(bridge, kind, 4..=5);
        let iommu = remapping(&machine, false);
        let behind = function(5, 2);
        let (cell, message) = routed(&iommu, behind, 1);
        assert_eq!(send(&machine, behind, message, 0), Ok((2, 0x41)), "{kind:?}");
        assert_eq!(send(&machine, function(4, 1), message, 0), Ok((2, 0x41)), "{kind:?}: nothing tells them apart");
        assert_eq!(send(&machine, CARD, message, 0), Err(Reason::InterruptSource), "{kind:?}");
        assert_eq!(send(&machine, function(0, 0x1e), message, 0).is_ok(), own, "{kind:?}");
        // Nobody of another cell is among them.
        let other = iommu.create_cell(CONFIG).unwrap();
        let refused = iommu.assign(function(4, 1), other);
        assert!(matches!(refused, Err(Error::Refused { reason: Refusal::SharesRequester(_), .. })), "{refused:?}");
        iommu.assign(CARD, other).unwrap();
        assert_eq!(audit(&iommu), [], "{kind:?}");
        iommu.destroy_cell(cell).unwrap();
        machine.settle();
        machine.check();
    }
}

/// Two functions of a device are all that an entry tells apart at times, and it takes others of the device along.
#[test]
fn no_device_is_assigned_that_could_send_what_another_cell_has() {
    let machine = machine([UnitConfig::server()]);
    let hpet = |function| scope(4, 0, 0xf0, &[(15, function)]);
    let scopes = [ioapic(0), hpet(0), hpet(3)];
    let table = dmar().set(37, 1).drhd(1, 0, machine.windows()[0].base.as_u64(), &scopes).table();
    let iommu = front(&machine, &table, Options::default()).unwrap();
    iommu.remap_interrupts(&[0], false).unwrap();
    iommu.enable().unwrap();
    let targets = InterruptTargets { cpus: CpuSet::NONE.with(6, 6), vectors: VectorSet::ALL, flat_ids: 0 };
    let other = iommu.create_cell(CellConfig { interrupts: targets, ..CONFIG }).unwrap();
    let cell = iommu.create_cell(CONFIG).unwrap();
    let timer = Source::Timer { hpet: 0, timer: 1 };
    let beyond = Source::Timer { hpet: 0, timer: 2 };
    assert_eq!(iommu.route(cell, beyond, HERE), Err(Error::Route { source: beyond, reason: Unroutable::NoUnit }));
    iommu.route(cell, timer, HERE).unwrap();
    let message = iommu.message(timer).unwrap();
    for sender in [0, 3, 6] {
        assert_eq!(send(&machine, SourceId::from_requester(0, 0xf078 | sender), message, 0), Ok((2, 0x41)), "{sender}");
    }
    let third = SourceId::from_requester(0, 0xf07e);
    let refused = Error::Refused { device: third, reason: Refusal::SharesInterrupts(None) };
    assert_eq!(iommu.assign(third, other).map(drop), Err(refused));
    iommu.assign(third, cell).unwrap();
    iommu.release(third).unwrap();
    iommu.unroute(cell, timer).unwrap();
    iommu.assign(third, other).unwrap();
    let forged = Error::Route { source: timer, reason: Unroutable::Forged(third) };
    assert_eq!(iommu.route(cell, timer, HERE).map(drop), Err(forged));
    // What goes in the same change is in nobody's way.
    iommu.commit(&[Edit::Release(third), Edit::Route(cell, timer, HERE)]).unwrap();
    assert_eq!(audit(&iommu), []);
}
