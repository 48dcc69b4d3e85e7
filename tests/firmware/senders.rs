//! IOAPICs and HPETs: what is wrong with their scopes by themselves, and beside the tables and the buses of the machine.

use super::tables::{good, read};
use super::tree::{ROOT_PORT, Tree, id};
use cofferdam::firmware::dmar::ScopeKind::{Hpet, IoApic};
use cofferdam::firmware::{Finding, Flaw, Severity};
use cofferdam::topology::{Topology, UnitIndex};
use cofferdam_support::tables::{Table, dmar, ioapic, ivrs, scope};

fn hpet(number: u8, function: u8) -> Vec<u8> {
    scope(4, number, 0xf0, &[(0xf, function)])
}

fn topology(table: Table) -> Topology<'static> {
    read(&table.table()).0.unwrap()
}

/// The table is sound but for this.
fn assert_found(table: Table, offset: u32, flaw: Flaw, severity: Severity) {
    assert_eq!(read(&table.table()).1, [Finding { offset, flaw }]);
    assert_eq!(flaw.severity(), severity);
}

/// What a look beside the table finds.
fn beside(look: impl FnOnce(&mut dyn FnMut(Finding))) -> Vec<(u32, Flaw)> {
    let mut findings = Vec::new();
    look(&mut |finding| findings.push((finding.offset, finding.flaw)));
    findings
}

#[test]
fn a_sender_of_two_units_belongs_to_the_first() {
    for (sender, kind, number) in [(ioapic(2), IoApic, 2), (hpet(0, 0), Hpet, 0)] {
        let first = dmar().drhd(0, 0, 0xfed9_0000, &[ioapic(2), hpet(0, 0)]);
        let table = first.drhd(1, 0, 0xfed9_1000, &[sender]);
        let topology = topology(table.clone());
        assert_eq!(topology.ioapic(2).unwrap().0, UnitIndex::new(0));
        assert_eq!(topology.hpet(0).map(|(unit, _)| unit).collect::<Vec<_>>(), [UnitIndex::new(0)]);
        assert_found(table, 96, Flaw::ClaimedTwice { kind, id: number }, Severity::Error);
    }
}

#[test]
fn two_senders_with_one_requester_id_are_found() {
    let at = id(0xf0, 0x1f, 0);
    let flaw = |kind, other, other_id| Flaw::SharedRequesterId { kind, id: 3, other, other_id, at };
    let at_one = |senders: &[Vec<u8>]| dmar().drhd(1, 0, 0xfed9_1000, senders);
    assert_found(at_one(&[ioapic(2), ioapic(3)]), 72, flaw(IoApic, IoApic, 2), Severity::Warning);
    let in_one = scope(4, 3, 0xf0, &[(0x1f, 0)]);
    assert_found(at_one(&[ioapic(2), in_one]), 72, flaw(Hpet, IoApic, 2), Severity::Warning);
    // The timers of one HPET, and a PCI function.
    let function = scope(1, 0, 0xf0, &[(0x1f, 0)]);
    let sound = dmar().drhd(0, 0, 0xfed9_0000, &[function]);
    let sound = sound.drhd(1, 0, 0xfed9_1000, &[ioapic(2), hpet(0, 0), hpet(0, 0), hpet(0, 1)]);
    assert_eq!(read(&sound.table()).1, []);
}

/// AMD: a special device with this handle.
fn special(variety: u8, handle: u8, source: u16) -> [u8; 8] {
    let [low, high] = source.to_le_bytes();
    [0x48, 0, 0, 0, handle, low, high, variety]
}

#[test]
fn the_one_function_of_an_amd_ioapic_and_hpet_is_sound() {
    let table = |senders: &[&[u8]]| ivrs().ivhd(0x10, 2, 0xfeb8_0000, &[&[&[1, 0, 0, 0][..]], senders].concat());
    assert_eq!(read(&table(&[&special(2, 0, 0xa0), &special(1, 32, 0xa0)]).table()).1, []);
    let shared = table(&[&special(1, 32, 0xa0), &special(1, 33, 0xa0)]);
    let flaw = Flaw::SharedRequesterId { kind: IoApic, id: 33, other: IoApic, other_id: 32, at: id(0, 0x14, 0) };
    assert_found(shared, 84, flaw, Severity::Warning);
    assert_found(table(&[&special(1, 32, 0)]), 76, Flaw::NoRequesterId { kind: IoApic, id: 32 }, Severity::Warning);
}

#[test]
fn the_host_bridge_sends_no_interrupt() {
    let left_out = |kind| good().drhd(0, 0, 0xfed9_2000, &[scope(kind, 7, 0, &[(0, 0)])]);
    for (kind, named) in [(3, IoApic), (4, Hpet)] {
        let found = read(&left_out(kind).table()).1;
        assert!(found.contains(&Finding { offset: 88, flaw: Flaw::NoRequesterId { kind: named, id: 7 } }), "{found:?}");
    }
}

#[test]
fn a_bus_behind_a_bridge_is_no_place_for_a_sender() {
    let topology = topology(dmar().drhd(1, 0, 0xfed9_1000, &[ioapic(2), hpet(0, 0)]));
    let found = |tree: &Tree| beside(|report| topology.check_interrupt_buses(tree, report));
    let (outer, inner) = (id(0, 1, 0), id(1, 0, 0));
    let port = || Tree::default().bridge(outer, ROOT_PORT, 1, 0xff);
    let flaw = |kind, id, at, bridge| Flaw::SenderBehindBridge { kind, id, at, bridge };
    let (pins, timers) = (id(0xf0, 0x1f, 0), id(0xf0, 0xf, 0));
    assert_eq!(found(&port()), [(64, flaw(IoApic, 2, pins, outer)), (72, flaw(Hpet, 0, timers, outer))]);
    let nested = port().bridge(inner, ROOT_PORT, 2, 0xf0);
    assert_eq!(found(&nested), [(64, flaw(IoApic, 2, pins, inner)), (72, flaw(Hpet, 0, timers, inner))]);
    // An IOAPIC that is a function there, a bridge that ends before, and no bridge.
    assert_eq!(found(&port().device(pins)), [(72, flaw(Hpet, 0, timers, outer))]);
    assert_eq!(found(&Tree::default().bridge(outer, ROOT_PORT, 1, 0xef)), []);
    assert_eq!(found(&Tree::default().device(pins)), []);
}

#[test]
fn what_firmware_says_of_remapping_is_a_finding() {
    assert_found(good().set(37, 0), 37, Flaw::IoApicWithoutRemapping, Severity::Warning);
    assert_found(good().set(37, 3), 37, Flaw::OptOut, Severity::Note);
    assert_eq!(read(&dmar().drhd(1, 0, 0xfed9_1000, &[]).set(37, 0).table()).1, [], "and no IOAPIC either");
}

#[test]
fn an_ioapic_that_the_madt_lacks_is_found() {
    let senders = [ioapic(2), scope(3, 5, 0xf0, &[(1, 0)])];
    let topology = topology(dmar().drhd(1, 0, 0xfed9_1000, &senders));
    let found = |madt: &[u8]| beside(|report| topology.match_ioapics(madt, report).for_each(drop));
    assert_eq!(found(&[5, 2]), []);
    assert_eq!(found(&[2]), [(72, Flaw::IoApicNotInMadt { id: 5 })]);
    assert_eq!(found(&[]), [(64, Flaw::IoApicNotInMadt { id: 2 }), (72, Flaw::IoApicNotInMadt { id: 5 })]);
    assert_eq!(found(&[2, 5, 6]), [(0, Flaw::IoApicOfNoUnit { id: 6 })]);
    assert_eq!(found(&[2, 6]), [(72, Flaw::OtherIoApicId { id: 5, madt: 6 })]);
}

#[test]
fn scopes_of_hpets_are_held_against_the_table() {
    let found = |senders: &[Vec<u8>], number| {
        let topology = topology(dmar().drhd(1, 0, 0xfed9_1000, senders));
        beside(|report| topology.check_hpet(number, report))
    };
    let timers = [ioapic(2), hpet(1, 0), hpet(1, 1), scope(4, 2, 0xf0, &[(0xe, 0)])];
    assert_eq!(found(&timers, Some(1)), []);
    assert_eq!(found(&timers, Some(2)), [], "the other is in the name space alone");
    assert_eq!(found(&timers, Some(0)), [(72, Flaw::OtherHpetNumber { id: 1, number: 0 })]);
    assert_eq!(found(&timers, None), [(72, Flaw::HpetNotInTable { id: 1 })]);
    assert_eq!(found(&[ioapic(2)], Some(0)), [(0, Flaw::HpetOfNoUnit { number: 0 })]);
    assert_eq!(found(&[ioapic(2)], None), []);
}
