//! What a board report says, put together from its records.

use std::collections::BTreeMap;

use cofferdam::addr::SourceId;
use cofferdam_report::{FORMAT, Record};

use super::saved_log::{SCENARIO, SavedLog};
use crate::inspect::parse;

/// More of them are on no board that is known, and would take long to hold against each other.
const MOST_FUNCTIONS: usize = 4096;
const MOST_UNITS: usize = 1024;
const MOST_RESERVED: usize = 1024;
/// The driver has no more for one function.
const MOST_RANGES: usize = 64;

/// A board report, as far as its records could be put together.
#[derive(Debug, Default)]
pub struct Contents {
    pub version: Option<String>,
    /// Usable memory in MiB, and the clock in MHz.
    pub started: Option<(u64, u64)>,
    /// Bytes of firmware's table.
    pub table: Vec<u8>,
    pub firmware: Option<Firmware>,
    pub findings: Vec<FirmwareFinding>,
    pub units: Vec<ReportedUnit>,
    pub functions: Vec<ReportedFunction>,
    pub reserved: Vec<ReportedReserved>,
    /// First address, bytes and kind of each.
    pub memory: Vec<(u64, u64, String)>,
    pub measured: Vec<Measurement>,
    /// What, whether it held, and what was seen.
    pub expected: Vec<(String, bool, String)>,
    pub limits: Vec<String>,
    pub verdict: Option<BoardVerdict>,
    /// Why the report came to no end by itself.
    pub refused: Option<String>,
    /// What was printed for people.
    pub words: Vec<String>,
    /// What is wrong with the file: the report is not whole, or contradicts itself.
    pub flaws: Vec<String>,
    /// What is to be known of the file.
    pub notes: Vec<String>,
}

/// What firmware's table says of the whole machine.
#[derive(Debug)]
pub struct Firmware {
    pub host_bits: u8,
    pub interrupts: bool,
    pub complete: bool,
}

#[derive(Debug)]
pub struct FirmwareFinding {
    pub severity: String,
    pub offset: u32,
    pub text: String,
    pub action: String,
}

#[derive(Debug)]
pub struct BoardVerdict {
    pub fit: bool,
    pub why: String,
    pub limits: u32,
}

#[derive(Debug)]
pub struct ReportedUnit {
    pub base: u64,
    pub segment: u16,
    pub capabilities: String,
    pub state: Option<ReportedState>,
    /// Name of a bit, whether it is set, and what it means.
    pub abilities: Vec<(String, bool, String)>,
}

#[derive(Debug)]
pub struct ReportedState {
    pub version: (u8, u8),
    pub input_bits: u8,
    pub output_bits: u8,
    pub domains: u32,
    pub translating: bool,
    pub interrupts: bool,
    pub refused: String,
}

#[derive(Debug)]
pub struct ReportedFunction {
    pub id: SourceId,
    pub vendor: u16,
    pub device: u16,
    pub class: u32,
    pub unit: Option<u64>,
    pub refused: String,
    pub input_bits: u8,
    /// What isolates it; empty if nothing does.
    pub isolated: String,
    pub device_tlb: u8,
    pub no_device_tlb: String,
    pub msi: u16,
    pub msi_x: u16,
    pub resettable: bool,
    /// If it is a bridge: the bus right behind it, and the last one.
    pub buses: Option<(u8, u8)>,
    pub aliases: Vec<String>,
    /// First and last of each range that nothing isolates it from.
    pub shares: Vec<(SourceId, SourceId)>,
    /// First and last address of what firmware reserves for it.
    pub uses: Vec<(u64, u64)>,
}

#[derive(Debug)]
pub struct ReportedReserved {
    pub first: u64,
    pub last: u64,
    pub offset: u32,
    pub map: String,
    pub agrees: bool,
}

#[derive(Debug)]
pub struct Measurement {
    pub unit: u64,
    pub what: String,
    pub times: u32,
    pub min_ns: u64,
    pub median_ns: u64,
    pub max_ns: u64,
}

impl Contents {
    pub fn of(log: SavedLog) -> Self {
        let mut all = Self { words: log.words, ..Self::default() };
        if log.earlier != 0 {
            let (first, last, earlier) = (log.lines.start(), log.lines.end(), log.earlier);
            all.notes.push(format!(
                "{} reports are in the file; this is the last one, lines {first} to {last}",
                earlier + 1
            ));
        }
        for line in &log.unknown {
            all.notes.push(format!(
                "line {line}: a record that is not known here; an image of another version may have written it"
            ));
        }
        let torn = log.torn.iter().map(|line| format!("line {line}: a record that cannot be read"));
        all.flaws.extend(torn);
        let behind = log.torn_behind.iter();
        all.flaws.extend(behind.map(|line| {
            format!("line {line}: a record that cannot be read, behind this report; it may be of a later one")
        }));
        let without = log.torn.iter().chain(&log.unknown);
        let (mut came, mut started, mut ended, mut counted) = (0_usize, false, false, Vec::new());
        for (line, record) in log.records {
            match &record {
                Record::Started { scenario, .. } => started |= scenario == SCENARIO,
                Record::Finished | Record::Refused { .. } => ended = true,
                Record::Sent { records } => {
                    counted.push((line, *records as usize, came));
                }
                _ => {}
            }
            came += 1;
            if let Err(flaw) = all.add(record) {
                all.flaws.push(format!("line {line}: {flaw}"));
            }
        }
        if !started {
            all.flaws.push("its start is not there".into());
        }
        if !ended {
            all.flaws.push("its end is not there: the log was cut, or the machine stopped".into());
        }
        for (line, records, came) in &counted {
            let seen = came + without.clone().filter(|it| *it < line).count();
            if *records != seen {
                all.flaws.push(format!("line {line}: {records} records come before this one, and {seen} are there"));
            }
        }
        if let Some((line, _, before)) = counted.first() {
            let behind = came - before - 1 + without.filter(|it| *it > line).count();
            // Its end alone comes behind.
            if behind > usize::from(ended) {
                all.flaws
                    .push(format!("line {line}: {behind} records come behind this one, which is the last but one"));
            }
        } else if ended {
            all.flaws.push("how many records it has is not there".into());
        }
        all.cross_check();
        all
    }

    /// True if it is whole, its board fit, nothing of firmware's table lost, and all that was expected held.
    pub fn is_sound(&self) -> bool {
        let holds = self.expected.iter().all(|(_, held, _)| *held);
        let lost = self.findings.iter().any(|finding| finding.severity == "error");
        let fit = self.verdict.as_ref().is_some_and(|verdict| verdict.fit);
        let complete = self.firmware.as_ref().is_none_or(|firmware| firmware.complete);
        self.flaws.is_empty() && self.refused.is_none() && holds && !lost && complete && fit
    }

    /// The function with this source-id.
    pub fn function(&self, id: SourceId) -> Option<&ReportedFunction> {
        self.functions.iter().find(|function| function.id == id)
    }

    pub fn unit(&self, base: u64) -> Option<&ReportedUnit> {
        self.units.iter().find(|unit| unit.base == base)
    }

    fn add(&mut self, record: Record<String>) -> Result<(), String> {
        match record {
            Record::Started { memory_mib, tsc_mhz, .. } => self.started = Some((memory_mib, tsc_mhz)),
            Record::Board { format, version } => {
                self.version = Some(version);
                if format > FORMAT {
                    return Err(format!("its format is {format}, and this program knows up to {FORMAT}"));
                }
            }
            Record::TablePart { offset, hex } => return self.add_table(offset, &hex),
            Record::Firmware { host_bits, interrupts, complete } => {
                self.firmware = Some(Firmware { host_bits, interrupts, complete });
            }
            Record::Finding { severity, offset, text, action } => {
                self.findings.push(FirmwareFinding { severity, offset, text, action });
            }
            Record::Unit { base, segment, capabilities } => {
                at_most(MOST_UNITS, self.units.len(), "units")?;
                let is_known = self.unit(base).is_some();
                self.units.push(ReportedUnit { base, segment, capabilities, state: None, abilities: Vec::new() });
                return if is_known { Err(format!("the unit {base:#x} is there twice")) } else { Ok(()) };
            }
            Record::UnitState { unit, version, input_bits, output_bits, domains, translating, interrupts, refused } => {
                let state =
                    ReportedState { version, input_bits, output_bits, domains, translating, interrupts, refused };
                self.unit_mut(unit)?.state = Some(state);
            }
            Record::Ability { unit, bit, has, words } => self.unit_mut(unit)?.abilities.push((bit, has, words)),
            Record::Function { .. } => return self.add_function(record),
            Record::Alias { function, id } => {
                source(&id)?;
                self.function_mut(&function)?.aliases.push(id);
            }
            Record::Group { function, first, last } => {
                let range = (source(&first)?, source(&last)?);
                add_range(&mut self.function_mut(&function)?.shares, range)?;
            }
            Record::Uses { function, first, last } => {
                add_range(&mut self.function_mut(&function)?.uses, (first, last))?;
            }
            Record::Reserved { first, last, offset, map, agrees } => {
                at_most(MOST_RESERVED, self.reserved.len(), "pieces of reserved memory")?;
                self.reserved.push(ReportedReserved { first, last, offset, map, agrees });
            }
            Record::Memory { first, bytes, kind } => self.memory.push((first, bytes, kind)),
            Record::Measured { unit, what, times, min_ns, median_ns, max_ns } => {
                self.measured.push(Measurement { unit, what, times, min_ns, median_ns, max_ns });
            }
            Record::Expect { what, ok, seen } => self.expected.push((what, ok, seen)),
            Record::Limit { text } => self.limits.push(text),
            Record::Verdict { fit, why, limits } => {
                let is_known = self.verdict.replace(BoardVerdict { fit, why, limits }).is_some();
                return if is_known { Err("another verdict".into()) } else { Ok(()) };
            }
            Record::Refused { error } => self.refused = Some(error),
            Record::Sent { .. } | Record::Finished => {}
            Record::Registers { .. } | Record::Cell { .. } | Record::Reach { .. } | Record::Counts { .. } => {}
        }
        Ok(())
    }

    fn add_table(&mut self, offset: u32, hex: &str) -> Result<(), String> {
        if offset as usize != self.table.len() {
            return Err(format!("bytes of firmware's table are not there, before the offset {offset:#x}"));
        }
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
        let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_hex {
            return Err("bytes of firmware's table that are no hexadecimal digits".into());
        }
        self.table.extend(digits.filter_map(|digits| u8::from_str_radix(digits, 16).ok()));
        Ok(())
    }

    fn add_function(&mut self, record: Record<String>) -> Result<(), String> {
        let Record::Function {
            id,
            vendor,
            device,
            class,
            unit,
            refused,
            input_bits,
            isolated,
            device_tlb,
            no_device_tlb,
            msi,
            msi_x,
            resettable,
            buses,
        } = record
        else {
            return Ok(());
        };
        let id = source(&id)?;
        at_most(MOST_FUNCTIONS, self.functions.len(), "functions")?;
        if self.function(id).is_some() {
            return Err(format!("the function {id} is there twice"));
        }
        self.functions.push(ReportedFunction {
            id,
            vendor,
            device,
            class,
            unit,
            refused,
            input_bits,
            isolated,
            device_tlb,
            no_device_tlb,
            msi,
            msi_x,
            resettable,
            buses,
            aliases: Vec::new(),
            shares: Vec::new(),
            uses: Vec::new(),
        });
        match unit.filter(|unit| self.unit(*unit).is_none()) {
            Some(unit) => Err(format!("{id} names the unit {unit:#x}, which is not there")),
            None => Ok(()),
        }
    }

    fn unit_mut(&mut self, base: u64) -> Result<&mut ReportedUnit, String> {
        let unit = self.units.iter_mut().find(|unit| unit.base == base);
        unit.ok_or_else(|| format!("it names the unit {base:#x}, which is not there"))
    }

    fn function_mut(&mut self, id: &str) -> Result<&mut ReportedFunction, String> {
        let wanted = source(id)?;
        let function = self.functions.iter_mut().find(|function| function.id == wanted);
        function.ok_or_else(|| format!("it names the function {id}, which is not there"))
    }

    /// What no line is wrong with by itself.
    fn cross_check(&mut self) {
        let mut flaws = Vec::new();
        match &self.verdict {
            None if self.refused.is_none() => flaws.push("it has no verdict".to_owned()),
            Some(verdict) if (verdict.limits as usize) < self.limits.len() => {
                flaws.push(format!("its verdict has {} limits, and {} are there", verdict.limits, self.limits.len()));
            }
            _ => {}
        }
        let has_units = !self.units.is_empty();
        for (lacks, what) in [
            (self.memory.is_empty(), "the memory map"),
            (has_units && self.table.is_empty(), "firmware's table"),
            (has_units && self.firmware.is_none(), "what firmware's table says of the machine"),
            (has_units && self.functions.is_empty(), "any function"),
        ] {
            flaws.extend((lacks && self.refused.is_none()).then(|| format!("it lacks {what}")));
        }
        let is_used = |unit: &&ReportedUnit| unit.state.as_ref().is_some_and(|state| state.refused.is_empty());
        let dumb = self.units.iter().filter(is_used).filter(|unit| unit.abilities.is_empty());
        flaws.extend(dumb.map(|unit| format!("what the unit {:#x} can do is not there", unit.base)));
        let states = self.units.iter().filter(|unit| unit.state.is_none());
        flaws.extend(states.map(|unit| format!("the state of the unit {:#x} is not there", unit.base)));
        let measured = self.measured.iter().filter(|measured| self.unit(measured.unit).is_none());
        flaws.extend(
            measured.map(|it| format!("{:?} was measured on the unit {:#x}, which is not there", it.what, it.unit)),
        );
        let used = self.functions.iter().filter(|it| it.unit.is_some() && it.refused.is_empty());
        for function in used {
            let has_itself = function.shares.iter().any(|(first, last)| (first..=last).contains(&&function.id));
            if function.isolated.is_empty() && !has_itself {
                flaws.push(format!("nothing isolates {}, and its group is not there", function.id));
            }
        }
        // The length that the table's own header has.
        let said = self.table.get(4..8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
        if self.table.len() >= 36 && said.is_some_and(|said| said as usize != self.table.len()) {
            flaws.push(format!(
                "{} bytes of firmware's table are there, which says that it has {said:?}",
                self.table.len()
            ));
        }
        let mut behind = BTreeMap::<(u16, u8), SourceId>::new();
        for function in &self.functions {
            // A bus of 0 is that of a bridge which nobody has set up.
            let Some((secondary, _)) = function.buses.filter(|(secondary, _)| *secondary != 0) else { continue };
            if let Some(other) = behind.insert((function.id.segment(), secondary), function.id) {
                flaws.push(format!("{other} and {} both lead to the bus {secondary:02x}", function.id));
            }
        }
        for function in &self.functions {
            for range in
                function.uses.iter().filter(|range| !self.reserved.iter().any(|it| (it.first, it.last) == **range))
            {
                flaws.push(format!(
                    "{} uses reserved memory {:#x} to {:#x}, which is not there",
                    function.id, range.0, range.1
                ));
            }
        }
        self.flaws.extend(flaws);
    }
}

/// Fails unless there is room for one more.
fn at_most(most: usize, count: usize, what: &str) -> Result<(), String> {
    if count < most { Ok(()) } else { Err(format!("more than {most} {what}")) }
}

fn add_range<T>(all: &mut Vec<T>, range: T) -> Result<(), String> {
    at_most(MOST_RANGES, all.len(), "ranges of one function")?;
    all.push(range);
    Ok(())
}

fn source(id: &str) -> Result<SourceId, String> {
    // As the driver writes it: without a digit, it would be another's.
    let parsed = parse(id).filter(|it| it.to_string() == id);
    parsed.ok_or_else(|| format!("{id:?} is no source-id"))
}

#[cfg(test)]
mod tests;
