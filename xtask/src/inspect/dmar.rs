//! What a DMAR says, for the report.

use std::collections::BTreeMap;

use anyhow::Result;
use cofferdam::{
    firmware::dmar::{DeviceScope, Dmar, Flags, Properties, ScopeKind, Scopes, Structure},
    topology::Topology,
};

use super::report::{Device, DeviceProperties, Platform, Report, Unit, add_unit, all_of, empty, printable, reserved};

pub(super) fn read(bytes: &[u8], topology: Option<&Topology>) -> Result<Report> {
    let dmar = Dmar::new(bytes, |_| {})?;
    let flags = dmar.flags();
    let has = |flag| flags.contains(flag);
    let platform = Platform {
        host_address_width: dmar.host_address_width(),
        interrupt_remapping: has(Flags::INTR_REMAP),
        x2apic_opt_out: has(Flags::INTR_REMAP | Flags::X2APIC_OPT_OUT),
        dma_opt_in: has(Flags::DMA_CTRL_PLATFORM_OPT_IN),
    };
    let names: BTreeMap<u8, String> = dmar
        .sound()
        .filter_map(|structure| match structure {
            Structure::Andd(andd) => Some((andd.number(), printable(andd.name()))),
            _ => None,
        })
        .collect();
    let devices = |segment, scopes: Scopes<'_>| scopes.sound().map(|scope| device(segment, &scope, &names)).collect();
    let has_sidp = dmar.sound().any(|structure| matches!(structure, Structure::Sidp(_)));
    let mut report = empty("DMAR", dmar.header(), platform);
    for structure in dmar.sound() {
        match structure {
            Structure::Drhd(drhd) => {
                let index = index_of(topology, drhd.base(), drhd.segment());
                let known = index.and_then(|index| topology?.units().get(index));
                let unit = Unit {
                    base: format!("{:#x}", drhd.base()),
                    bytes: drhd.bytes(),
                    segment: drhd.segment(),
                    offset: drhd.offset(),
                    index,
                    include_all: drhd.include_all(),
                    proximity: known.and_then(|unit| unit.proximity),
                    function: None,
                    serves: devices(drhd.segment(), drhd.scopes()),
                };
                add_unit(&mut report.units, unit);
            }
            Structure::Rmrr(rmrr) => {
                let devices = devices(rmrr.segment(), rmrr.scopes());
                report.reserved_memory.push(reserved(rmrr.base(), rmrr.limit(), rmrr.offset(), devices));
            }
            Structure::Atsr(atsr) if atsr.all_ports() => report.ats_root_ports.push(all_of(atsr.segment())),
            Structure::Atsr(atsr) => {
                report.ats_root_ports.extend::<Vec<Device>>(devices(atsr.segment(), atsr.scopes()))
            }
            Structure::Sidp(sidp) => {
                for scope in sidp.scopes().sound() {
                    let device = device(sidp.segment(), &scope, &names);
                    report.properties.push(DeviceProperties { device, properties: properties(scope.properties()) });
                }
            }
            // VT-d 5.10, section 8.9: who uses SIDP ignores SATC.
            Structure::Satc(satc) if !has_sidp => {
                let required = if satc.required() { Properties::ATC_REQUIRED } else { Properties::empty() };
                for scope in satc.scopes().sound() {
                    let device = device(satc.segment(), &scope, &names);
                    let properties = properties(Properties::ATC_HARDENED | required);
                    report.properties.push(DeviceProperties { device, properties });
                }
            }
            _ => {}
        }
    }
    Ok(report)
}

/// Index of the unit that the driver uses at this address.
fn index_of(topology: Option<&Topology>, base: u64, segment: u16) -> Option<usize> {
    topology?.units().iter().position(|unit| unit.window.base.as_u64() == base && unit.segment == segment)
}

fn properties(properties: Properties) -> Vec<&'static str> {
    let words = [
        (Properties::NO_NESTED, "no nested translation"),
        (Properties::NO_PAGE_WALK_SNOOP, "no snooping page walk"),
        (Properties::NO_PAGE_SNOOP, "no forced snooping"),
        (Properties::ATC_HARDENED, "ATS recommended"),
        (Properties::ATC_REQUIRED, "ATS required"),
    ];
    words.into_iter().filter(|(property, _)| properties.contains(*property)).map(|(_, words)| words).collect()
}

fn device(segment: u16, scope: &DeviceScope<'_>, names: &BTreeMap<u8, String>) -> Device {
    let mut hops = scope.path().iter().map(|hop| format!("{:02x}.{:x}", hop.device, hop.function));
    let first = hops.next().unwrap_or_default();
    let (id, name) = match scope.kind() {
        ScopeKind::IoApic | ScopeKind::Hpet => (Some(scope.enumeration_id()), None),
        ScopeKind::Acpi => (None, names.get(&scope.enumeration_id()).cloned()),
        ScopeKind::Unknown(kind) => (Some(kind), None),
        _ => (None, None),
    };
    Device {
        kind: match scope.kind() {
            ScopeKind::Endpoint => "function",
            ScopeKind::Subtree => "bridge",
            ScopeKind::IoApic => "ioapic",
            ScopeKind::Hpet => "hpet",
            ScopeKind::Acpi => "acpi",
            _ => "unknown",
        },
        device: format!("{segment:04x}:{:02x}:{first}", scope.start_bus()),
        path: hops.collect(),
        id,
        name,
        ..Device::default()
    }
}
