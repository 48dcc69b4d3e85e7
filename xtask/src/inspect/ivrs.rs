//! What an IVRS says, for the report.

use anyhow::Result;
use cofferdam::{
    addr::SourceId,
    firmware::ivrs::{Ivhd, Ivrs, IvrsBlock, Listed, Uid, Variety},
    topology::{Role, Target, Topology, UnitKind},
};

use super::report::{Device, Platform, Report, Reserved, Unit, all_of, empty, printable};

pub(super) fn read(bytes: &[u8], topology: Option<&Topology>) -> Result<Report> {
    let ivrs = Ivrs::new(bytes, |_| {})?;
    let platform = Platform {
        host_address_width: u16::from(ivrs.info().physical_width()),
        interrupt_remapping: true,
        x2apic_opt_out: false,
        dma_opt_in: ivrs.info().dma_remap(),
    };
    let mut report = empty("IVRS", ivrs.header(), platform);
    for block in ivrs.sound() {
        let IvrsBlock::Ivhd(ivhd) = block else { continue };
        // Of several blocks for one unit, the one that the driver uses.
        let used = topology.and_then(|topology| topology.units().iter().position(|unit| unit.offset == ivhd.offset()));
        let described = topology.is_some_and(|topology| {
            topology.units().iter().any(|unit| {
                matches!(unit.kind, UnitKind::AmdVi(amd) if amd.device.segment() == ivhd.segment() && amd.device.requester() == ivhd.device())
            })
        });
        if used.is_none() && described {
            continue;
        }
        report.units.push(Unit {
            base: format!("{:#x}", ivhd.base()),
            bytes: ivhd.bytes(),
            segment: ivhd.segment(),
            offset: ivhd.offset(),
            index: used,
            include_all: used.and_then(|index| topology?.units().get(index)).is_some_and(|unit| unit.include_all),
            proximity: None,
            function: Some(SourceId::from_requester(ivhd.segment(), ivhd.device()).to_string()),
            serves: listed(&ivhd),
        });
    }
    for (memory, index) in topology.map(Topology::reserved_memory).unwrap_or_default().iter().zip(0_u16..) {
        let scopes = topology.map(Topology::scopes).unwrap_or_default();
        let devices =
            scopes.iter().filter(|scope| scope.role == Role::Reserved(index)).map(|scope| match scope.target {
                Target::Range { last } => range(scope.source, last),
                _ => all_of(scope.source.segment()),
            });
        report.reserved_memory.push(Reserved {
            first: format!("{:#x}", memory.region.input.start().as_u64()),
            last: format!("{:#x}", memory.region.input.last().as_u64()),
            bytes: memory.region.input.bytes(),
            rights: memory.region.rights.to_string(),
            offset: memory.offset,
            devices: devices.collect(),
        });
    }
    Ok(report)
}

fn range(first: SourceId, last: u16) -> Device {
    let device = first.to_string();
    if first.requester() == last {
        return Device { kind: "function", device, ..Device::default() };
    }
    let last = Some(SourceId::from_requester(first.segment(), last).to_string());
    Device { kind: "range", device, last, ..Device::default() }
}

fn listed(ivhd: &Ivhd<'_>) -> Vec<Device> {
    let at = |requester| SourceId::from_requester(ivhd.segment(), requester);
    let sound = ivhd.devices().filter_map(Result::ok);
    sound
        .filter_map(|(_, listed)| {
            Some(match listed {
                Listed::All { .. } => all_of(ivhd.segment()),
                Listed::Range { first, last, alias, .. } => {
                    Device { alias: alias.map(|alias| at(alias).to_string()), ..range(at(first), last) }
                }
                Listed::Special { handle, source, variety, .. } => Device {
                    kind: if variety == Variety::IoApic { "ioapic" } else { "hpet" },
                    device: at(source).to_string(),
                    id: Some(handle),
                    ..Device::default()
                },
                Listed::Acpi { device, hid, uid, .. } => {
                    let uid = match uid {
                        Uid::Text(text) => format!(" {}", printable(text)),
                        Uid::Number(number) => format!(" {number}"),
                        _ => String::new(),
                    };
                    let name = Some(printable(hid) + &uid);
                    Device { kind: "acpi", device: at(device).to_string(), name, ..Device::default() }
                }
                _ => return None,
            })
        })
        .collect()
}
