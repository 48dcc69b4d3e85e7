//! What is printed, as data: the same for people and for programs. The JSON is described in docs/inspect-json.md.

use std::mem::MaybeUninit;

use anyhow::Result;
use cofferdam::{
    addr::SourceId,
    firmware::{Finding, Flaw, Header, Severity, Strictness, TableError},
    limits::Limits,
    topology::{ConfigSpace, NoConfigSpace, Role, Target, Topology, UnitIndex},
};
use serde::Serialize;

use super::{beside::Beside, input::Input, machine::Machine};

/// Room for all that a table of so many bytes can hold, as far as there can be room for it.
pub fn limits(table: &[u8]) -> Limits {
    // A unit has 16 bytes at least. An entry of 4 bytes of an IVHD says up to four things.
    Limits {
        units: (table.len() / 16).min(0xffff),
        scopes: table.len().min(1 << 20),
        cells: 1,
        changes: 1,
        ..Limits::DEFAULT
    }
}

/// Goes up when a field changes its meaning or goes away; a new field does not raise it.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) source: String,
    pub(super) table: Table,
    pub(super) platform: Platform,
    pub(super) compared: Beside,
    pub(super) units: Vec<Unit>,
    pub(super) reserved_memory: Vec<Reserved>,
    /// What a driver has to have room for, as `Limits` names it; null if it cannot use the table.
    pub(super) capacities: Option<Capacities>,
    pub(super) ats_root_ports: Vec<Device>,
    pub(super) properties: Vec<DeviceProperties>,
    /// Functions of this machine; empty for a table from elsewhere.
    pub(super) functions: Vec<Function>,
    pub(super) findings: Vec<Told>,
    /// Why no driver can use the table at all.
    pub(super) unusable: Option<String>,
    /// Nothing is lost.
    #[serde(skip)]
    pub(super) is_sound: bool,
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
pub(super) struct Capacities {
    pub(super) units: usize,
    pub(super) scopes: usize,
    pub(super) reserved: usize,
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

#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Device {
    pub(super) kind: &'static str,
    /// The source-id; for a path behind bridges, that of the first hop.
    pub(super) device: String,
    /// The last of a range.
    pub(super) last: Option<String>,
    /// Further hops of a path, each as device.function.
    pub(super) path: Vec<String>,
    /// Id of an IOAPIC, number of an HPET, or the value of a kind that is not known.
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
    /// 0 if the range ends before it starts.
    pub(super) bytes: u64,
    pub(super) rights: String,
    pub(super) offset: u32,
    pub(super) devices: Vec<Device>,
    /// It is mapped for its devices, in whole pages. If not, a finding says why.
    pub(super) mapped: bool,
    /// Devices of other reserved memory that overlaps it: one cell has them all.
    pub(super) co_owners: Vec<Device>,
}

#[derive(Serialize)]
pub(super) struct DeviceProperties {
    #[serde(flatten)]
    pub(super) device: Device,
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
            Some(of) => Self::over(input, of, machine),
            None => Self::over(input, &NoConfigSpace, machine),
        }
    }

    fn over(input: &Input, config: &impl ConfigSpace, machine: Option<&Machine>) -> Result<Self> {
        let mut findings = Vec::new();
        let report = |finding| findings.push(finding);
        let is_dmar = input.table.starts_with(b"DMAR");
        let limits = limits(&input.table);
        let mut memory = vec![MaybeUninit::uninit(); limits.words()];
        let (topology, unusable) = match Topology::read(&mut memory, &limits, &input.table, config, report) {
            Ok(topology) => (Some(topology), None),
            Err(TableError::NoUnit { .. }) => (None, Some("it has no unit that can be used".to_owned())),
            Err(error @ TableError::Full { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut all = if is_dmar {
            super::dmar::read(&input.table, topology.as_ref())?
        } else {
            super::ivrs::read(&input.table, topology.as_ref())?
        };
        if let Some(topology) = &topology {
            // Without interrupt remapping nobody needs the scopes of IOAPICs and HPETs.
            if topology.interrupt_remapping() {
                check_interrupts(topology, &input.beside, machine, &mut findings);
            }
            let report = |finding| findings.push(finding);
            if let Some(is_reserved) = machine.and_then(Machine::is_reserved) {
                topology.check_memory_map(is_reserved, report);
            }
            all.capacities = Some(Capacities {
                units: topology.units().len(),
                scopes: topology.scopes().len(),
                reserved: topology.reserved_memory().len(),
            });
            all.functions = machine.map(|machine| functions(machine, topology)).unwrap_or_default();
        }
        // Without the machine no path over bridges leads anywhere: that is nothing to tell.
        findings
            .retain(|finding: &Finding| machine.is_some() || !matches!(finding.flaw, Flaw::PathThroughNothing { .. }));
        findings.sort_by_key(|finding| (std::cmp::Reverse(finding.severity()), finding.offset));
        mark_reserved(&mut all.reserved_memory, topology.as_ref(), config, &findings);
        all.source.clone_from(&input.name);
        all.compared.clone_from(&input.beside);
        all.findings = findings.iter().map(told).collect();
        all.is_sound = unusable.is_none() && !findings.iter().any(|finding| Strictness::RefuseErrors.refuses(finding));
        all.unusable = unusable;
        Ok(all)
    }
}

/// Holds IOAPICs and HPETs against the other tables and the buses of the machine.
fn check_interrupts(
    topology: &Topology<'_>,
    Beside { ioapics, hpets }: &Beside,
    machine: Option<&Machine>,
    findings: &mut Vec<Finding>,
) {
    if let Some(ids) = ioapics {
        topology.match_ioapics(ids, |finding| findings.push(finding)).for_each(drop);
    }
    if let Some(numbers) = hpets {
        topology.check_hpet(numbers.first().copied(), |finding| findings.push(finding));
    }
    if let Some(machine) = machine {
        topology.check_interrupt_buses(machine, |finding| findings.push(finding));
    }
}

/// Shows reserved memory as it is mapped, and who shares it.
fn mark_reserved(
    all: &mut [Reserved],
    topology: Option<&Topology<'_>>,
    config: &impl ConfigSpace,
    findings: &[Finding],
) {
    let cannot =
        |offset| findings.iter().any(|it| it.offset == offset && matches!(it.flaw, Flaw::UnmappableRange { .. }));
    // A range or a segment may have a unit for some of it.
    let is_served = |topology: &Topology<'_>, index| {
        let mut scopes = topology.scopes().iter().filter(|scope| scope.role == Role::Reserved(index));
        scopes.any(|scope| match scope.target {
            Target::Segment | Target::Range { .. } => true,
            _ => topology.unit_of(config, scope.source).is_some(),
        })
    };
    let known = |offset| {
        let mut all = topology?.reserved_memory().iter().zip(0_u16..);
        let (memory, index) = all.find(|(memory, _)| memory.offset == offset)?;
        is_served(topology?, index).then_some(memory)
    };
    let mut mapped = Vec::new();
    for memory in all.iter_mut() {
        let Some(known) = known(memory.offset).filter(|_| !cannot(memory.offset)) else { continue };
        let input = known.region.input;
        memory.first = format!("{:#x}", input.start().as_u64());
        memory.last = format!("{:#x}", input.last().as_u64());
        (memory.bytes, memory.rights, memory.mapped) = (input.bytes(), known.region.rights.to_string(), true);
        mapped.push((memory.offset, input, memory.devices.clone()));
    }
    for memory in all.iter_mut().filter(|memory| memory.mapped) {
        let Some((_, input, _)) = mapped.iter().find(|(offset, ..)| *offset == memory.offset) else { continue };
        for (_, other, devices) in &mapped {
            for device in devices.iter().filter(|_| other.overlaps(*input)) {
                if !memory.devices.contains(device) && !memory.co_owners.contains(device) {
                    memory.co_owners.push(device.clone());
                }
            }
        }
    }
}

/// Takes in a unit, or what a second definition of one adds to it.
pub(super) fn add_unit(units: &mut Vec<Unit>, unit: Unit) {
    match units.iter_mut().find(|known| known.index.is_some() && known.index == unit.index) {
        Some(known) => {
            known.include_all |= unit.include_all;
            known.serves.extend(unit.serves);
        }
        None => units.push(unit),
    }
}

/// Reserved memory as firmware has it, with both ends.
pub(super) fn reserved(first: u64, last: u64, offset: u32, devices: Vec<Device>) -> Reserved {
    Reserved {
        first: format!("{first:#x}"),
        last: format!("{last:#x}"),
        bytes: last.checked_sub(first).map_or(0, |bytes| bytes.saturating_add(1)),
        rights: "read write".to_owned(),
        offset,
        devices,
        mapped: false,
        co_owners: Vec::new(),
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

fn functions(machine: &Machine, topology: &Topology<'_>) -> Vec<Function> {
    let functions = machine.functions().into_iter();
    functions
        .map(|(source, class)| {
            let requesters = topology.requesters(machine, source);
            let requesters =
                requesters.map(|all| all.ids().iter().map(SourceId::to_string).collect()).unwrap_or_default();
            Function {
                device: source.to_string(),
                class: format!("{class:06x}"),
                unit: topology.unit_of(machine, source).map(UnitIndex::get),
                requesters,
            }
        })
        .collect()
}

pub(super) fn printable(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    bytes
        .iter()
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
        .collect::<String>()
        .trim()
        .to_owned()
}

pub(super) fn empty(signature: &str, header: &Header, platform: Platform) -> Report {
    Report {
        schema: SCHEMA,
        source: String::new(),
        table: Table {
            signature: signature.to_owned(),
            revision: header.revision,
            bytes: header.length(),
            oem: printable(&header.oem_id),
            oem_table: printable(&header.oem_table_id),
        },
        platform,
        compared: Beside::default(),
        units: Vec::new(),
        reserved_memory: Vec::new(),
        capacities: None,
        ats_root_ports: Vec::new(),
        properties: Vec::new(),
        functions: Vec::new(),
        findings: Vec::new(),
        unusable: None,
        is_sound: true,
    }
}

pub(super) fn all_of(segment: u16) -> Device {
    Device { kind: "all", device: format!("{segment:04x}"), ..Device::default() }
}
