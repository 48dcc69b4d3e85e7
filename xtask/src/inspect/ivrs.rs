//! What an IVRS says, for the report.

use anyhow::Result;
use cofferdam::{
    addr::SourceId,
    firmware::ivrs::{Ivhd, Ivmd, IvmdDevices, Ivrs, IvrsBlock, Listed, Uid, Variety},
    topology::{Topology, UnitInfo, UnitKind},
};

use super::report::{Device, Platform, Report, Reserved, Unit, add_unit, all_of, empty, printable, reserved};

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
        let ivhd = match block {
            IvrsBlock::Ivhd(ivhd) => ivhd,
            IvrsBlock::Ivmd(ivmd) => {
                report.reserved_memory.push(memory(&ivmd));
                continue;
            }
            _ => continue,
        };
        // Of several blocks for one unit, those of the type that the driver uses.
        let is_used = |unit: &UnitInfo| {
            let is_of_type = matches!(unit.kind, UnitKind::AmdVi(amd) if amd.described_by == ivhd.kind());
            unit.window.base.as_u64() == ivhd.base() && unit.segment == ivhd.segment() && is_of_type
        };
        let used = topology.and_then(|topology| topology.units().iter().position(is_used));
        let described = topology.is_some_and(|topology| {
            topology.units().iter().any(|unit| {
                matches!(unit.kind, UnitKind::AmdVi(amd) if amd.device.segment() == ivhd.segment() && amd.device.requester() == ivhd.device())
            })
        });
        if used.is_none() && described {
            continue;
        }
        let unit = Unit {
            base: format!("{:#x}", ivhd.base()),
            bytes: ivhd.bytes(),
            segment: ivhd.segment(),
            offset: ivhd.offset(),
            index: used,
            include_all: used.and_then(|index| topology?.units().get(index)).is_some_and(|unit| unit.include_all),
            proximity: None,
            function: Some(SourceId::from_requester(ivhd.segment(), ivhd.device()).to_string()),
            serves: listed(&ivhd),
        };
        add_unit(&mut report.units, unit);
    }
    Ok(report)
}

fn memory(ivmd: &Ivmd<'_>) -> Reserved {
    let at = |requester| SourceId::from_requester(ivmd.segment(), requester);
    let device = match ivmd.devices() {
        IvmdDevices::All => all_of(ivmd.segment()),
        IvmdDevices::One(device) => range(at(device), device),
        IvmdDevices::Range(first, last) => range(at(first), last),
    };
    let last = ivmd.start().wrapping_add(ivmd.bytes()).wrapping_sub(1);
    Reserved { bytes: ivmd.bytes(), ..reserved(ivmd.start(), last, ivmd.offset(), vec![device]) }
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
                Listed::Special { handle, source, variety, .. } => {
                    let (kind, id) = match variety {
                        Variety::IoApic => ("ioapic", handle),
                        Variety::Hpet => ("hpet", handle),
                        Variety::Unknown(variety) => ("unknown", variety),
                        _ => ("unknown", 0),
                    };
                    Device { kind, device: at(source).to_string(), id: Some(id), ..Device::default() }
                }
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
