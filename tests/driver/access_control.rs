//! Access Control Services: where their registers are, who loses them, and how they come back.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cofferdam::CellId;
use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use cofferdam::iommu::{Difference, Error, Options, Refusal};
use cofferdam::topology::Isolation;
use cofferdam_model::{BridgeKind, Machine, UnitConfig};
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::{bridge, of_machine};
use cofferdam_support::watched::{Call, Watched};

use crate::groups::{CELL, alone, functions, of, switch};

const ACS: u16 = 0x1d;
/// Capability and control, where the model has them.
const REGISTERS: u16 = 0x184;
const RESERVED: u64 = 0x7800_0000;

thread_local! {
    /// This thread is the one that looks at all devices.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
}

fn differences(iommu: &Front<&Machine>) -> Vec<Difference> {
    let mut all = Vec::new();
    iommu.audit(|difference| all.push(difference)).unwrap();
    all
}

fn shares_group<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Refused { reason: Refusal::SharesGroup(_), .. }))
}

/// Each device reaches the other without passing a unit.
fn each_other(devices: [SourceId; 2], cells: [CellId; 2]) -> Vec<Difference> {
    let pair = |from: usize, to: usize| Difference::NotIsolated {
        source: devices[from],
        cell: cells[from],
        other: devices[to],
        owner: cells[to],
    };
    vec![pair(0, 1), pair(1, 0)]
}

/// I11: ports that lost control are reported by the audit, and a call on a front that is shared switches it on again.
#[test]
fn control_that_was_lost_is_reported_and_comes_back() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    let iommu = enabled(&machine);
    let cells = devices.map(|device| alone(&iommu, device).unwrap());
    assert_eq!(differences(&iommu), []);
    for lost in [vec![of(2, 0, 0)], vec![of(2, 0, 0), of(2, 1, 0), of(0, 1, 0)], vec![of(0, 1, 0)]] {
        lost.iter().for_each(|port| machine.set_config(*port, REGISTERS, ACS.into()));
        let reached = machine.reaches(devices[0], devices[1]) || machine.reaches(devices[1], devices[0]);
        assert!(reached, "{lost:?}");
        let reported = differences(&iommu);
        assert_eq!(reported, each_other(devices, cells), "{lost:?}");
        assert_eq!(
            reported[0].to_string(),
            format!("nothing isolates {} of {} from {} of {}", devices[0], cells[0], devices[1], cells[1])
        );
        iommu.isolate().unwrap();
        assert_eq!(differences(&iommu), [], "{lost:?}");
        assert!(!machine.reaches(devices[0], devices[1]) && !machine.reaches(devices[1], devices[0]));
    }
}

/// Three functions of one device are in three cells when one loses control: each is named beside each other.
#[test]
fn each_device_that_nothing_isolates_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let all = [0, 1, 2].map(|number| of(0, 3, number));
    functions(&machine, &all, Some(0x0c));
    let iommu = enabled(&machine);
    let cells = all.map(|device| alone(&iommu, device).unwrap());
    assert_eq!(differences(&iommu), []);
    machine.set_config(all[1], REGISTERS, 0x0c);
    let reported = differences(&iommu);
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    let expected = pairs.map(|(one, two)| Difference::NotIsolated {
        source: all[one],
        cell: cells[one],
        other: all[two],
        owner: cells[two],
    });
    assert_eq!(reported, expected);
    iommu.isolate().unwrap();
    assert_eq!(differences(&iommu), []);
}

/// A port is switched on in whichever segment it is, by `enable`, or by a call if it is plugged in later.
#[test]
fn ports_of_each_segment_are_switched_on() {
    for (segment, is_late) in [(0, false), (0, true), (1, false), (1, true)] {
        let machine = machine(two_segments());
        let iommu = discover(&machine, &[]).unwrap();
        if is_late {
            iommu.enable().unwrap();
        }
        let port = SourceId::new(segment, 0, 1, 0).unwrap();
        // One that has none of it comes first.
        machine.add_express(SourceId::new(segment, 0, 0, 0).unwrap());
        machine.add_bridge(port, BridgeKind::RootPort, 1..=1);
        machine.add_acs(port, ACS);
        assert_eq!(machine.config_read(port, REGISTERS), ACS.into());
        let result = if is_late { iommu.isolate() } else { iommu.enable().map(|_| ()) };
        assert_eq!(result, Ok(()));
        assert_eq!(machine.config_read(port, REGISTERS), u32::from(ACS) << 16 | u32::from(ACS), "segment {segment}");
    }
}

/// Of a device that configuration space does not show when isolation is switched on again, what was noted is kept: the audit
/// tells what its port loses later.
#[test]
fn an_audit_tells_of_isolation_lost_after_a_link_was_down() {
    for hidden in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
        let iommu = enabled(&machine);
        let cells = devices.map(|device| alone(&iommu, device).unwrap());
        if hidden {
            let ids = devices.map(|device| machine.config_read(device, 0));
            devices.iter().for_each(|device| machine.set_config(*device, 0, u32::MAX));
            iommu.isolate().unwrap();
            assert_eq!(differences(&iommu), []);
            devices.iter().zip(ids).for_each(|(device, id)| machine.set_config(*device, 0, id));
            assert_eq!(differences(&iommu), []);
        }
        for port in [of(2, 0, 0), of(2, 1, 0)] {
            machine.set_config(port, REGISTERS, ACS.into());
        }
        assert!(machine.reaches(devices[0], devices[1]));
        assert_eq!(differences(&iommu), each_other(devices, cells), "hidden {hidden}");
    }
}

/// A device that lost what isolated it may reach those that no cell has: the audit says so until isolation is back, or known to be
/// lost.
#[test]
fn an_audit_tells_of_a_device_that_reaches_one_without_a_cell() {
    let machine = machine([UnitConfig::server()]);
    let [device, neighbour] = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, device).unwrap();
    assert_eq!(differences(&iommu), []);
    let ports = [of(2, 0, 0), of(2, 1, 0)];
    ports.iter().for_each(|port| machine.set_config(*port, REGISTERS, ACS.into()));
    assert!(machine.reaches(device, neighbour));
    let lost = Difference::LostIsolation { source: device, cell };
    assert_eq!(differences(&iommu), [lost]);
    assert_eq!(lost.to_string(), format!("what isolated {device} of {cell} from others does so no more"));
    iommu.isolate().unwrap();
    assert!(!machine.reaches(device, neighbour));
    assert_eq!(differences(&iommu), []);
    // One that has none any more.
    machine.set_config(ports[1], 0x180, 0);
    assert_eq!(differences(&iommu), [lost]);
    iommu.isolate().unwrap();
    assert_eq!(differences(&iommu), []);
    assert!(shares_group(alone(&iommu, neighbour)));
}

/// Each device is looked at, though another leaves its cell meanwhile, as often as can be between two of them.
#[test]
fn a_device_that_leaves_hides_no_other_that_is_looked_at() {
    let all: Vec<SourceId> = (3..7).flat_map(|device| (0..8).map(move |function| of(0, device, function))).collect();
    let mut between = 0;
    for _ in 0..50 {
        let (machine, is_gone, at_first) =
            (machine([UnitConfig::server()]), AtomicBool::new(false), AtomicBool::new(false));
        functions(&machine, &all, Some(0x0c));
        let first = of(1, 0, 0);
        machine.add_express(first);
        let looks = |call, _: &Machine| {
            if call == Call::ConfigRead && LOOKS.get() {
                // The other CPU waits for the lock meanwhile.
                thread::yield_now();
                at_first.fetch_or(!is_gone.load(Ordering::SeqCst), Ordering::SeqCst);
            }
        };
        let hal = Watched::shared(&machine, looks);
        let iommu = enabled_front(
            &hal,
            &of_machine(&machine, &[]).table(),
            Options { timeout_ns: u64::MAX, ..Options::DEFAULT },
        );
        let cell = iommu.create_cell(CELL).unwrap();
        [first].iter().chain(&all).for_each(|device| iommu.assign(*device, cell).map(drop).unwrap());
        all.iter().for_each(|function| machine.set_config(*function, 0x180, 0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !at_first.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                iommu.release(first).unwrap();
                is_gone.store(true, Ordering::SeqCst);
            });
            LOOKS.set(true);
            iommu.isolate().unwrap();
            LOOKS.set(false);
            between += u32::from(is_gone.load(Ordering::SeqCst));
        });
        let mut found = Vec::new();
        iommu.audit(|difference| found.push(difference)).unwrap();
        assert_eq!(found, []);
        if between == 2 {
            break;
        }
    }
}

/// I11: a switch that is plugged in later isolates from the call on; what was refused before is not any more.
#[test]
fn ports_that_are_plugged_in_are_switched_on_by_the_call() {
    let machine = machine([UnitConfig::server()]);
    let iommu = discover(&machine, &[]).unwrap();
    assert_eq!(iommu.isolate(), Err(Error::NotEnabled));
    iommu.enable().unwrap();
    let devices = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    alone(&iommu, devices[0]).unwrap();
    assert!(shares_group(alone(&iommu, devices[1])));
    iommu.isolate().unwrap();
    let second = alone(&iommu, devices[1]).unwrap();
    assert_eq!(differences(&iommu), []);
    assert_eq!(iommu.device_info(devices[1]).unwrap().group.isolation(), Isolation::AccessControl);
    // A port that has none is beyond help: the audit goes on telling.
    machine.set_config(of(2, 1, 0), 0x180, 0);
    iommu.isolate().unwrap();
    assert_eq!(differences(&iommu).len(), 2);
    iommu.release(devices[1]).unwrap();
    assert!(shares_group(iommu.assign(devices[1], second)));
}

/// F9: root ports of Intel's 100 and 200 series have two wide registers. Control is switched on at its place, and Capability,
/// which firmware may have left open, keeps what it says.
#[test]
fn wide_registers_are_set_at_their_place() {
    for (id, wide) in [
        (0xa110, true),
        (0xa11f, true),
        (0xa167, true),
        (0xa16a, true),
        (0xa290, true),
        (0xa2ee, true),
        (0x9d10, true),
        (0x9d1b, true),
        (0xa120, false),
        (0xa166, false),
        (0x9d0f, false),
        (0x9d1c, false),
    ] {
        let machine = machine([UnitConfig::server()]);
        let ports = [of(0, 0x1c, 0), of(0, 0x1c, 4)];
        for (port, bus) in ports.iter().zip([1, 2]) {
            machine.add_bridge(*port, BridgeKind::RootPort, bus..=bus);
            machine.set_config(*port, 0, id << 16 | 0x8086);
            machine.set_config(*port, 0x0c, 1 << 23 | 1 << 16);
            machine.add_wide_acs(*port, 0x0f);
        }
        let devices = [of(1, 0, 0), of(2, 0, 0)];
        devices.iter().for_each(|device| machine.add_express(*device));
        let iommu = enabled(&machine);
        assert_eq!(machine.config_read(ports[0], REGISTERS), 0x0f, "{id:#x}: Capability");
        assert_eq!(machine.config_read(ports[0], REGISTERS + 4), if wide { 0x0d } else { 0 }, "{id:#x}: Control");
        alone(&iommu, devices[0]).unwrap();
        let second = alone(&iommu, devices[1]);
        assert_eq!(machine.reaches(devices[1], devices[0]), !wide, "{id:#x}");
        assert_eq!(second.is_ok(), wide, "{id:#x}");
        assert!(wide || shares_group(second));
    }
}

/// F9: a port whose capability says nothing does not isolate.
#[test]
fn a_port_with_an_empty_capability_does_not_isolate() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [Some(0), Some(0)]);
    let iommu = enabled(&machine);
    assert!(machine.reaches(devices[0], devices[1]));
    alone(&iommu, devices[0]).unwrap();
    assert!(shares_group(alone(&iommu, devices[1])));
}

/// F6: what was noted for a device is what the audit expects. That configuration space says otherwise is reported once, and by
/// that name.
#[test]
fn reserved_memory_that_configuration_space_lost_is_named() {
    let machine = machine([UnitConfig::server()]);
    let port = of(0, 1, 0);
    machine.add_bridge(port, BridgeKind::RootPort, 5..=6);
    machine.add_acs(port, ACS);
    let devices = [of(5, 0, 0), of(7, 0, 0)];
    devices.iter().for_each(|device| machine.add_express(*device));
    let table = of_machine(&machine, &[]).rmrr(0, RESERVED, RESERVED + 0x1fff, &[bridge(1, 0)]).table();
    let iommu = enabled_front(&machine, &table, Default::default());
    let cell = alone(&iommu, devices[0]).unwrap();
    iommu.assign(devices[1], cell).unwrap();
    assert_eq!(differences(&iommu), []);
    let memory = region(RESERVED, RESERVED, 0x2000, cofferdam::addr::Rights::all());
    let reported =
        |device: usize, mapped| Difference::OtherReserved { source: devices[device], region: memory, mapped };
    // The bridge has lost its numbers, and then it has others.
    machine.set_config(port, 0x18, 0);
    assert_eq!(differences(&iommu), [reported(0, true)]);
    machine.set_config(port, 0x18, 7 << 16 | 7 << 8);
    assert_eq!(differences(&iommu), [reported(0, true), reported(1, false)]);
    let text = "firmware reserves 0x78000000..=0x78001fff";
    assert!(reported(1, false).to_string().starts_with(text), "{}", reported(1, false));
}

/// T3: where a device lost reserved memory and has other memory now, all of both is reported.
#[test]
fn all_reserved_memory_that_is_lost_or_new_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let ports = [of(0, 1, 0), of(0, 2, 0)];
    for (port, buses) in ports.iter().zip([5..=5, 6..=6]) {
        machine.add_bridge(*port, BridgeKind::RootPort, buses);
        machine.add_acs(*port, ACS);
    }
    let device = of(5, 0, 0);
    machine.add_express(device);
    let memory = |n: u64| region(RESERVED + n * PAGE, RESERVED + n * PAGE, PAGE, cofferdam::addr::Rights::all());
    let table = (0..4).fold(of_machine(&machine, &[]), |table, n: u64| {
        let first = RESERVED + n * PAGE;
        table.rmrr(0, first, first + PAGE - 1, &[bridge(n as u8 / 2 + 1, 0)])
    });
    let iommu = enabled_front(&machine, &table.table(), Default::default());
    alone(&iommu, device).unwrap();
    assert_eq!(differences(&iommu), []);
    // The bus is behind the other port now.
    machine.set_config(ports[0], 0x18, 6 << 16 | 6 << 8);
    machine.set_config(ports[1], 0x18, 5 << 16 | 5 << 8);
    let expected = [(0, true), (1, true), (2, false), (3, false)];
    let expected = expected.map(|(n, mapped)| Difference::OtherReserved { source: device, region: memory(n), mapped });
    let mut found = differences(&iommu);
    found.retain(|it| matches!(it, Difference::OtherReserved { .. }));
    assert_eq!(found, expected);
}

/// Another kind of device answers in the place of one that was pulled out, or whose bus has another number now: the audit says so.
#[test]
fn another_device_with_the_same_source_id_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let devices = [of(1, 0, 0), of(2, 0, 0)];
    for (port, device) in [of(0, 1, 0), of(0, 2, 0)].into_iter().zip(devices) {
        machine.add_bridge(port, BridgeKind::RootPort, device.bus()..=device.bus());
        machine.add_acs(port, ACS);
        machine.add_express(device);
    }
    let iommu = enabled(&machine);
    let cells = devices.map(|device| alone(&iommu, device).unwrap());
    assert_eq!(differences(&iommu), []);
    let [first, _] = devices.map(|device| [0, 8].map(|at| machine.config_read(device, at)));
    for (at, value) in [(0, 0xdead_beee), (8, 0x0200_0000)] {
        machine.set_config(devices[0], at, value);
        let other = Difference::OtherDevice { source: devices[0], cell: cells[0] };
        assert_eq!(differences(&iommu), [other], "{at}");
        machine.set_config(devices[0], at, first[usize::from(at / 8)]);
        assert_eq!(differences(&iommu), []);
    }
    // Nobody knows what stands there while it does not answer, or asks for more time.
    for silent in [u32::MAX, 0xffff_0001] {
        machine.set_config(devices[0], 0, silent);
        assert_eq!(differences(&iommu), []);
    }
}

/// A device that configuration space does not show for a while keeps what was noted of it: nothing is new when it is back.
#[test]
fn a_device_that_is_not_shown_keeps_its_group() {
    let machine = machine([UnitConfig::server()]);
    let devices = switch(&machine, Some(ACS), [None, None]);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, devices[0]).unwrap();
    iommu.assign(devices[1], cell).unwrap();
    assert_eq!(differences(&iommu), []);
    let identity = machine.config_read(devices[0], 0);
    machine.set_config(devices[0], 0, u32::MAX);
    iommu.isolate().unwrap();
    machine.set_config(devices[0], 0, identity);
    assert_eq!(differences(&iommu), []);
}

/// Of a device that is not shown for a while, all that was noted is kept: nobody who was in its group is let into
/// another cell, and the audit says if what isolates it is lost later.
#[test]
fn a_device_that_is_not_shown_keeps_what_nothing_isolated_from_it() {
    for is_assigned_before in [false, true] {
        let machine = machine([UnitConfig::server()]);
        let devices = switch(&machine, Some(ACS), [None, None]);
        let iommu = enabled(&machine);
        alone(&iommu, devices[0]).unwrap();
        let ids = devices.map(|device| machine.config_read(device, 0));
        // Both links are down, and then one that the other may reach comes first.
        devices.iter().for_each(|device| machine.set_config(*device, 0, u32::MAX));
        iommu.isolate().unwrap();
        let other = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
        if is_assigned_before {
            assert!(shares_group(iommu.assign(devices[1], other)));
        }
        devices.iter().zip(ids).for_each(|(device, id)| machine.set_config(*device, 0, id));
        assert!(machine.reaches(devices[0], devices[1]));
        assert!(shares_group(iommu.assign(devices[1], other)));
        assert_eq!(differences(&iommu), []);
    }
}

/// The same of one that is isolated: what it loses after it was back is reported, also where no other cell has what it
/// reaches.
#[test]
fn isolation_that_is_lost_after_a_device_was_not_shown_is_reported() {
    let machine = machine([UnitConfig::server()]);
    let [device, neighbour] = switch(&machine, Some(ACS), [Some(ACS), Some(ACS)]);
    let iommu = enabled(&machine);
    let cell = alone(&iommu, device).unwrap();
    let id = machine.config_read(device, 0);
    machine.set_config(device, 0, u32::MAX);
    iommu.isolate().unwrap();
    machine.set_config(device, 0, id);
    assert_eq!(differences(&iommu), []);
    [of(2, 0, 0), of(2, 1, 0)].iter().for_each(|port| machine.set_config(*port, REGISTERS, ACS.into()));
    assert!(machine.reaches(device, neighbour));
    assert_eq!(differences(&iommu), [Difference::LostIsolation { source: device, cell }]);
}
