//! What is printed, as data: the same for people and for programs. The JSON is described in docs/inspect-json.md.

use std::collections::BTreeMap;

use anyhow::Result;
use cofferdam::{
    addr::SourceId,
    firmware::{
        Error, Finding, Flaw, Header, Severity,
        dmar::{Dmar, Flags, Properties, Scope, ScopeKind, Scopes, Structure},
        ivrs::{Block, Ivhd, Ivrs, Listed, Uid, Variety},
    },
    topology::{ConfigSpace, NoConfigSpace, Role, Target, Topology, UnitKind},
};
use serde::Serialize;

use super::{input::Input, machine::Machine};

/// Goes up when a field changes its meaning or goes away; a new field does not raise it.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) source: String,
    pub(super) table: Table,
    pub(super) platform: Platform,
    pub(super) units: Vec<Unit>,
    pub(super) reserved_memory: Vec<Reserved>,
    pub(super) ats_root_ports: Vec<Device>,
    pub(super) properties: Vec<DeviceProperties>,
    /// Functions of this machine; empty for a table from elsewhere.
    pub(super) functions: Vec<Function>,
    pub(super) findings: Vec<Told>,
    /// Why no driver can use the table at all.
    pub(super) unusable: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Table {
    pub(super) signature: String,
    pub(super) revision: u8,
    pub(super) bytes: u32,
    pub(super) oem: String,
    pub(super) oem_table: String,
}

#[derive(Serialize)]
pub(super) struct Platform {
    pub(super) host_address_width: u16,
    pub(super) interrupt_remapping: bool,
    pub(super) x2apic_opt_out: bool,
    pub(super) dma_opt_in: bool,
}

#[derive(Serialize)]
pub(super) struct Unit {
    /// Hexadecimal, as all addresses: they do not fit the numbers of many JSON readers.
    pub(super) base: String,
    pub(super) bytes: u32,
    pub(super) segment: u16,
    pub(super) offset: u32,
    /// Index of the unit as the driver counts; null for one that it does not use.
    pub(super) index: Option<usize>,
    pub(super) include_all: bool,
    pub(super) proximity: Option<u32>,
    /// The unit's own PCI function, for AMD.
    pub(super) function: Option<String>,
    pub(super) serves: Vec<Device>,
}

#[derive(Clone, Default, Serialize)]
pub(super) struct Device {
    pub(super) kind: &'static str,
    /// The source-id; for a path behind bridges, that of the first hop.
    pub(super) device: String,
    /// The last of a range.
    pub(super) last: Option<String>,
    /// Further hops of a path, each as device.function.
    pub(super) path: Vec<String>,
    /// Id of an IOAPIC, number of an HPET.
    pub(super) id: Option<u8>,
    /// Name of a device of the ACPI name space.
    pub(super) name: Option<String>,
    /// The source-id that its requests carry instead.
    pub(super) alias: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Reserved {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) bytes: u64,
    pub(super) rights: String,
    pub(super) offset: u32,
    pub(super) devices: Vec<Device>,
}

#[derive(Serialize)]
pub(super) struct DeviceProperties {
    pub(super) device: String,
    pub(super) properties: Vec<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Function {
    pub(super) device: String,
    /// Class code, 24 bits in hexadecimal.
    pub(super) class: String,
    /// Index of the unit that serves it.
    pub(super) unit: Option<usize>,
    /// All source-ids of its requests, if there are others than its own.
    pub(super) requesters: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct Told {
    pub(super) severity: &'static str,
    pub(super) offset: u32,
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) action: &'static str,
}

impl Report {
    /// Reads the table as the driver does.
    ///
    /// # Errors
    ///
    /// The bytes are no whole table.
    pub(super) fn new(input: &Input, machine: Option<&Machine>) -> Result<Self> {
        match machine {
            Some(machine) => Self::over(input, machine, machine),
            None => Self::over(input, &NoConfigSpace, None),
        }
    }

    fn over<'a>(input: &Input, config: &impl ConfigSpace, machine: impl Into<Option<&'a Machine>>) -> Result<Self> {
        let machine = machine.into();
        let mut findings = Vec::new();
        let report = |finding| findings.push(finding);
        let is_dmar = input.table.starts_with(b"DMAR");
        let topology: Result<Topology, Error> = if is_dmar {
            Topology::from_dmar(&input.table, config, report)
        } else {
            Topology::from_ivrs(&input.table, report)
        };
        let (topology, unusable) = match topology {
            Ok(topology) => (Some(topology), None),
            Err(error @ (Error::NoUnit { .. } | Error::Full { .. })) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut all =
            if is_dmar { of_dmar(&input.table, topology.as_ref())? } else { of_ivrs(&input.table, topology.as_ref())? };
        if let Some(topology) = &topology {
            let report = |finding| findings.push(finding);
            if let Some(ioapics) = &input.ioapics
                && topology.interrupt_remapping()
            {
                topology.match_ioapics(ioapics, report).for_each(drop);
            }
            let report = |finding| findings.push(finding);
            if let Some(is_reserved) = machine.and_then(Machine::is_reserved) {
                topology.check_memory_map(is_reserved, report);
            }
            all.functions = machine.map(|machine| functions(machine, topology)).unwrap_or_default();
        }
        // Without the machine no path over bridges leads anywhere: that is nothing to tell.
        findings
            .retain(|finding: &Finding| machine.is_some() || !matches!(finding.flaw, Flaw::PathThroughNothing { .. }));
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity()), finding.offset));
        all.source.clone_from(&input.name);
        all.findings = findings.iter().map(told).collect();
        all.unusable = unusable;
        Ok(all)
    }

    /// True if nothing is lost.
    pub(super) fn is_sound(&self) -> bool {
        self.unusable.is_none() && self.findings.iter().all(|finding| finding.severity != "error")
    }
}

fn told(finding: &Finding) -> Told {
    Told {
        severity: match finding.severity() {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        },
        offset: finding.offset,
        name: finding.flaw.name(),
        text: finding.flaw.to_string(),
        action: finding.flaw.action(),
    }
}

fn functions(machine: &Machine, topology: &Topology) -> Vec<Function> {
    let functions = machine.functions().into_iter();
    functions
        .map(|(source, class)| {
            let requesters = topology.requesters(machine, source);
            let requesters =
                requesters.map(|all| all.ids().iter().map(SourceId::to_string).collect()).unwrap_or_default();
            Function {
                device: source.to_string(),
                class: format!("{class:06x}"),
                unit: topology.unit_of(machine, source),
                requesters,
            }
        })
        .collect()
}

fn printable(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    bytes
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect::<String>()
        .trim()
        .to_owned()
}

fn empty(signature: &str, header: &Header, platform: Platform) -> Report {
    Report {
        schema: SCHEMA,
        source: String::new(),
        table: Table {
            signature: signature.to_owned(),
            revision: header.revision,
            bytes: header.length.get(),
            oem: printable(&header.oem_id),
            oem_table: printable(&header.oem_table_id),
        },
        platform,
        units: Vec::new(),
        reserved_memory: Vec::new(),
        ats_root_ports: Vec::new(),
        properties: Vec::new(),
        functions: Vec::new(),
        findings: Vec::new(),
        unusable: None,
    }
}

/// Index of the unit that the driver uses at this address.
fn index_of(topology: Option<&Topology>, base: u64, segment: u16) -> Option<usize> {
    topology?.units().iter().position(|unit| unit.window.base.as_u64() == base && unit.segment == segment)
}

fn of_dmar(bytes: &[u8], topology: Option<&Topology>) -> Result<Report> {
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
                report.units.push(Unit {
                    base: format!("{:#x}", drhd.base()),
                    bytes: drhd.bytes(),
                    segment: drhd.segment(),
                    offset: drhd.offset(),
                    index,
                    include_all: drhd.include_all(),
                    proximity: known.and_then(|unit| unit.proximity),
                    function: None,
                    serves: devices(drhd.segment(), drhd.scopes()),
                });
            }
            Structure::Rmrr(rmrr) => report.reserved_memory.push(Reserved {
                first: format!("{:#x}", rmrr.base()),
                last: format!("{:#x}", rmrr.limit()),
                bytes: rmrr.limit().wrapping_sub(rmrr.base()).wrapping_add(1),
                rights: "read write".to_owned(),
                offset: rmrr.offset(),
                devices: devices(rmrr.segment(), rmrr.scopes()),
            }),
            Structure::Atsr(atsr) if atsr.all_ports() => report.ats_root_ports.push(all_of(atsr.segment())),
            Structure::Atsr(atsr) => {
                report.ats_root_ports.extend::<Vec<Device>>(devices(atsr.segment(), atsr.scopes()))
            }
            Structure::Sidp(sidp) => {
                for scope in sidp.scopes().sound() {
                    let device = device(sidp.segment(), &scope, &names).device;
                    report.properties.push(DeviceProperties { device, properties: properties(scope.properties()) });
                }
            }
            // VT-d 5.10, section 8.9: who uses SIDP ignores SATC.
            Structure::Satc(satc) if !has_sidp => {
                let required = if satc.required() { Properties::ATC_REQUIRED } else { Properties::empty() };
                for scope in satc.scopes().sound() {
                    let device = device(satc.segment(), &scope, &names).device;
                    let properties = properties(Properties::ATC_HARDENED | required);
                    report.properties.push(DeviceProperties { device, properties });
                }
            }
            _ => {}
        }
    }
    Ok(report)
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

fn all_of(segment: u16) -> Device {
    Device { kind: "all", device: format!("{segment:04x}"), ..Device::default() }
}

fn device(segment: u16, scope: &Scope<'_>, names: &BTreeMap<u8, String>) -> Device {
    let mut hops = scope.path().iter().map(|hop| format!("{:02x}.{:x}", hop.device, hop.function));
    let first = hops.next().unwrap_or_default();
    let (id, name) = match scope.kind() {
        ScopeKind::IoApic | ScopeKind::Hpet => (Some(scope.enumeration_id()), None),
        ScopeKind::Acpi => (None, names.get(&scope.enumeration_id()).cloned()),
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

fn of_ivrs(bytes: &[u8], topology: Option<&Topology>) -> Result<Report> {
    let ivrs = Ivrs::new(bytes, |_| {})?;
    let platform = Platform {
        host_address_width: u16::from(ivrs.info().physical_width()),
        interrupt_remapping: true,
        x2apic_opt_out: false,
        dma_opt_in: ivrs.info().dma_remap(),
    };
    let mut report = empty("IVRS", ivrs.header(), platform);
    for block in ivrs.sound() {
        let Block::Ivhd(ivhd) = block else { continue };
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
