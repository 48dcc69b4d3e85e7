//! Devices that nothing keeps apart: switches, ports and devices with and without Access Control Services.

use cofferdam::addr::{Rights, SourceId};
use cofferdam::hal::Hal;
use cofferdam::iommu::{Error, Refusal};
use cofferdam::topology::{Isolation, NoConfigSpace};
use cofferdam::{CellConfig, CellId};
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::random::Random;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
/// Source Validation, the redirects and Upstream Forwarding.
const ACS: u16 = 0x1d;
/// What an endpoint of several functions has of it.
const REDIRECTS: u16 = 0x0c;
pub(crate) const CELL: CellConfig = CellConfig { allow_unsafe_interrupts: true, ..CellConfig::DEFAULT };

pub(crate) fn of(bus: u8, device: u8, function: u8) -> SourceId {
    SourceId::new(0, bus, device, function).unwrap()
}

/// A root port, an upstream port below it and two downstream ports below that, with an endpoint each: 0:1.0, 1:0.0, 2:0.0 and
/// 2:1.0, 3:0.0 and 4:0.0. Then the capabilities of the root port and of the downstream ports.
pub(crate) fn switch(machine: &Machine, root: Option<u16>, downstream: [Option<u16>; 2]) -> [SourceId; 2] {
    let ports = [of(2, 0, 0), of(2, 1, 0)];
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 1..=4);
    machine.add_bridge(of(1, 0, 0), BridgeKind::UpstreamPort, 2..=4);
    machine.add_bridge(ports[0], BridgeKind::DownstreamPort, 3..=3);
    machine.add_bridge(ports[1], BridgeKind::DownstreamPort, 4..=4);
    for (port, acs) in [(of(0, 1, 0), root), (ports[0], downstream[0]), (ports[1], downstream[1])] {
        acs.into_iter().for_each(|acs| machine.add_acs(port, acs));
    }
    let devices = [of(3, 0, 0), of(4, 0, 0)];
    devices.iter().for_each(|device| machine.add_express(*device));
    devices
}

/// A device of several functions.
pub(crate) fn functions(machine: &Machine, all: &[SourceId], acs: Option<u16>) {
    for function in all {
        machine.add_express(*function);
        machine.set_config(*function, 0x0c, 1 << 23);
        acs.into_iter().for_each(|acs| machine.add_acs(*function, acs));
    }
}

/// Assigns a device to a cell of its own.
pub(crate) fn alone(iommu: &Front<&Machine>, device: SourceId) -> Result<CellId, Error> {
    let cell = iommu.create_cell(CELL).unwrap();
    iommu.assign(device, cell).map(|_| cell)
}

fn names(error: Error) -> (SourceId, Vec<SourceId>) {
    match error {
        Error::Refused { device, reason: Refusal::SharesGroup(others) } => (device, others.first().collect()),
        error => panic!("{error}"),
    }
}

#[test]
fn ports_that_isolate_let_cells_divide_a_switch() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS | 0x40)]);
    assert!(machine.reaches(devices[0], devices[1]), "as long as nobody has switched it on");
    machine.set_config(of(2, 1, 0), 0x184, 0x0040_005d);
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(iommu.device_info(devices[0]).unwrap().group.isolation(), Isolation::Shared);
    iommu.enable().unwrap();
    assert_eq!(machine.config_read(of(2, 1, 0), 0x184), 0x001d_005d, "Direct Translated P2P is off");
    assert_eq!(iommu.device_info(devices[0]).unwrap().group.isolation(), Isolation::AccessControl);
    for device in devices {
        alone(&iommu, device).unwrap();
    }
    assert!(!machine.reaches(devices[0], devices[1]) && !machine.reaches(devices[1], devices[0]));
}

/// Both cells have to allow it, and the audit counts their devices then.
#[test]
fn cells_that_allow_it_divide_a_group() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [None, None]);
    let iommu = enabled(&machine);
    let allowing = CellConfig { allow_shared_group: true, ..CELL };
    for configs in [[CELL, allowing], [allowing, CELL]] {
        let cells = configs.map(|config| iommu.create_cell(config).unwrap());
        iommu.assign(devices[0], cells[0]).unwrap();
        let refused = iommu.assign(devices[1], cells[1]).unwrap_err();
        assert_eq!(names(refused), (devices[1], vec![devices[0]]));
        for cell in cells {
            iommu.destroy_cell(cell).unwrap();
        }
    }
    let cells = [allowing; 2].map(|config| iommu.create_cell(config).unwrap());
    for (device, cell) in devices.iter().zip(cells) {
        iommu.assign(*device, cell).unwrap();
    }
    let audit = iommu.audit(|difference| panic!("{difference}")).unwrap();
    assert_eq!(audit.shared_groups, 2);
    iommu.release(devices[1]).unwrap();
    assert_eq!(iommu.audit(|difference| panic!("{difference}")).unwrap().shared_groups, 0, "nobody has the other");
}

/// Behind a bridge that puts its own id, requests of both devices have it, and no cell divides them.
#[test]
fn no_cells_divide_a_source_id() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 5, 0), BridgeKind::ExpressToPci, 5..=5);
    let devices = [of(5, 1, 0), of(5, 2, 0)];
    devices.iter().for_each(|device| machine.set_config(*device, 0, 0x1234_8086));
    let iommu = enabled(&machine);
    let allowing = CellConfig { allow_shared_group: true, ..CELL };
    let cells = [allowing; 2].map(|config| iommu.create_cell(config).unwrap());
    iommu.assign(devices[0], cells[0]).unwrap();
    let refused = iommu.assign(devices[1], cells[1]);
    assert!(matches!(refused, Err(Error::Refused { reason: Refusal::SharesRequester(_), .. })), "{refused:?}");
}

/// A fault names a source-id; its devices are those that may have sent it.
#[test]
fn a_source_id_leads_to_the_devices_that_send_by_it() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 5, 0), BridgeKind::ExpressToPci, 5..=5);
    let devices = [of(5, 1, 0), of(5, 2, 0)];
    devices.iter().for_each(|device| machine.set_config(*device, 0, 0x1234_8086));
    let iommu = enabled(&machine);
    let [both, other] = [CELL; 2].map(|config| iommu.create_cell(config).unwrap());
    for device in devices {
        iommu.assign(device, both).unwrap();
    }
    let alone = of(0, 7, 0);
    machine.add_express(alone);
    iommu.assign(alone, other).unwrap();
    let senders = |source| {
        let mut found = Vec::new();
        iommu.senders(source, |it| found.push((it.device, it.cell))).unwrap();
        found
    };
    assert_eq!(senders(alone), [(alone, other)]);
    assert_eq!(senders(of(5, 0, 0)), devices.map(|device| (device, both)));
    assert_eq!(senders(of(0, 8, 0)), []);
    assert_eq!(senders(SourceId::new(1, 0, 7, 0).unwrap()), [], "of another segment");
}

#[test]
fn a_switch_that_does_not_isolate_makes_one_cell() {
    for (name, root, downstream) in [
        ("no downstream port does", Some(ACS), [None, None]),
        ("one does not, so its devices reach those of the other", Some(ACS), [Some(ACS), None]),
        ("the root port does not", None, [Some(ACS), Some(ACS)]),
    ] {
        let machine = machine([UnitConfig::server()]);
        let devices = switch(&machine, root, downstream);
        let iommu = enabled(&machine);
        for (device, other) in [(devices[0], devices[1]), (devices[1], devices[0])] {
            let info = iommu.device_info(device).unwrap();
            assert!(info.group.contains(other) && info.group.contains(device), "{name}");
            assert_eq!((info.group.isolation(), info.refusal), (Isolation::Shared, None), "{name}");
            let cell = alone(&iommu, other).unwrap();
            let before = machine.snapshot();
            assert_eq!(names(alone(&iommu, device).unwrap_err()), (device, vec![other]), "{name}");
            assert_eq!(machine.snapshot(), before, "{name}: nothing changed");
            iommu.assign(device, cell).unwrap();
            iommu.destroy_cell(cell).unwrap();
        }
    }
}

#[test]
fn a_group_moves_as_a_whole_in_one_change_and_not_in_part() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [None, None]);
    let iommu = enabled(&machine);
    let root = iommu.create_root_cell(CELL).unwrap();
    let mut change = iommu.change();
    change.assign(devices[0], root).assign(devices[1], root);
    change.commit().unwrap();
    let cell = iommu.create_cell(CELL).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    assert_eq!(
        names(iommu.assign(devices[0], cell).unwrap_err()),
        (devices[0], vec![devices[1]]),
        "it stays with root"
    );
    let mut change = iommu.change();
    change.assign(devices[0], cell).assign(devices[1], cell);
    change.commit().unwrap();
    assert!(devices.iter().all(|device| write(&machine, *device, INPUT, 1)));
    let other = iommu.create_cell(CELL).unwrap();
    let mut change = iommu.change();
    change.release(devices[0]).assign(devices[0], other);
    assert_eq!(names(change.commit().unwrap_err()), (devices[0], vec![devices[1]]));
    iommu.release(devices[1]).unwrap();
    let mut change = iommu.change();
    change.release(devices[0]).assign(devices[0], other);
    change.commit().unwrap();
}

#[test]
fn functions_of_one_device_share_a_cell_unless_each_isolates() {
    let several = [of(0, 3, 0), of(0, 3, 2), of(0, 3, 5)];
    for (acs, integrated, expected) in [
        (None, false, Isolation::Shared),
        (Some(REDIRECTS), false, Isolation::RootComplex),
        (None, true, Isolation::RootComplex),
    ] {
        let machine = machine([UnitConfig::server()]);
        functions(&machine, &several, acs);
        if integrated {
            several.iter().for_each(|function| machine.set_config(*function, 0x60, 0x92 << 16 | 0x10));
        }
        let iommu = enabled(&machine);
        assert_eq!(iommu.device_info(several[1]).unwrap().group.isolation(), expected);
        alone(&iommu, several[0]).unwrap();
        match alone(&iommu, several[1]) {
            Ok(_) => assert!(expected != Isolation::Shared && !machine.reaches(several[0], several[1])),
            Err(error) => {
                assert!(machine.reaches(several[0], several[1]));
                assert_eq!((names(error), expected), ((several[1], vec![several[0]]), Isolation::Shared));
            }
        }
    }
}

#[test]
fn a_device_that_has_one_of_its_functions_only_is_alone() {
    let machine = machine([UnitConfig::server()]);
    functions(&machine, &[of(0, 3, 0)], None);
    let group = enabled(&machine).device_info(of(0, 3, 0)).unwrap().group;
    assert_eq!((group.isolation(), group.ranges().count()), (Isolation::RootComplex, 1));
}

/// Firmware or a hypervisor may hide function 0 of a device: the others have company, and are as little isolated as with it.
#[test]
fn functions_without_the_first_are_one_group() {
    for (port, acs) in [(false, None), (true, None), (true, Some(REDIRECTS))] {
        let machine = machine([UnitConfig::server()]);
        let bus = if port { 3 } else { 0 };
        if port {
            machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 3..=3);
            machine.add_acs(of(0, 1, 0), ACS);
        }
        let devices = [of(bus, 4, 1), of(bus, 4, 2)].map(|it| if port { of(3, 0, it.function()) } else { it });
        functions(&machine, &devices, acs);
        let iommu = enabled(&machine);
        alone(&iommu, devices[0]).unwrap();
        let second = alone(&iommu, devices[1]);
        assert_eq!(machine.reaches(devices[0], devices[1]), acs.is_none(), "{port}, {acs:?}");
        match acs {
            None => assert_eq!(names(second.unwrap_err()), (devices[1], vec![devices[0]]), "{port}"),
            Some(_) => assert!(second.is_ok(), "they were switched on"),
        }
    }
}

/// A function other than 0 that answers is one of several, whatever function 0 says.
#[test]
fn a_second_function_has_company_whatever_the_first_says() {
    let machine = machine([UnitConfig::server()]);
    let devices = [of(0, 3, 0), of(0, 3, 1)];
    functions(&machine, &devices, None);
    machine.set_config(devices[0], 0x0c, 0);
    let iommu = enabled(&machine);
    for order in [[0, 1], [1, 0]].map(|order| order.map(|index: usize| devices[index])) {
        let cell = alone(&iommu, order[0]).unwrap();
        assert_eq!(names(alone(&iommu, order[1]).unwrap_err()), (order[1], vec![order[0]]));
        iommu.destroy_cell(cell).unwrap();
    }
}

#[test]
fn a_port_forwards_functions_beyond_the_eighth_to_their_device() {
    for forwards in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let port = of(0, 1, 0);
        machine.add_bridge(port, BridgeKind::RootPort, 1..=1);
        machine.add_acs(port, ACS);
        // ARI Forwarding Enable
        machine.set_config(port, 0x68, u32::from(forwards) << 5);
        // 1:1f.7 is function 255 then.
        let several = [of(1, 0, 0), of(1, 1, 0), of(1, 31, 7)];
        functions(&machine, &several, None);
        let iommu = enabled(&machine);
        for one in several {
            let group = iommu.device_info(one).unwrap().group;
            let together: Vec<_> = several.into_iter().filter(|other| group.contains(*other)).collect();
            assert_eq!(together, if forwards { several.to_vec() } else { vec![one] }, "forwards: {forwards}, {one}");
        }
    }
}

#[test]
fn a_device_below_a_port_is_not_integrated_whatever_it_says() {
    let machine = machine([UnitConfig::server()]);
    machine.add_bridge(of(0, 1, 0), BridgeKind::RootPort, 1..=1);
    machine.add_acs(of(0, 1, 0), ACS);
    let several = [of(1, 0, 0), of(1, 0, 1)];
    functions(&machine, &several, None);
    several.iter().for_each(|function| machine.set_config(*function, 0x60, 0x92 << 16 | 0x10));
    let iommu = enabled(&machine);
    alone(&iommu, several[0]).unwrap();
    assert_eq!(names(alone(&iommu, several[1]).unwrap_err()), (several[1], vec![several[0]]));
}

/// Whether or not function 0 of it is hidden.
#[test]
fn root_ports_of_one_device_isolate_or_share_what_is_below() {
    for (acs, first) in [(Some(ACS), 0), (None, 0), (Some(ACS), 1), (None, 1)] {
        let machine = machine([UnitConfig::server()]);
        let ports = [of(0, 0x1c, first), of(0, 0x1c, 4)];
        for (port, bus) in ports.iter().zip([1, 2]) {
            machine.add_bridge(*port, BridgeKind::RootPort, bus..=bus);
            machine.set_config(*port, 0x0c, 1 << 23 | 1 << 16);
        }
        machine.add_acs(ports[0], ACS);
        acs.into_iter().for_each(|acs| machine.add_acs(ports[1], acs));
        let devices = [of(1, 0, 0), of(2, 0, 0)];
        devices.iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        alone(&iommu, devices[0]).unwrap();
        let second = alone(&iommu, devices[1]);
        assert_eq!(second.is_ok(), acs.is_some(), "{first}");
        assert_eq!(machine.reaches(devices[1], devices[0]), acs.is_none());
        assert_eq!(iommu.device_info(devices[0]).unwrap().group.isolation() == Isolation::AccessControl, acs.is_some());
    }
}

/// A function behind a port that isolates, alone on its bus as far as answers tell: function 0 is there, too, whatever it is.
#[test]
fn a_function_beside_a_hidden_first_one_is_not_alone() {
    for (number, isolation) in [(0, Isolation::AccessControl), (1, Isolation::Shared), (7, Isolation::Shared)] {
        let machine = machine([UnitConfig::server()]);
        let port = of(0, 0x1c, 0);
        machine.add_bridge(port, BridgeKind::RootPort, 3..=3);
        machine.add_acs(port, ACS);
        machine.add_express(of(3, 0, number));
        let iommu = enabled(&machine);
        let group = iommu.device_info(of(3, 0, number)).unwrap().group;
        assert_eq!(group.isolation(), isolation, "{number}");
        let shares = group.contains(of(3, 0, 0)) && group.contains(of(3, 0, 7));
        assert_eq!(shares, number != 0, "{number}");
    }
}

/// A downstream port that does not isolate is seen where function 0 of its device is hidden, too.
#[test]
fn a_hidden_first_function_hides_no_downstream_port() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    machine.add_bridge(of(2, 2, 1), BridgeKind::DownstreamPort, 4..=4);
    let iommu = enabled(&machine);
    alone(&iommu, devices[0]).unwrap();
    assert_eq!(names(alone(&iommu, devices[1]).unwrap_err()), (devices[1], vec![devices[0]]));
}

#[test]
fn each_bit_that_isolates_counts_and_so_does_each_that_opens() {
    for bit in [0, 2, 3, 4, 5, 6] {
        let machine = machine([UnitConfig::server()]);
        let devices = switch(&machine, Some(ACS), [Some(0x7d), Some(0x7d)]);
        // Firmware has switched one on.
        machine.set_config(of(2, 0, 0), 0x184, 0x7d | 1 << (16 + bit));
        let iommu = enabled(&machine);
        let control = machine.config_read(of(2, 0, 0), 0x184);
        assert_eq!(control >> 16, 0x1d);
        machine.set_config(of(2, 0, 0), 0x184, control ^ 1 << (16 + bit));
        alone(&iommu, devices[0]).unwrap();
        assert_eq!(names(alone(&iommu, devices[1]).unwrap_err()).1, [devices[0]], "bit {bit}");
    }
}

#[test]
fn a_device_nobody_sees_is_refused_unless_the_cell_allows_it() {
    let machine = machine([UnitConfig::server()]);
    let iommu = enabled(&machine);
    let device = of(0, 3, 0);
    let info = iommu.device_info(device).unwrap();
    assert_eq!((info.group.isolation(), info.refusal), (Isolation::Unknown, None));
    let error = Error::Refused { device, reason: Refusal::UnknownIsolation };
    assert_eq!(alone(&iommu, device).unwrap_err(), error);
    assert_eq!(error.to_string(), "0000:00:03.0 is refused: configuration space does not show what isolates it");
    iommu.assign(device, iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()).unwrap();
    assert_eq!(iommu.topology().group(&NoConfigSpace, device).isolation(), Isolation::Unknown);
}

#[test]
fn many_others_are_counted_and_the_first_are_named() {
    let machine = machine([UnitConfig::server()]);
    let several: Vec<SourceId> = (0..8).map(|number| of(0, 3, number)).collect();
    functions(&machine, &several, None);
    let iommu = enabled(&machine);
    let cell = iommu.create_cell(CELL).unwrap();
    for function in &several[..7] {
        iommu.assign(*function, cell).unwrap();
    }
    let error = alone(&iommu, several[7]).unwrap_err();
    let text = "0000:00:03.7 is refused: nothing isolates it from 0000:00:03.0, 0000:00:03.1, 0000:00:03.2, 0000:00:03.3 \
                and 3 more, which another cell has";
    assert_eq!(error.to_string(), text);
}

/// Access Control Services, mostly.
fn random_acs(machine: &Machine, random: &mut Random, function: SourceId) {
    if !random.one_in(4) {
        machine.add_acs(function, ACS);
    }
}

/// Functions with virtual ones, on a bus below a port that forwards extended functions or does not.
fn add_virtual(machine: &Machine, random: &mut Random, port: SourceId, bus: u8, all: &mut Topologies) {
    machine.set_config(port, 0x68, u32::from(random.below(2) == 0) << 5);
    let physical: Vec<SourceId> = (0..1 + random.below(3) as u8).map(|function| of(bus, 0, function)).collect();
    let first = [1, 3, 0x80, 0x100][random.below(4) as usize];
    for function in &physical {
        let acs = (random.below(2) == 0).then_some(REDIRECTS);
        crate::virtual_functions::physical(machine, *function, acs, 3, first);
        if physical.len() == 1 {
            machine.set_config(*function, 0x0c, 0);
        }
        let number = |count: u16| function.requester().wrapping_add(first as u16 + 2 * count);
        all.others.extend((0..3).map(|count| SourceId::from_requester(0, number(count))));
    }
    // One number may be a physical function's, too.
    all.others.retain(|other| !physical.contains(other));
    all.devices.extend(physical);
}

/// Functions of a random machine.
#[derive(Default)]
struct Topologies {
    /// Those that are given to cells.
    devices: Vec<SourceId>,
    /// Bridges and virtual functions.
    others: Vec<SourceId>,
}

/// A device with one function to three, below a port or in the root complex.
fn add_device(machine: &Machine, random: &mut Random, bus: u8, device: u8, all: &mut Vec<SourceId>) {
    let count = 1 + random.below(3) as u8;
    let several: Vec<SourceId> = (0..count).map(|function| of(bus, device, function)).collect();
    functions(machine, &several, None);
    for function in &several {
        random_acs(machine, random, *function);
        if bus == 0 && random.below(2) == 0 {
            machine.set_config(*function, 0x60, 0x92 << 16 | 0x10);
        }
    }
    all.extend(several);
}

/// Root ports, some of them of one device, with a device or a switch below each; devices in the root complex; bridges to PCI.
fn random_machine(random: &mut Random) -> (Machine, Topologies) {
    let machine = machine([UnitConfig::server()]);
    let mut functions = Topologies::default();
    let all = &mut functions.devices;
    let mut bus = 1;
    for number in 0..4 {
        let port = of(0, 1 + number / 2, number % 2);
        let below = bus;
        match random.below(4) {
            0 => {
                machine.add_bridge(port, BridgeKind::RootPort, below..=below);
                random_acs(&machine, random, port);
                add_device(&machine, random, below, 0, all);
                bus += 1;
            }
            1 => {
                machine.add_bridge(port, BridgeKind::ExpressToPci, below..=below);
                add_device(&machine, random, below, 1, all);
                add_device(&machine, random, below, 2, all);
                bus += 1;
            }
            _ => {
                let ports = 2 + random.below(2) as u8;
                machine.add_bridge(port, BridgeKind::RootPort, below..=below + 1 + ports);
                random_acs(&machine, random, port);
                machine.add_bridge(of(below, 0, 0), BridgeKind::UpstreamPort, below + 1..=below + 1 + ports);
                for down in 0..ports {
                    let at = of(below + 1, down, 0);
                    machine.add_bridge(at, BridgeKind::DownstreamPort, below + 2 + down..=below + 2 + down);
                    random_acs(&machine, random, at);
                    add_device(&machine, random, below + 2 + down, 0, all);
                }
                bus += 2 + ports;
            }
        }
        machine.set_config(port, 0x0c, 1 << 23 | 1 << 16);
    }
    add_device(&machine, random, 0, 5, all);
    add_device(&machine, random, 0, 6, all);
    // Two buses for virtual functions behind a port.
    let port = of(0, 7, 0);
    machine.add_bridge(port, BridgeKind::RootPort, bus..=bus + 1);
    random_acs(&machine, random, port);
    add_virtual(&machine, random, port, bus, &mut functions);
    functions.others.extend(machine.bridges());
    (machine, functions)
}

/// F5: groups are mutual, with virtual and extended functions and bridges in them; and what cells have are no two of a group.
#[test]
fn no_device_reaches_another_cells_past_the_units() {
    let mut random = Random::new(0x853c_49e6_748f_ea9b);
    let (mut assigned, mut refused, mut apart, mut together) = (0, 0, 0, 0);
    for round in 0..150 {
        let (machine, Topologies { devices: all, others }) = random_machine(&mut random);
        let iommu = enabled(&machine);
        let cells: Vec<CellId> = (0..3).map(|_| iommu.create_cell(CELL).unwrap()).collect();
        let mut of_cell = Vec::new();
        for device in &all {
            let cell = random.below(3) as usize;
            match iommu.assign(*device, cells[cell]) {
                Ok(_) => of_cell.push((*device, cell)),
                Err(Error::Refused { reason: Refusal::SharesGroup(_) | Refusal::SharesRequester(_), .. }) => {
                    refused += 1
                }
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        assigned += of_cell.len();
        for &(from, own) in &of_cell {
            for &(to, other) in &of_cell {
                apart += usize::from(own != other);
                assert!(own == other || !machine.reaches(from, to), "round {round}: {from} reaches {to}");
            }
        }
        let everybody: Vec<_> = all.into_iter().chain(others).collect();
        let groups: Vec<_> = everybody.iter().map(|device| iommu.topology().group(&&machine, *device)).collect();
        for (device, group) in everybody.iter().zip(&groups) {
            for (other, others) in everybody.iter().zip(&groups) {
                assert_eq!(group.contains(*other), others.contains(*device), "round {round}: {device} and {other}");
                together += usize::from(device != other && group.contains(*other));
            }
        }
    }
    assert!(together > 1000, "{together}");
    assert!(assigned > 500 && refused > 500 && apart > 2000, "{assigned}, {refused}, {apart}");
}
