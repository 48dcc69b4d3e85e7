//! What is printed, as data: the same for people and for programs. The JSON is described in docs/inspect-json.md.

use std::mem::MaybeUninit;

use anyhow::Result;
use cofferdam::{
    addr::SourceId,
    firmware::{Finding, Flaw, Header, Severity, Strictness, TableError},
    limits::Limits,
    topology::{ConfigSpace, NoConfigSpace, Topology, UnitIndex},
};
use serde::Serialize;

use super::{input::Input, machine::Machine};

/// What a driver holds by default is what counts as too much.
const LIMITS: Limits = Limits::DEFAULT;

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
            Some(of) => Self::over(input, of, machine),
            None => Self::over(input, &NoConfigSpace, machine),
        }
    }

    fn over(input: &Input, config: &impl ConfigSpace, machine: Option<&Machine>) -> Result<Self> {
        let mut findings = Vec::new();
        let report = |finding| findings.push(finding);
        let is_dmar = input.table.starts_with(b"DMAR");
        let mut memory = vec![MaybeUninit::uninit(); LIMITS.words()];
        let (topology, unusable) = match Topology::read(&mut memory, &LIMITS, &input.table, config, report) {
            Ok(topology) => (Some(topology), None),
            Err(error @ (TableError::NoUnit { .. } | TableError::Full { .. })) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let mut all = if is_dmar {
            super::dmar::read(&input.table, topology.as_ref())?
        } else {
            super::ivrs::read(&input.table, topology.as_ref())?
        };
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
        all.is_sound = unusable.is_none() && !findings.iter().any(|finding| Strictness::RefuseErrors.refuses(finding));
        all.unusable = unusable;
        Ok(all)
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
        is_sound: true,
    }
}

pub(super) fn all_of(segment: u16) -> Device {
    Device { kind: "all", device: format!("{segment:04x}"), ..Device::default() }
}
