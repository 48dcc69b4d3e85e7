//! A board report for people, in a terminal.

use std::fmt::Write as _;

use console::style;

use super::contents::{Contents, ReportedUnit};
use crate::show::mark;

/// The verdict last, since that is what a terminal shows.
pub fn text(contents: &Contents) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, contents);
    out
}

fn write(out: &mut String, contents: &Contents) -> std::fmt::Result {
    let Contents { started, version, units, functions, .. } = contents;
    let version = version.as_deref().unwrap_or("of an unknown version");
    writeln!(out, "Board report of cofferdam {version}")?;
    if let Some((memory, clock)) = started {
        writeln!(out, "  {memory} MiB that are free, clock of {clock} MHz")?;
    }
    units.iter().try_for_each(|unit| writeln!(out, "  {}", unit_words(unit)))?;
    let alone = functions.iter().filter(|function| function.unit.is_none()).count();
    let without = if alone == 0 { String::new() } else { format!(", without a unit: {alone}") };
    writeln!(out, "  functions: {}{without}", functions.len())?;
    let disputed = contents.reserved.iter().filter(|reserved| !reserved.agrees).count();
    let disputed = if disputed == 0 { String::new() } else { format!(", given away by the memory map: {disputed}") };
    writeln!(out, "  pieces of reserved memory: {}{disputed}", contents.reserved.len())?;

    for note in &contents.notes {
        writeln!(out, "  {} {note}", style("note   ").dim())?;
    }
    for finding in &contents.findings {
        let severity = format!("{:<7}", finding.severity);
        let severity =
            if finding.severity == "error" { style(severity).red().bold() } else { style(severity).yellow() };
        writeln!(out, "  {severity} at {:#06x}  {}; {}", finding.offset, finding.text, finding.action)?;
    }
    for (what, _, seen) in contents.expected.iter().filter(|(_, held, _)| !held) {
        writeln!(out, "  {} {what} [{seen}]", mark(false))?;
    }
    for flaw in &contents.flaws {
        writeln!(out, "  {} the report: {flaw}", mark(false))?;
    }
    if let Some(why) = &contents.refused {
        writeln!(out, "  {} the report was given up: {why}", mark(false))?;
    }
    writeln!(out, "{} {}", mark(contents.is_sound()), verdict(contents))?;
    contents.limits.iter().try_for_each(|limit| writeln!(out, "  - {limit}"))
}

/// The verdict in a sentence.
pub fn verdict(contents: &Contents) -> String {
    match &contents.verdict {
        None => "no verdict".into(),
        Some(verdict) if !verdict.fit => format!("not fit for partitioning: {}", verdict.why),
        Some(verdict) if verdict.limits == 0 => "fit for partitioning".into(),
        Some(verdict) => format!("fit for partitioning, with limits: {}", verdict.limits),
    }
}

fn unit_words(unit: &ReportedUnit) -> String {
    let state = unit.state.as_ref().map_or("state unknown", |state| match (&*state.refused, state.translating) {
        ("", false) => "not translating",
        ("", true) => "translating for somebody",
        _ => "cannot be used",
    });
    format!("unit {:#x}, segment {:04x}: {state}; {}", unit.base, unit.segment, unit.capabilities)
}
