//! What an assigned device says of itself takes nothing from what protects others: no bridge, no source-id, no member of a group and
//! no window.

use std::collections::BTreeSet;

use cofferdam::CellId;
use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Error, Refusal};
use cofferdam::topology::{BridgeWindow, Isolation, Topology};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

use crate::audit::{INPUT, RW, assert_nothing_differs, audit};
use crate::groups::{CELL, alone, functions, of, switch};

const MEMORY: u64 = 0x6000_0000;
const ACS: u16 = 0x1d;
/// Header type, bus numbers, and the first word of the PCI Express capability that the model gives to endpoints.
const TYPE: u16 = 0x0c;
const BUSES: u16 = 0x18;
const EXPRESS: u16 = 0x60;
const IS_BRIDGE: u32 = 1 << 16;
const HAS_OTHERS: u32 = 1 << 23;
const ROOT_PORT: u32 = 4;
const UPSTREAM: u32 = 5;
const DOWNSTREAM: u32 = 6;

/// The configuration space of an endpoint reads as that of a port with these buses from now on.
fn pose_as_port(machine: &Machine, liar: SourceId, kind: u32, first: u8, last: u8) {
    machine.set_config(liar, TYPE, IS_BRIDGE);
    machine.set_config(liar, BUSES, u32::from(last) << 16 | u32::from(first) << 8);
    machine.set_config(liar, EXPRESS, kind << 20 | 2 << 16 | 0x10);
}

fn is_apart(result: Result<CellId, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Refused { reason: Refusal::SharesGroup(_) | Refusal::SharesRequester(_), .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Requests of both may carry one source-id, and a cell has the first: the second is refused whatever the liar says.
#[test]
fn a_false_port_hides_no_shared_source_id() {
    let early = [(ROOT_PORT, 1, true), (ROOT_PORT, 5, true), (UPSTREAM, 5, true)];
    for (kind, first, is_early) in early.into_iter().chain([(ROOT_PORT, 1, false), (DOWNSTREAM, 2, false)]) {
        let machine = machine([UnitConfig::server()]);
        let liar = of(0, 2, 0);
        machine.add_express(liar);
        machine.add_acs(liar, ACS);
        machine.add_bridge(of(0, 5, 0), BridgeKind::ExpressToPci, 5..=5);
        let devices = [of(5, 0, 0), of(5, 1, 0)];
        devices.iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        alone(&iommu, liar).unwrap();
        if is_early {
            pose_as_port(&machine, liar, kind, first, 0xff);
        }
        let owner = alone(&iommu, devices[0]).unwrap();
        pose_as_port(&machine, liar, kind, first, 0xff);
        iommu.map(owner, region(INPUT, MEMORY, PAGE, RW)).unwrap();
        let error = alone(&iommu, devices[1]).unwrap_err();
        let expected = Error::Refused { device: devices[1], reason: Refusal::SharesRequester(devices[0]) };
        assert_eq!(error, expected, "{kind} {first}");
        assert!(write(&machine, devices[1], INPUT, 1), "that is what the refusal is for");
        iommu.isolate().unwrap();
        assert_eq!(alone(&iommu, devices[1]).unwrap_err(), expected, "{kind} {first}");
    }
}

#[test]
fn a_false_port_hides_no_port_that_does_not_isolate() {
    for kind in [ROOT_PORT, UPSTREAM, DOWNSTREAM] {
        let machine = machine([UnitConfig::server()]);
        let liar = of(0, 0, 0);
        machine.add_express(liar);
        machine.add_acs(liar, ACS);
        let devices = switch(&machine, Some(ACS), [Some(ACS), None]);
        let iommu = enabled(&machine);
        alone(&iommu, liar).unwrap();
        alone(&iommu, devices[0]).unwrap();
        for first in 1..=4 {
            pose_as_port(&machine, liar, kind, first, 0xff);
            assert!(!is_apart(alone(&iommu, devices[1])), "{kind} {first}");
            iommu.isolate().unwrap();
            assert!(!is_apart(alone(&iommu, devices[1])), "{kind} {first}");
        }
    }
}

/// Function 0 is a cell's, and function 1 a bridge or a function that isolates nothing. What function 0 says: that it is alone, that
/// it is a bridge to CardBus, nothing at all.
#[test]
fn a_function_0_hides_no_other_function() {
    for (register, value) in [(TYPE, 0), (TYPE, 2 << 16), (0, u32::MAX)] {
        for bus in [0, 3] {
            let machine = machine([UnitConfig::server()]);
            machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 3..=6);
            machine.add_acs(of(0, 1, 0), ACS);
            let device = if bus == 0 { 5 } else { 0 };
            let [liar, bridge] = [0, 1].map(|function| of(bus, device, function));
            functions(&machine, &[liar, bridge], None);
            machine.add_bridge(bridge, BridgeKind::ExpressToPci, 5..=5);
            let devices = [of(5, 1, 0), of(5, 2, 0)];
            devices.iter().for_each(|device| machine.add_express(*device));
            let iommu = enabled(&machine);
            alone(&iommu, liar).unwrap();
            assert!(!is_apart(alone(&iommu, devices[0])) && !is_apart(alone(&iommu, devices[1])));
            machine.set_config(liar, register, value);
            for _ in 0..2 {
                let apart = devices.map(|device| is_apart(alone(&iommu, device)));
                assert_eq!(apart, [false; 2], "{register:#x} {value:#x} bus {bus}");
                iommu.isolate().unwrap();
            }
        }
    }
}

/// An endpoint beside the ports of a switch reaches what is below them. That it says it is a port does not change that.
#[test]
fn an_endpoint_within_a_switch_becomes_no_port() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    let liar = of(2, 5, 0);
    machine.add_express(liar);
    let iommu = enabled(&machine);
    let owner = alone(&iommu, liar).unwrap();
    assert!(!is_apart(alone(&iommu, devices[0])));
    pose_as_port(&machine, liar, DOWNSTREAM, 0x10, 0x10);
    machine.add_acs(liar, ACS);
    iommu.isolate().unwrap();
    assert!(!is_apart(alone(&iommu, devices[0])));
    iommu.assign(devices[0], owner).unwrap();
}

/// A device whose functions have one cell says later that they isolate: it stays one group, until it is assigned again.
#[test]
fn functions_that_say_later_that_they_isolate_stay_together() {
    let machine = machine([UnitConfig::server()]);
    let all = [of(0, 3, 0), of(0, 3, 1)];
    functions(&machine, &all, None);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, all[0]).unwrap();
    assert!(!is_apart(alone(&iommu, all[1])));
    all.iter().for_each(|function| machine.add_acs(*function, 0x0c));
    iommu.isolate().unwrap();
    assert_nothing_differs(&iommu, "a group that is smaller than what was noted");
    assert!(!is_apart(alone(&iommu, all[1])));
    iommu.release(all[0]).unwrap();
    iommu.assign(all[0], cell).unwrap();
    assert!(is_apart(alone(&iommu, all[1])));
}

/// A lie may keep others out of cells, by name, as long as the device is there to tell it.
#[test]
fn a_lie_that_keeps_others_out_is_over_with_its_device() {
    let machine = machine([UnitConfig::server()]);
    let (liar, device) = (of(0, 2, 0), of(1, 0, 0));
    machine.add_express(liar);
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 1..=1);
    machine.add_acs(of(0, 1, 0), ACS);
    machine.add_express(device);
    let iommu = enabled(&machine);
    let owner = alone(&iommu, liar).unwrap();
    pose_as_port(&machine, liar, ROOT_PORT, 1, 0xff);
    let error = alone(&iommu, device).unwrap_err();
    assert!(error.to_string().contains("nothing isolates it from 0000:00:02.0, which"), "{error}");
    iommu.isolate().unwrap();
    iommu.destroy_cell(owner).unwrap();
    machine.set_config(liar, 0, u32::MAX);
    let cell = alone(&iommu, device).unwrap();
    // An audit says so if it comes back.
    machine.set_config(liar, 0, 0x1234_8086);
    assert_eq!(audit(&iommu), [Difference::LostIsolation { source: device, cell }]);
}

/// More functions say that they lead to a device than any machine has bridges.
#[test]
fn too_many_bridges_are_an_error_by_name() {
    let machine = machine([UnitConfig::server()]);
    let device = of(0x20, 0, 0);
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 0x20..=0x20);
    machine.add_express(device);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, device).unwrap();
    for liar in (2..6).flat_map(|device| (0..8).map(move |function| of(0, device, function))) {
        pose_as_port(&machine, liar, ROOT_PORT, 1, 0xff);
        machine.set_config(liar, 0, 0x1234_8086);
        machine.set_config(liar, 4, 1 << 20);
        machine.set_config(liar, 0x34, EXPRESS.into());
    }
    let expected = "no room for more bridges above a device: the capacity is 20";
    assert_eq!(iommu.device_info(device).unwrap_err().to_string(), expected);
    assert_eq!(iommu.windows(device, &mut |_| ()).unwrap_err().to_string(), expected);
    assert_eq!(audit(&iommu), [Difference::LostIsolation { source: device, cell }]);
    iommu.release(device).unwrap();
    assert_eq!(iommu.assign(device, cell).unwrap_err().to_string(), expected);
    let group = iommu.topology().group(&&machine, device);
    assert!(group.isolation() == Isolation::Shared && group.contains(of(0xff, 31, 7)));
}

/// A random machine: bridges and endpoints wherever they may be.
#[derive(Default)]
struct Tree {
    endpoints: Vec<SourceId>,
    bridges: Vec<SourceId>,
    buses: u8,
}

impl Tree {
    fn grow(&mut self, machine: &Machine, random: &mut Random, bus: u8, above: Option<BridgeKind>) {
        use BridgeKind::{Conventional, DownstreamPort, ExpressToPci, RootPort, UpstreamPort};
        // Kinds of bridges, one in how many functions is none, and how many devices there are.
        let (kinds, endpoints, devices): (&[BridgeKind], _, _) = match above {
            None => (&[RootPort, RootPort, RootPort, ExpressToPci, Conventional], 2, 6),
            Some(RootPort | DownstreamPort) => (&[UpstreamPort, UpstreamPort, ExpressToPci], 2, 1),
            Some(UpstreamPort) => (&[DownstreamPort], 4, 3),
            Some(_) => (&[Conventional], 1, 2),
        };
        for device in 0..devices {
            let several = if random.one_in(3) { 1 + random.below(2) as u8 } else { 0 };
            for number in 0..=several {
                let function = of(bus, device, number);
                machine.add_express(function);
                if self.buses < 24 && !random.one_in(endpoints) {
                    let kind = kinds[random.below(kinds.len() as u64) as usize];
                    self.buses += 1;
                    let first = self.buses;
                    self.grow(machine, random, first, Some(kind));
                    machine.add_bridge(function, kind, first..=self.buses);
                    self.bridges.push(function);
                    let base = 0x8000_0000 + (u64::from(first) << 20);
                    machine.set_windows(function, (base, base + 0xf_ffff), (1 << 20, 0));
                    machine.set_config(function, 4, 0x0010_0006);
                } else {
                    self.endpoints.push(function);
                }
                if !random.one_in(8) {
                    machine.add_acs(function, ACS);
                }
                let kind = machine.config_read(function, TYPE);
                machine.set_config(function, TYPE, kind & 0x7f << 16 | if several > 0 { HAS_OTHERS } else { 0 });
            }
        }
    }
}

/// What configuration space says of a device.
struct Seen {
    ids: BTreeSet<SourceId>,
    /// Those of all that share an id with it, and those of its group.
    others: BTreeSet<(bool, SourceId)>,
    windows: Vec<BridgeWindow>,
}

impl Seen {
    /// `None` if there is too much of it. Windows take long, and are looked at for some devices.
    fn of(iommu: &Front<&Machine>, machine: &Machine, device: SourceId, all: &[SourceId]) -> Option<Self> {
        let topology: &Topology = iommu.topology();
        let (requesters, group) = (topology.requesters(&machine, device).ok()?, topology.group(&machine, device));
        let sharing = all.iter().filter(|other| requesters.shared_with(**other)).map(|other| (true, *other));
        let together = all.iter().filter(|other| group.contains(**other)).map(|other| (false, *other));
        let mut windows = Vec::new();
        if device.bus() % 4 == 1 {
            iommu.windows(device, &mut |window| windows.push(window)).ok()?;
        }
        let others = sharing.chain(together).collect();
        Some(Self { ids: requesters.ids().iter().copied().collect(), others, windows })
    }
}

/// Random registers of a configuration space, of those that are looked at.
fn lie(machine: &Machine, random: &mut Random, liar: SourceId) {
    for _ in 0..1 + random.below(8) {
        let any = random.below(1 << 32) as u32;
        let bus = |value: u64| value as u32;
        let (first, last) = (bus(random.below(26)), bus(random.below(0x100)));
        let (register, value) = match random.below(12) {
            0 => (0, [u32::MAX, 0x9123_1b4b, 0xe832_1180][random.below(3) as usize]),
            1..=3 => (TYPE, any & 0x81 << 16 | (random.below(3) as u32) << 16),
            4 | 5 => (BUSES, last.max(first) << 16 | first << 8),
            6 | 7 => (EXPRESS, 0x10 | (random.below(10) as u32) << 20),
            8 => (EXPRESS + 0x28, any & 1 << 5),
            // Lists that loop, and capabilities elsewhere.
            9 => (0x34, [0x60, 0x40, 0xfc, 0][random.below(4) as usize]),
            10 => (
                0x100,
                [0x180, 0x100, 0xffc][random.below(3) as usize] << 20
                    | 1 << 16
                    | [0x10, 0xd, 0x23, 0][random.below(4) as usize],
            ),
            _ => (0x184, [0x001d_001d, 0, 0x007d_007d, any][random.below(4) as usize]),
        };
        machine.set_config(liar, register, value);
    }
    // So that it often is a bridge with something behind it.
    if random.below(2) == 0 {
        let first = random.below(24) as u8 + 1;
        pose_as_port(machine, liar, [4, 5, 6, 7, 8, 0][random.below(6) as usize], first, 0xff);
    }
}

/// True if a device may have a cell of its own.
fn is_let_in(iommu: &Front<&Machine>, device: SourceId) -> bool {
    let cell = iommu.create_cell(CELL).unwrap();
    let is_let_in = iommu.assign(device, cell).is_ok();
    iommu.destroy_cell(cell).unwrap();
    is_let_in
}

/// Whatever one device says of itself, what is known of the others grows at most, and none of its own group gets another cell.
#[test]
fn no_lie_takes_anything_from_what_protects_others() {
    let mut random = Random::new(0x2545_f491_4f6c_dd1d);
    let (mut seen, mut grown, mut kept_out) = (0, 0, 0);
    for round in 0..40 {
        let machine = machine([UnitConfig::server()]);
        let mut tree = Tree::default();
        tree.grow(&machine, &mut random, 0, None);
        let iommu = enabled(&machine);
        let all: Vec<SourceId> = tree.endpoints.iter().chain(&tree.bridges).copied().collect();
        let before: Vec<_> = all.iter().map(|device| Seen::of(&iommu, &machine, *device, &all)).collect();
        for _ in 0..4 {
            // Where most is behind it.
            let any = [0; 3].map(|_| random.below(tree.endpoints.len() as u64) as usize);
            let Some(liar) = any.map(|index| tree.endpoints[index]).into_iter().min() else { continue };
            let Some(noted) = all.iter().zip(&before).find_map(|(it, seen)| seen.as_ref().filter(|_| *it == liar))
            else {
                continue;
            };
            let saved: Vec<_> = (0..0x400).map(|word| (4 * word, machine.config_read(liar, 4 * word))).collect();
            let Ok(owner) = alone(&iommu, liar) else { continue };
            let refused: Vec<_> = all.iter().filter(|device| !is_let_in(&iommu, **device)).collect();
            lie(&machine, &mut random, liar);
            iommu.isolate().unwrap();
            let let_in = refused.iter().find(|device| is_let_in(&iommu, ***device));
            assert_eq!(let_in, None, "round {round}: {liar}");
            kept_out += refused.len();
            let is_own = |other: SourceId| (other.bus(), other.device()) == (liar.bus(), liar.device());
            for (device, before) in all.iter().zip(&before).filter(|(device, _)| !is_own(**device)) {
                let Some(before) = before else { continue };
                let Some(now) = Seen::of(&iommu, &machine, *device, &all) else { continue };
                assert!(before.ids.is_subset(&now.ids), "round {round}: {liar} and ids of {device}");
                // All of its own group have its cell: that was noted when it was assigned.
                let is_apart = |other: SourceId| !noted.others.contains(&(false, other));
                let mut lost = before.others.difference(&now.others);
                let lost = lost.find(|(shares, other)| *shares || is_apart(*other) || is_apart(*device));
                assert_eq!(lost, None, "round {round}: {liar} and {device}");
                for window in &before.windows {
                    let is_kept = now.windows.iter().any(|it| it.range.contains(window.range));
                    assert!(is_kept, "round {round}: {liar}, {device} and {window}");
                }
                seen += 1;
                grown += usize::from(before.others != now.others || before.ids != now.ids);
            }
            saved.iter().for_each(|(at, value)| machine.set_config(liar, *at, *value));
            iommu.destroy_cell(owner).unwrap();
        }
    }
    assert!(seen > 3000 && grown > 500 && kept_out > 500, "{seen}, {grown}, {kept_out}");
}
