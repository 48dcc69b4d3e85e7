//! What people read: a boot in plain words.

use std::fmt::{self, Write as _};

use cofferdam_report::Record;
use comfy_table::{Table, presets};
use console::style;

use crate::{
    process::{Line, Stream},
    qemu::Boot,
};

/// How much of the serial log a failure shows.
const LAST_LINES: usize = 15;

/// `ok` or `FAILED`, of one width.
pub fn mark(ok: bool) -> impl fmt::Display {
    if ok { style("ok    ").green() } else { style("FAILED").red().bold() }
}

/// What stands before a check that could not be made here.
pub fn left_out() -> impl fmt::Display {
    style("LEFT OUT:").yellow().bold()
}

/// Bytes in the largest unit that holds them without a fraction.
pub fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    let plain = || if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
    unit.map_or_else(plain, |(shift, name)| format!("{} {name}", bytes >> shift))
}

/// The units that were found, one a line.
pub fn units(boot: &Boot) -> String {
    lines(boot, |record| match record {
        Record::Unit { base, segment, capabilities } => {
            Some(format!("  unit at {base:#x}, segment {segment}: {capabilities}"))
        }
        _ => None,
    })
}

/// The cells that were made, one a line.
pub fn cells(boot: &Boot) -> String {
    lines(boot, |record| match record {
        Record::Cell { name, input, output, bytes: size, coherency } => {
            let size = bytes(*size);
            Some(format!("  cell {name}: {size} at {output:#x}, seen by its devices at {input:#x}; {coherency}"))
        }
        _ => None,
    })
}

/// What each device reached: a row a device, a column a memory. What was tried twice opens another table.
pub fn reach(boot: &Boot) -> String {
    let tried = boot.records.all.iter().filter_map(|record| match record {
        Record::Reach { device, memory, access } => Some((device.as_str(), memory.as_str(), access.as_str())),
        _ => None,
    });
    let mut tables: Vec<Vec<(&str, &str, &str)>> = Vec::new();
    for field in tried {
        match tables.last_mut() {
            Some(table) if !table.iter().any(|(device, memory, _)| (*device, *memory) == (field.0, field.1)) => {
                table.push(field);
            }
            _ => tables.push(vec![field]),
        }
    }
    tables.iter().map(|fields| table(fields)).collect()
}

fn table(fields: &[(&str, &str, &str)]) -> String {
    let (mut devices, mut memories) = (Vec::new(), Vec::new());
    for (device, memory, _) in fields {
        devices.extend((!devices.contains(device)).then_some(*device));
        memories.extend((!memories.contains(memory)).then_some(*memory));
    }
    let access = |device: &str, memory: &str| {
        fields.iter().find(|(d, m, _)| (*d, *m) == (device, memory)).map_or("not tried", |(_, _, access)| access)
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once(" device".to_owned()).chain(memories.iter().map(|memory| printable(memory))));
    for device in devices {
        let row = memories.iter().map(|memory| printable(access(device, memory)));
        table.add_row(std::iter::once(format!(" {}", printable(device))).chain(row));
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// An expectation, and whether it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation<'a> {
    pub what: &'a str,
    pub ok: bool,
    pub seen: &'a str,
}

impl fmt::Display for Expectation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expectation { what, ok, seen } = self;
        write!(f, "  {} {}", mark(*ok), printable(what))?;
        if seen.is_empty() { Ok(()) } else { write!(f, " {}", style(format!("[{}]", printable(seen))).dim()) }
    }
}

pub fn expectations<'a>(boot: &'a Boot) -> Vec<Expectation<'a>> {
    let expectation = |record: &'a Record<String>| match record {
        Record::Expect { what, ok, seen } => Some(Expectation { what, ok: *ok, seen }),
        _ => None,
    };
    boot.records.all.iter().filter_map(expectation).collect()
}

/// The last counts of the driver.
pub fn counts(boot: &Boot) -> String {
    let last = boot.records.all.iter().rev().find_map(|record| match record {
        Record::Counts { descriptors, waits, doorbells, table_frames } => Some(format!(
            "  driver: {descriptors} descriptors, {waits} of them waits, {doorbells} doorbells, \
             {table_frames} table frames\n"
        )),
        _ => None,
    });
    last.unwrap_or_default()
}

/// How long it took.
pub fn times(boot: &Boot) -> String {
    let total = boot.took.as_secs_f32();
    match boot.booted_after() {
        Some(after) => format!("  time: boot {:.2} s, run {:.2} s\n", after.as_secs_f32(), total - after.as_secs_f32()),
        None => format!("  time: {total:.2} s, never started\n"),
    }
}

/// Why a boot failed, the end of its log, and how to repeat it.
pub fn failure(boot: &Boot) -> String {
    let mut text = String::new();
    for wrong in &boot.wrong {
        let _ = writeln!(text, "    {}", printable(wrong));
    }
    if let Some(line) = boot.lines.iter().find(|line| line.stream == Stream::Err) {
        let _ = writeln!(text, "    QEMU said first: {}", printable(&line.text));
    }
    let skipped = boot.lines.len().saturating_sub(LAST_LINES);
    let _ = writeln!(text, "    the last lines of its log:");
    text += &log(boot.lines.iter().skip(skipped));
    let _ = writeln!(text, "    to repeat it: {}", boot.command);
    text
}

/// Lines of the log as they came.
pub fn log<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    lines.map(|line| format!("    {:7.3} | {}\n", line.after.as_secs_f32(), printable(&line.text))).collect()
}

/// A guest's text without what would move the cursor or change its colour.
fn printable(text: &str) -> String {
    console::strip_ansi_codes(text).replace(steers, "\u{fffd}")
}

/// True if a character moves a terminal's cursor, or turns the direction of what comes behind.
pub fn steers(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || character.is_control() && character != '\t'
}

fn lines(boot: &Boot, line: impl Fn(&Record<String>) -> Option<String>) -> String {
    boot.records.all.iter().filter_map(line).map(|line| printable(&line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(records: Vec<Record<String>>) -> Boot {
        let mut boot = Boot::default();
        boot.records.all = records;
        boot
    }

    fn tried(device: &str, memory: &str, access: &str) -> Record<String> {
        Record::Reach { device: device.into(), memory: memory.into(), access: access.into() }
    }

    #[test]
    fn sizes_are_exact() {
        let sizes = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (4095, "4095 bytes"),
            (4096, "4 KiB"),
            (1536 << 20, "1536 MiB"),
            (1 << 32, "4 GiB"),
        ];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn the_table_has_a_row_a_device_and_a_column_a_memory() {
        let boot = boot(vec![
            tried("00:01.0", "left", "read write"),
            tried("00:01.0", "right", "blocked"),
            tried("00:02.0", "right", "read"),
        ]);
        let table = reach(&boot);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect())
            .collect();
        assert_eq!(
            rows,
            [
                vec!["device", "left", "right"],
                vec!["00:01.0", "read write", "blocked"],
                vec!["00:02.0", "not tried", "read"]
            ]
        );
    }

    #[test]
    fn what_was_tried_again_later_gets_a_table_of_its_own() {
        let boot = boot(vec![tried("a", "m", "read"), tried("a", "m", "blocked")]);
        assert_eq!(reach(&boot).matches("device").count(), 2);
    }

    #[test]
    fn a_guest_cannot_steer_the_terminal() {
        assert_eq!(printable("\u{1b}[31mred\u{1b}[0m \u{7}\rx"), "red \u{fffd}\u{fffd}x");
        assert_eq!(printable("\u{202e}a\tb\u{2066}"), "\u{fffd}a\tb\u{fffd}");
    }
}
