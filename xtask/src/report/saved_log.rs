//! A saved serial log: the records of the last board report in it, each with its line.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use cofferdam_report::{MARK, Record};
use serde_json::Value;

use crate::show::steers;

/// A log of one boot is some dozens of KiB.
pub const MAX_BYTES: usize = 16 << 20;
/// The scenario that makes a board report.
pub const SCENARIO: &str = "board";

/// A board report as it was saved, with what else is known of the file.
#[derive(Debug)]
pub struct SavedLog {
    pub records: Vec<(usize, Record<String>)>,
    /// Lines with a record that cannot be read.
    pub torn: Vec<usize>,
    /// Lines behind this report with a record that cannot be read. It may have been of a later report.
    pub torn_behind: Vec<usize>,
    /// Lines with a record of a kind that is not known here.
    pub unknown: Vec<usize>,
    /// The lines that were looked at.
    pub lines: RangeInclusive<usize>,
    /// How many other reports come before this one.
    pub earlier: usize,
    /// What was printed for people.
    pub words: Vec<String>,
}

/// What a line has for programs.
#[derive(Clone, Debug, PartialEq)]
enum InLine {
    Known(Record<String>),
    Unknown,
    Torn,
}

/// Lines from a start to an end, as far as both are there.
#[derive(Debug, Default)]
struct LogPart {
    all: Vec<(usize, InLine)>,
}

impl SavedLog {
    /// # Errors
    ///
    /// There is no board report in it.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            bail!("more than {MAX_BYTES} bytes are no log of a boot");
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            bail!("it is UTF-16; save the serial log as it comes, byte by byte");
        }
        let text = String::from_utf8_lossy(bytes);
        let lines = Vec::from_iter(text.split('\n').map(printable));
        let numbered = lines.iter().zip(1_usize..);
        let all = numbered.flat_map(|(line, number)| in_line(line).into_iter().map(move |it| (number, it)));
        let mut parts = parts(all);
        let last = parts.iter().rposition(LogPart::is_report).context(
            "no board report is in it; a report has lines with \"@cofferdam\", so save all that the serial port says",
        )?;
        let behind = parts.split_off(last + 1);
        let torn_behind = behind.iter().flat_map(|part| part.of_kind(&InLine::Torn)).collect();
        let last = parts.pop().unwrap_or_default();
        let earlier = parts.iter().filter(|part| part.is_report()).count();
        Ok(Self { torn_behind, earlier, ..Self::of(last, &lines) })
    }

    fn of(part: LogPart, lines: &[String]) -> Self {
        let number = |it: Option<&(usize, InLine)>| it.map_or(1, |(number, _)| *number);
        let span = number(part.all.first())..=number(part.all.last());
        let (torn, unknown) = (part.of_kind(&InLine::Torn), part.of_kind(&InLine::Unknown));
        let within = lines.iter().zip(1_usize..).filter(|(_, number)| span.contains(number));
        let words = within.filter(|(line, _)| !line.contains(MARK.trim_end())).map(|(line, _)| line.clone());
        let words = words.collect();
        let known = |(number, it)| if let InLine::Known(record) = it { Some((number, record)) } else { None };
        let records = part.all.into_iter().filter_map(known).collect();
        Self { records, torn, torn_behind: Vec::new(), unknown, lines: span, earlier: 0, words }
    }
}

impl LogPart {
    /// The lines that have something of a kind.
    fn of_kind(&self, kind: &InLine) -> Vec<usize> {
        self.all.iter().filter(|it| it.1 == *kind).map(|it| it.0).collect()
    }

    /// It starts with a board report, or has what only such a report has.
    fn is_report(&self) -> bool {
        let mut known =
            self.all.iter().filter_map(|(_, it)| if let InLine::Known(record) = it { Some(record) } else { None });
        let started = known.clone().find_map(|record| match record {
            Record::Started { scenario, .. } => Some(scenario == SCENARIO),
            _ => None,
        });
        started.unwrap_or_else(|| {
            known.any(|record| {
                matches!(
                    record,
                    Record::Board { .. } | Record::UnitState { .. } | Record::Function { .. } | Record::Verdict { .. }
                )
            })
        })
    }
}

/// Cuts before each start and behind each end.
fn parts(all: impl Iterator<Item = (usize, InLine)>) -> Vec<LogPart> {
    let mut parts = vec![LogPart::default()];
    for (number, it) in all {
        let (starts, ends) = match &it {
            InLine::Known(Record::Started { .. }) => (true, false),
            InLine::Known(Record::Finished | Record::Refused { .. }) => (false, true),
            _ => (false, false),
        };
        if starts {
            parts.push(LogPart::default());
        }
        parts.last_mut().into_iter().for_each(|part| part.all.push((number, it.clone())));
        if ends {
            parts.push(LogPart::default());
        }
    }
    parts
}

/// The records of a line. Something may stand before the first, as programs for terminals put the time there; and the end
/// of a line may be lost, so that two are on one.
fn in_line(line: &str) -> Vec<InLine> {
    let mark = MARK.trim_end();
    let Some((_, rest)) = line.split_once(mark) else { return Vec::new() };
    match record(rest) {
        InLine::Torn => rest.split(mark).map(record).collect(),
        whole => vec![whole],
    }
}

fn record(json: &str) -> InLine {
    let json = json.trim();
    let Ok(mut value) = serde_json::from_str(json) else { return InLine::Torn };
    clean(&mut value);
    match serde_json::from_value(value) {
        Ok(record) => InLine::Known(record),
        // A record of a name that is known here, with a field that is not: a byte of it was lost.
        Err(error) if error.to_string().starts_with("unknown variant") => InLine::Unknown,
        Err(_) => InLine::Torn,
    }
}

/// Takes out of each text what would move a cursor or change a colour.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(all) => all.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}

/// A line without what would move a cursor, change a colour, or turn the direction of what comes behind.
pub fn printable(line: &str) -> String {
    let line = console::strip_ansi_codes(line.trim_end_matches('\r'));
    line.chars().filter(|character| !steers(*character)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]
    use super::*;

    const START: &str = r#"@cofferdam {"Started":{"scenario":"board","memory_mib":256,"tsc_mhz":1000}}"#;
    const OTHER: &str = r#"@cofferdam {"Started":{"scenario":"main_job","memory_mib":256,"tsc_mhz":1000}}"#;
    const LIMIT: &str = r#"@cofferdam {"Limit":{"text":"a"}}"#;
    const VERDICT: &str = r#"@cofferdam {"Verdict":{"fit":true,"why":"","limits":1}}"#;
    const END: &str = r#"@cofferdam "Finished""#;

    fn read(lines: &[&str]) -> SavedLog {
        SavedLog::read(lines.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn other_lines_ends_of_lines_and_escapes_do_no_harm() {
        let log = SavedLog::read(
            format!("GRUB\r\n\x1b[0m\x1b[37m{START}\r\r\nwords \x1b[1mfor\x1b[0m people\x07\r\n\r\n[12:00:01] {LIMIT}\r\n{VERDICT}{END}\r\n\nbye")
                .as_bytes(),
        )
        .unwrap();
        let lines = Vec::from_iter(log.records.iter().map(|(line, _)| *line));
        assert_eq!((lines, log.torn.len(), log.lines), (vec![2, 5, 6, 6], 0, 2..=6));
        assert_eq!(log.words, ["words for people", ""]);
    }

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        let log = read(&[START, r#"@cofferdam {"Limit":{"text":"\u001b[31mred\u001b[0m\u0007 \u009bx\n"}}"#, END]);
        assert_eq!(log.records[1].1, Record::Limit { text: "red x".into() });
        assert_eq!(printable("a\u{202a}\u{202e}b\u{2066}\u{2069}\u{2065}c"), "ab\u{2065}c");
    }

    #[test]
    fn what_is_torn_and_what_is_not_known_is_named_by_its_line() {
        let log = read(&[START, "@cofferdam {\"Limit\":{\"te", "@cofferdam", r#"@cofferdam {"Later":{"a":1}}"#, END]);
        assert_eq!((log.torn, log.unknown, log.records.len()), (vec![2, 3], vec![4], 2));
    }

    #[test]
    fn the_last_of_several_reports_is_taken_and_no_other_scenario() {
        let log = read(&[START, LIMIT, END, OTHER, LIMIT, LIMIT, END, START, END, OTHER, END]);
        assert_eq!((log.records.len(), log.earlier, log.lines), (2, 1, 8..=9));
        // One that was cut by a reset; one whose start is torn.
        let log = read(&[START, LIMIT, START, VERDICT, END, &START[..30], LIMIT, VERDICT, END]);
        assert_eq!((log.records.len(), log.earlier, log.torn), (3, 2, vec![6]));
    }

    #[test]
    fn what_is_torn_behind_the_report_is_named_by_its_line() {
        let cut = &VERDICT[..30];
        let log = read(&[cut, START, VERDICT, END, cut, OTHER, LIMIT, cut, END]);
        assert_eq!((log.lines, log.torn, log.torn_behind), (2..=4, vec![], vec![5, 8]));
    }

    #[test]
    fn what_has_no_report_is_refused() {
        let refusal = |bytes: &[u8]| SavedLog::read(bytes).unwrap_err().to_string();
        for none in ["", "SeaBIOS\n", OTHER, "@cofferdam {", END] {
            assert!(refusal(none.as_bytes()).starts_with("no board report is in it"), "{none}");
        }
        assert!(refusal(b"\xff\xfea\0").starts_with("it is UTF-16"));
        assert!(refusal(&vec![b' '; MAX_BYTES + 1]).contains("no log of a boot"));
    }

    #[test]
    fn no_cut_and_no_byte_makes_it_panic() {
        let good = [START, LIMIT, VERDICT, END].join("\r\n").into_bytes();
        for at in 0..good.len() {
            let _ = SavedLog::read(&good[..at]);
            for byte in [0, b'"', b'{', 0x1b, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                let _ = SavedLog::read(&bytes);
            }
        }
    }
}
