//! The report for people.

use std::fmt::Write as _;

use console::style;

use super::beside::Beside;
use super::report::{Capacities, Device, Report, Reserved, Unit};
use crate::show::bytes;

/// The whole report, as lines.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let (table, platform) = (&report.table, &report.platform);
    let maker = [table.oem.as_str(), table.oem_table.as_str()].join(" ");
    writeln!(out, "{} of {}, {} bytes, revision {}", table.signature, maker.trim(), table.bytes, table.revision)?;
    writeln!(out, "  read from        {}", report.source)?;
    writeln!(out, "  addresses        {} bits", platform.host_address_width)?;
    let interrupts = match (platform.interrupt_remapping, platform.x2apic_opt_out) {
        (false, _) => "cannot be remapped",
        (true, false) => "can be remapped",
        (true, true) => "can be remapped; firmware asks to leave x2APIC mode alone",
    };
    writeln!(out, "  interrupts       {interrupts}")?;
    let opt_in =
        if platform.dma_opt_in { "promised to stay within the reserved memory" } else { "no promise where it goes" };
    writeln!(out, "  firmware's DMA   {opt_in}")?;
    writeln!(out, "  compared with    {}", compared(&report.compared))?;

    for unit in &report.units {
        heading(out, &title(unit))?;
        let serves = all_words(&unit.serves);
        list(out, &serves)?;
        match (unit.include_all, serves.is_empty()) {
            (true, _) => writeln!(out, "  all else of segment {}", unit.segment)?,
            (false, true) => writeln!(out, "  nothing")?,
            (false, false) => {}
        }
    }
    reserved(out, report)?;
    if !report.ats_root_ports.is_empty() {
        heading(out, "ATS is allowed behind")?;
        list(out, &all_words(&report.ats_root_ports))?;
    }
    if !report.properties.is_empty() {
        heading(out, "Devices with properties")?;
        for device in &report.properties {
            let properties =
                if device.properties.is_empty() { "none".to_owned() } else { device.properties.join(", ") };
            writeln!(out, "  {}  {properties}", words(&device.device))?;
        }
    }
    if !report.functions.is_empty() {
        heading(out, "PCI functions of this machine, and the unit of each")?;
        for function in &report.functions {
            let unit = function.unit.map_or_else(|| "no unit".to_owned(), |unit| format!("unit {unit}"));
            write!(out, "  {}  {unit:<8}  {}", function.device, class(&function.class))?;
            match function.requesters.get(1..) {
                None | Some([]) => writeln!(out)?,
                Some(others) => writeln!(out, "; requests also as {}", others.join(", "))?,
            }
        }
    }
    findings(out, report)
}

/// Which other tables the scopes were held against.
fn compared(Beside { ioapics, hpets }: &Beside) -> String {
    let names = |kind: &str, ids: &[u8]| match ids {
        [] => format!("no {kind}"),
        ids => ids.iter().map(|id| format!("{kind} {id}")).collect::<Vec<_>>().join(", "),
    };
    let madt = ioapics.as_ref().map(|ids| format!("the MADT ({})", names("IOAPIC", ids)));
    let hpet = hpets.as_ref().map(|ids| match &ids[..] {
        [] => "the lack of an HPET table".to_owned(),
        ids => format!("the HPET table ({})", names("HPET", ids)),
    });
    let all: Vec<String> = madt.into_iter().chain(hpet).collect();
    if all.is_empty() { "no other table".to_owned() } else { all.join(", ") }
}

fn reserved(out: &mut String, report: &Report) -> std::fmt::Result {
    for (mapped, title) in [
        (true, "Reserved memory, mapped one to one for its devices"),
        (false, "Reserved memory that is not mapped; the findings say why"),
    ] {
        let mut all = report.reserved_memory.iter().filter(|memory| memory.mapped == mapped).peekable();
        if all.peek().is_some() {
            heading(out, title)?;
        }
        for memory in all {
            let range = format!("{}..={}", memory.first, memory.last);
            let devices = all_words(&memory.devices);
            let names = if devices.is_empty() { "nobody".to_owned() } else { devices.join(", ") };
            let size = if memory.bytes == 0 { String::new() } else { bytes(memory.bytes) };
            writeln!(out, "  {range:<28}  {size:>10}  {:<10}  {names}", memory.rights)?;
            let others = all_words(&memory.co_owners);
            if !others.is_empty() {
                writeln!(out, "    overlaps reserved memory of {}", others.join(", "))?;
            }
        }
    }
    let is_shared = |memory: &Reserved| {
        let is_one = |device: &Device| matches!(device.kind, "function" | "acpi");
        memory.mapped
            && (memory.devices.len() > 1 || !memory.devices.iter().all(is_one) || !memory.co_owners.is_empty())
    };
    if report.reserved_memory.iter().any(is_shared) {
        writeln!(out, "  Devices that share some of it belong to one cell: each can write there what another reads.")?;
    }
    Ok(())
}

fn heading(out: &mut String, text: &str) -> std::fmt::Result {
    writeln!(out, "\n{}", style(text).bold())
}

fn title(unit: &Unit) -> String {
    let name = unit.index.map_or_else(|| "Unit that cannot be used".to_owned(), |index| format!("Unit {index}"));
    let mut text = format!("{name} at {}, {}, segment {}", unit.base, bytes(u64::from(unit.bytes)), unit.segment);
    if let Some(function) = &unit.function {
        text += &format!(", function {function}");
    }
    if let Some(node) = unit.proximity {
        text += &format!(", node {node}");
    }
    text + ", serves"
}

/// One device in words.
fn words(device: &Device) -> String {
    let at = [std::slice::from_ref(&device.device), &device.path].concat().join(" > ");
    let id = device.id.unwrap_or_default();
    let mut text = match device.kind {
        "bridge" => format!("{at} and all behind it"),
        "ioapic" => format!("IOAPIC {id}, interrupts as {at}"),
        "hpet" => format!("HPET {id}, interrupts as {at}"),
        "acpi" => format!("{}, as {at}", device.name.as_deref().unwrap_or("ACPI device")),
        "all" => format!("all of segment {}", device.device),
        "unknown" => format!("{at}, of unknown kind {id}"),
        _ => at,
    };
    if let Some(last) = &device.last {
        text += &format!(" to {last}");
    }
    if let Some(alias) = &device.alias {
        text += &format!(", requests as {alias}");
    }
    text
}

/// Devices in words. Functions that follow each other are one range.
fn all_words(devices: &[Device]) -> Vec<String> {
    let mut all: Vec<(Device, Option<u32>)> = Vec::new();
    for device in devices {
        let id =
            (device.kind == "function" && device.path.is_empty() && device.alias.is_none() && device.last.is_none())
                .then(|| number(&device.device))
                .flatten();
        match all.last_mut() {
            Some((first, end)) if id.is_some() && end.is_some_and(|end| id == end.checked_add(1)) => {
                first.last = Some(device.device.clone());
                *end = id;
            }
            _ => all.push((device.clone(), id)),
        }
    }
    all.iter().map(|(device, _)| words(device)).collect()
}

/// Segment, bus, device and function as one number.
fn number(device: &str) -> Option<u32> {
    let (rest, function) = device.split_once('.')?;
    let mut parts = rest.split(':').map(|part| u32::from_str_radix(part, 16).ok());
    let (segment, bus, device) = (parts.next()??, parts.next()??, parts.next()??);
    Some(segment << 16 | bus << 8 | device << 3 | function.parse::<u32>().ok()?)
}

fn list(out: &mut String, lines: &[String]) -> std::fmt::Result {
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn findings(out: &mut String, report: &Report) -> std::fmt::Result {
    if !report.findings.is_empty() {
        heading(out, "Findings")?;
    }
    for finding in &report.findings {
        let severity = format!("{:<7}", finding.severity);
        let severity = match finding.severity {
            "error" => style(severity).red().bold(),
            "warning" => style(severity).yellow(),
            _ => style(severity).dim(),
        };
        writeln!(out, "  {severity} at {:#06x}  {}", finding.offset, finding.text)?;
        writeln!(out, "                    {}", style(finding.action).dim())?;
    }
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let parts: Vec<String> = [("error", count("error")), ("warning", count("warning")), ("note", count("note"))]
        .into_iter()
        .filter(|(_, count)| *count != 0)
        .map(|(name, count)| plural(count, name))
        .collect();
    let findings = match (parts.is_empty(), &report.unusable) {
        (true, None) => "nothing is wrong".to_owned(),
        (true, Some(_)) => "no finding".to_owned(),
        (false, _) => parts.join(", "),
    };
    let (units, lost) = (report.units.len(), report.units.iter().filter(|unit| unit.index.is_none()).count());
    let lost = match (units, lost) {
        (_, 0) => String::new(),
        (1, _) => ", which cannot be used".to_owned(),
        (_, lost) if lost == units => ", none of which can be used".to_owned(),
        (_, lost) => format!(", {lost} of which cannot be used"),
    };
    writeln!(out, "\n{}{lost}: {findings}", plural(units, "unit"))?;
    if let Some(Capacities { units, scopes, reserved }) = &report.capacities {
        writeln!(out, "capacities that a driver needs: units {units}, scopes {scopes}, reserved {reserved}")?;
    }
    match &report.unusable {
        Some(why) => writeln!(out, "{} {why}", style("No driver can use this table:").red().bold()),
        None => Ok(()),
    }
}

fn plural(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// The base class of a PCI class code, in a word (PCI Code and ID Assignment 1.15, section 1).
pub fn class(code: &str) -> &'static str {
    match code.get(..2) {
        Some("01") => "storage",
        Some("02") => "network",
        Some("03") => "display",
        Some("04") => "multimedia",
        Some("05") => "memory",
        Some("06") => "bridge",
        Some("07") => "communication",
        Some("08") => "system",
        Some("0c") => "serial bus",
        Some("0d") => "wireless",
        Some("11") => "signal processing",
        Some("12") => "accelerator",
        _ => "other",
    }
}
