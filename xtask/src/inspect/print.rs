//! The report for people.

use std::fmt::Write as _;

use console::style;

use super::report::{Device, Report, Unit};
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

    for unit in &report.units {
        heading(out, &title(unit))?;
        let serves: Vec<String> = unit.serves.iter().map(words).collect();
        list(out, &serves)?;
        match (unit.include_all, serves.is_empty()) {
            (true, _) => writeln!(out, "  all else of segment {}", unit.segment)?,
            (false, true) => writeln!(out, "  nothing")?,
            (false, false) => {}
        }
    }
    if !report.reserved_memory.is_empty() {
        heading(out, "Reserved memory, mapped one to one for its devices")?;
        for memory in &report.reserved_memory {
            let range = format!("{}..={}", memory.first, memory.last);
            let devices: Vec<String> = memory.devices.iter().map(words).collect();
            let devices = if devices.is_empty() { "nobody".to_owned() } else { devices.join(", ") };
            writeln!(out, "  {range:<28}  {:>10}  {:<10}  {devices}", bytes(memory.bytes), memory.rights)?;
        }
    }
    if !report.ats_root_ports.is_empty() {
        heading(out, "ATS is allowed behind")?;
        list(out, &report.ats_root_ports.iter().map(words).collect::<Vec<_>>())?;
    }
    if !report.properties.is_empty() {
        heading(out, "Devices with properties")?;
        for device in &report.properties {
            let properties =
                if device.properties.is_empty() { "none".to_owned() } else { device.properties.join(", ") };
            writeln!(out, "  {}  {properties}", device.device)?;
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
        "unknown" => format!("{at}, of unknown kind"),
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
    let findings = if parts.is_empty() { "nothing is wrong".to_owned() } else { parts.join(", ") };
    let lost = report.units.iter().filter(|unit| unit.index.is_none()).count();
    let lost = if lost == 0 { String::new() } else { format!(", {lost} of them unusable") };
    writeln!(out, "\n{}{lost}: {findings}", plural(report.units.len(), "unit"))?;
    match &report.unusable {
        Some(why) => writeln!(out, "{} {why}", style("No driver can use this table:").red().bold()),
        None => Ok(()),
    }
}

fn plural(count: usize, name: &str) -> String {
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// The base class of a PCI class code, in a word (PCI Code and ID Assignment 1.15, section 1).
fn class(code: &str) -> &'static str {
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
