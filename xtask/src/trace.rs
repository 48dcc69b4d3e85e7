//! QEMU's trace of the remapping unit as a judge: what each call of the driver submitted, whether or not it mattered.
//!
//! Pure functions of the trace's lines. Bit positions are taken from the specification alone (VT-d 5.10, S 6.5.2, 11.4),
//! not from the driver.

use std::{fmt, path::Path};

use anyhow::{Context, Result, ensure};
use cofferdam_report::{Record, mark};
use serde::Deserialize;

use crate::process::{Line, Stream};

/// What QEMU has to trace; it does so on stderr.
pub const EVENTS: [&str; 2] = ["vtd_inv_desc", "vtd_reg_write"];

/// The calls of a scenario, in order, and what each has to leave in the trace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    call: Vec<Call>,
}

/// One of them: register writes and descriptors, in order, as [`Events`] has them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    trace: Vec<String>,
    /// On a unit with caching mode (CAP.CM), if that is not the same.
    caching_mode: Option<Vec<String>>,
    /// On a unit whose caches a new root table empties (CAP.ESRTPS), if that is not the same.
    esrtps: Option<Vec<String>>,
}

/// What a unit can do, as far as it matters here (S 11.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unit {
    caching_mode: bool,
    esrtps: bool,
}

impl Script {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, holds something unknown, or expects nothing.
    pub fn read(path: &Path) -> Result<Script> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Script::parse(&text).with_context(|| format!("{} is wrong", path.display()))
    }

    fn parse(text: &str) -> Result<Script> {
        let script: Script = toml::from_str(text)?;
        ensure!(script.call.iter().any(|call| !call.trace.is_empty()), "no call has to leave anything in the trace");
        for Call { name, caching_mode, esrtps, .. } in &script.call {
            ensure!(
                caching_mode.is_none() || esrtps.is_none(),
                "call `{name}`: which list counts on a unit with both?"
            );
        }
        Ok(script)
    }
}

/// True for a line of the trace, rather than something that QEMU or the guest has to say.
pub fn is_event(line: &Line) -> bool {
    line.stream == Stream::Err && line.text.starts_with("vtd_")
}

impl Unit {
    /// By what the guest reads in CAP_REG.
    fn of(records: &[Record<String>]) -> Option<Unit> {
        records.iter().find_map(|record| match record {
            Record::Registers { cap, .. } => Some(Unit { caching_mode: cap >> 7 & 1 == 1, esrtps: cap >> 63 == 1 }),
            _ => None,
        })
    }
}

impl Call {
    fn expected(&self, unit: Unit) -> &[String] {
        let caching = self.caching_mode.as_ref().filter(|_| unit.caching_mode);
        caching.or(self.esrtps.as_ref().filter(|_| unit.esrtps)).unwrap_or(&self.trace)
    }
}

/// Everything in the trace that is not as the script has it for the guest's unit, or as the driver's own counts among the guest's
/// `records` have it, in words; empty if it all is.
pub fn judge(script: &Script, trace: &[Line], records: &[Record<String>]) -> Vec<String> {
    if trace.is_empty() {
        return vec!["QEMU left no trace".into()];
    }
    let Some(unit) = Unit::of(records) else { return vec!["the guest does not say what the unit can do".into()] };
    let (calls, mut wrong) = calls(trace);
    wrong.extend(judge_counts(trace, records));
    let mut seen = calls.iter();
    for call in &script.call {
        let (name, expected) = (&call.name, call.expected(unit));
        match seen.next() {
            Some((call, events)) if call == name && events.as_slice() == expected => {}
            Some((call, events)) if call == name => wrong.push(format!(
                "call `{name}`: expected in the trace: {}; seen: {}",
                Events(expected),
                Events(events)
            )),
            Some((call, _)) => {
                wrong.push(format!("call `{name}` was to come, and the trace goes on with `{call}`"));
                return wrong;
            }
            None => {
                wrong.push(format!("the trace ends before call `{name}`"));
                return wrong;
            }
        }
    }
    wrong.extend(seen.map(|(call, events)| format!("call `{call}` is not expected; seen: {}", Events(events))));
    wrong
}

/// Descriptors, waits among them, and doorbells, as the driver says and as the trace has them until translation goes off.
fn judge_counts(trace: &[Line], records: &[Record<String>]) -> Option<String> {
    let said = records.iter().rev().find_map(|record| match record {
        Record::Counts { descriptors, waits, doorbells, .. } => Some((*descriptors, *waits, *doorbells)),
        _ => None,
    });
    let (mut seen, mut queue_on, mut translating) = ((0, 0, 0), false, false);
    for event in trace.iter().filter_map(|line| event(&line.text)) {
        match event {
            Event::Register(text) if text.starts_with("GCMD") && translating && !text.contains("TE") => break,
            Event::Register(text) if text.starts_with("GCMD") => {
                (queue_on, translating) = (text.contains("QIE"), text.contains("TE"));
            }
            Event::Register(text) if text == "IQT" => seen.2 += u64::from(queue_on),
            Event::Descriptor(text) => (seen.0, seen.1) = (seen.0 + 1, seen.1 + u64::from(text.starts_with("wait"))),
            _ => {}
        }
    }
    let words = |(all, waits, doorbells)| format!("{all} descriptors, {waits} of them waits, {doorbells} doorbells");
    let said_words = said.map_or("told no counts".into(), |said| format!("counts {}", words(said)));
    (said != Some(seen)).then(|| format!("the driver {said_words}; the trace has {}", words(seen)))
}

/// A list in words.
struct Events<'a>(&'a [String]);

impl fmt::Display for Events<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("nothing") } else { write!(f, "[{}]", self.0.join("] [")) }
    }
}

/// Each call that the guest has marked, with what the trace has of it; and what is wrong with the trace itself.
fn calls(trace: &[Line]) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let mut calls: Vec<(String, Vec<String>)> = Vec::new();
    let (mut wrong, mut names) = (Vec::new(), mark::Reader::<String>::default());
    for Line { text, .. } in trace {
        match (event(text), calls.last_mut()) {
            (Some(Event::Mark(word)), _) => calls.extend(names.take(word).map(|name| (name, Vec::new()))),
            (Some(Event::Register(event) | Event::Descriptor(event)), Some((_, events))) => events.push(event),
            (Some(Event::Register(event) | Event::Descriptor(event)), None) => {
                wrong.push(format!("in the trace before the first call: {event}"))
            }
            (None, _) => wrong.push(format!("a line of the trace that cannot be read: {text}")),
        }
    }
    (calls, wrong)
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Mark(u64),
    Register(String),
    Descriptor(String),
}

/// `vtd_inv_desc invalidate desc type iotlb high 0x2000000000 low 0x100f2`,
/// `vtd_reg_write addr 0x88 size 0x8 value 0x20`.
fn event(line: &str) -> Option<Event> {
    let words: Vec<_> = line.split_ascii_whitespace().collect();
    let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match *words.as_slice() {
        ["vtd_inv_desc", .., "high", high, "low", low] => {
            Some(Event::Descriptor(descriptor(u128::from(number(high)?) << 64 | u128::from(number(low)?))))
        }
        ["vtd_reg_write", "addr", address, "size", _, "value", value] => {
            let (address, value) = (number(address)?, number(value)?);
            let is_mark = address == u64::from(mark::REGISTER);
            Some(if is_mark { Event::Mark(value) } else { Event::Register(register(address, value)) })
        }
        _ => None,
    }
}

/// A register that was written (S 11.4), and for commands what it was told.
fn register(address: u64, value: u64) -> String {
    match address {
        0x18 => {
            let names = [(23, "CFI"), (24, "SIRTP"), (25, "IRE"), (26, "QIE"), (27, "WBF"), (30, "SRTP"), (31, "TE")];
            let set = names.iter().filter(|(bit, _)| value >> bit & 1 == 1).map(|(_, name)| format!(" {name}"));
            format!("GCMD{}", set.collect::<String>())
        }
        0x20 => "RTADDR".into(),
        0x34 => "FSTS".into(),
        0x38 => "FECTL".into(),
        0x88 => "IQT".into(),
        0x90 => "IQA".into(),
        0xa0 => "IECTL".into(),
        _ => format!("register {address:#x}"),
    }
}

/// A descriptor of 128 bits (S 6.5.2.1 to 6.5.2.9).
fn descriptor(bits: u128) -> String {
    let field = |first: u32, last: u32| (bits >> first) as u64 & (u64::MAX >> (63 - (last - first)));
    let granularity = ["reserved", "all", "domain", "selective"];
    let granularity = |first| granularity.get(field(first, first + 1) as usize).copied().unwrap_or_default();
    let (domain, address) = (field(16, 31), field(76, 127) << 12);
    let source = || format!("{:02x}:{:02x}.{}", field(40, 47), field(35, 39), field(32, 34));
    // What it says, and the fields that say it, as first and last bit.
    let (text, fields): (String, &[(u32, u32)]) = match field(9, 11) << 4 | field(0, 3) {
        1 => match granularity(4) {
            "selective" if field(48, 49) != 0 => ("context cache: functions by mask".into(), &[(0, 63)]),
            "selective" => (format!("context cache: {} in domain {domain}", source()), &[(4, 5), (16, 47)]),
            "domain" => (format!("context cache: domain {domain}"), &[(4, 5), (16, 31)]),
            other => (format!("context cache: {other}"), &[(4, 5)]),
        },
        2 => {
            let drains = if field(6, 7) == 0b11 { "" } else { ", does not drain" };
            let hint = if field(70, 70) == 1 { ", leaves only" } else { "" };
            match granularity(4) {
                "selective" => {
                    let pages = pages(address, field(64, 69) as u32);
                    (format!("IOTLB: domain {domain}, {pages}{hint}{drains}"), &[(4, 7), (16, 31), (64, 70), (76, 127)])
                }
                "domain" => (format!("IOTLB: domain {domain}{drains}"), &[(4, 7), (16, 31)]),
                other => (format!("IOTLB: {other}{drains}"), &[(4, 7)]),
            }
        }
        3 => {
            // With S, the lowest bit of the address that is zero tells the size.
            let mask = if field(64, 64) == 1 { (address >> 12).trailing_ones() + 1 } else { 0 };
            let pages = match mask {
                52 => "all".into(),
                53 => "no size".into(),
                mask => pages(address >> (mask + 12) << (mask + 12), mask),
            };
            let pending = match field(16, 20) {
                0 => String::new(),
                most => format!(", {most} at a time"),
            };
            (format!("device-TLB of {}: {pages}{pending}", source()), &[(16, 20), (32, 47), (64, 64), (76, 127)])
        }
        4 => ("interrupt entry cache".into(), &[(4, 4), (27, 47)]),
        5 => {
            let flags = [(4, ", interrupts"), (6, ", fences")].iter().filter(|(bit, _)| field(*bit, *bit) == 1);
            let flags: String = flags.map(|(_, flag)| *flag).collect();
            let status = if field(5, 5) == 1 { "" } else { ", tells nobody" };
            (format!("wait{status}{flags}"), &[(4, 6), (32, 63), (66, 127)])
        }
        kind => (format!("descriptor of type {kind:#x}"), &[(0, 127)]),
    };
    let known =
        fields.iter().fold(0xe0f, |known, (first, last)| known | (u128::MAX >> (127 - (last - first))) << first);
    let reserved = if bits & !known == 0 { "" } else { ", reserved bits" };
    format!("{text}{reserved}")
}

fn pages(address: u64, mask: u32) -> String {
    if mask == 0 { format!("page {address:#x}") } else { format!("2^{mask} pages at {address:#x}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What QEMU 7.2.22 and 10.0.2 both say of two calls; the second one's name is cut.
    const CAPTURED: &str = "\
vtd_reg_write addr 0x50 size 0x8 value 0x6e6f2070616d6e75
vtd_reg_write addr 0x50 size 0x8 value 0x656761702065
vtd_reg_write addr 0x88 size 0x8 value 0xb0
vtd_inv_desc invalidate desc type iotlb high 0x2000806040 low 0x100f2
vtd_inv_desc invalidate desc type wait high 0x534050 low 0xb00000025
vtd_reg_write addr 0x50 size 0x8 value 0x657361656c6572
vtd_reg_write addr 0x88 size 0x8 value 0x1c0
vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x800010031
vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x100e2
vtd_inv_desc invalidate desc type wait high 0x5340d8 low 0x1c00000025
";

    const SCRIPT: &str = r#"
        [[call]]
        name = "unmap one page"
        trace = ["IQT", "IOTLB: domain 1, page 0x2000806000, leaves only", "wait"]
        [[call]]
        name = "release"
        trace = ["IQT", "context cache: 00:01.0 in domain 1", "IOTLB: domain 1", "wait"]
        caching_mode = ["IQT", "wait"]
    "#;

    fn lines(text: &str) -> Vec<Line> {
        let line = |text: &str| Line { after: Duration::ZERO, stream: Stream::Err, text: text.into() };
        text.lines().map(line).collect()
    }

    /// What QEMU 7.2 has in CAP_REG, and what 11.1 has there, with 48 bits both.
    const CAP: u64 = 0x00d2_008c_222f_0606;
    const CAP_ESRTPS: u64 = 0x80d2_008c_222f_0606;
    const CM: u64 = 1 << 7;

    fn unit(cap: u64) -> [Record<String>; 1] {
        [Record::Registers { unit: 0xfed9_0000, cap, ecap: 0xf0_0f4a }]
    }

    /// With the counts left out.
    fn judged(trace: &str, caching_mode: bool) -> Vec<String> {
        let cap = if caching_mode { CAP | CM } else { CAP };
        let mut wrong = judge(&Script::parse(SCRIPT).unwrap(), &lines(trace), &unit(cap));
        wrong.retain(|wrong| !wrong.starts_with("the driver told no counts"));
        wrong
    }

    /// The captured trace without its `line`-th line, or with that line twice.
    fn edited(line: usize, times: usize) -> String {
        let lines = CAPTURED.lines().enumerate();
        lines.map(|(at, text)| format!("{text}\n").repeat(if at == line { times } else { 1 })).collect()
    }

    #[test]
    fn a_trace_as_expected_passes() {
        assert_eq!(judged(CAPTURED, false), Vec::<String>::new());
    }

    #[test]
    fn the_drivers_own_counts_are_those_of_the_trace() {
        let command = |value: u32| format!("vtd_reg_write addr 0x18 size 0x4 value {value:#x}\n");
        let tail = "vtd_reg_write addr 0x88 size 0x8 value 0x0\n";
        // Neither before the queue is on nor once translation is off.
        let (on, off) = (tail.to_owned() + &command(0x400_0000) + &command(0x8400_0000), command(0x400_0000) + tail);
        let trace = lines(&format!("{on}{CAPTURED}{off}"));
        let told = |descriptors, waits, doorbells| Record::Counts { descriptors, waits, doorbells, table_frames: 0 };
        assert_eq!(judge_counts(&trace, &[told(9, 9, 9), told(5, 2, 2)]), None);
        for wrong in [told(6, 2, 2), told(5, 1, 2), told(5, 2, 3), Record::Finished] {
            let wrong = judge_counts(&trace, &[wrong]).unwrap();
            assert!(wrong.ends_with("; the trace has 5 descriptors, 2 of them waits, 2 doorbells"), "{wrong}");
        }
    }

    #[test]
    fn with_caching_mode_its_own_list_counts_where_there_is_one() {
        let [wrong] = &judged(CAPTURED, true)[..] else { panic!() };
        assert!(
            wrong.starts_with("call `release`: expected in the trace: [IQT] [wait]; seen: [IQT] [context"),
            "{wrong}"
        );
    }

    /// Setting the root table is all there: neither less than the specification wants of other units nor more than it wants of these.
    #[test]
    fn where_a_new_root_table_empties_the_caches_nothing_else_does() {
        let script = include_str!("../../tests-qemu/trace.toml");
        let mut script = Script::parse(script).unwrap();
        script.call.retain(|call| call.name == "enable");
        let begin: String =
            mark::words("enable").map(|word| format!("vtd_reg_write addr 0x50 size 0x8 value {word:#x}\n")).collect();
        let write = |address: u32, value: u64| format!("vtd_reg_write addr {address:#x} size 0x8 value {value:#x}\n");
        let descriptor = |low: u64| format!("vtd_inv_desc invalidate desc type x high 0x0 low {low:#x}\n");
        let (queue, wait) = (1 << 26, descriptor(0x25));
        let until_queue = [0x38, 0xa0, 0x34, 0x88, 0x90].map(|address| write(address, 0)).concat();
        let root = [write(0x18, queue), write(0x88, 0x10), wait.clone(), write(0x20, 0), write(0x18, queue | 1 << 30)]
            .concat();
        let flush = [write(0x88, 0x40), descriptor(0x11), descriptor(0xd2), wait].concat();
        let on = write(0x18, queue | 1 << 31);
        let (with, without) = ([&*until_queue, &root, &flush, &on].concat(), [&*until_queue, &root, &on].concat());
        let judged = |trace: &str, cap| {
            let mut wrong = judge(&script, &lines(&format!("{begin}{trace}")), &unit(cap));
            wrong.retain(|wrong| !wrong.starts_with("the driver told no counts"));
            wrong
        };
        assert_eq!(judged(&with, CAP), Vec::<String>::new());
        assert_eq!(judged(&without, CAP_ESRTPS), Vec::<String>::new());
        assert_eq!(judged(&without, CAP_ESRTPS | CM), Vec::<String>::new());
        for (trace, cap) in [(&without, CAP), (&without, CAP | CM), (&with, CAP_ESRTPS), (&with, CAP_ESRTPS | CM)] {
            let [wrong] = &judged(trace, cap)[..] else { panic!() };
            assert!(wrong.starts_with("call `enable`: expected in the trace: "), "{wrong}");
        }
    }

    #[test]
    fn a_unit_that_is_not_known_is_not_judged() {
        let wrong = judge(&Script::parse(SCRIPT).unwrap(), &lines(CAPTURED), &[Record::Finished]);
        assert_eq!(wrong, ["the guest does not say what the unit can do"]);
    }

    #[test]
    fn a_missing_or_empty_trace_fails() {
        assert_eq!(judged("", false), ["QEMU left no trace"]);
        let first_call: String = CAPTURED.split_inclusive('\n').take(5).collect();
        assert_eq!(judged(&first_call, false), ["the trace ends before call `release`"]);
    }

    #[test]
    fn each_line_missing_doubled_or_swapped_fails_by_its_call() {
        let calls = [2..5, 6..10]; // by the lines behind their marks
        for (call, name) in calls.into_iter().zip(["unmap one page", "release"]) {
            for line in call.clone() {
                for times in [0, 2] {
                    let wrong = judged(&edited(line, times), false);
                    assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("call `{name}`: ")), "{wrong:?}");
                }
                let mut swapped: Vec<_> = CAPTURED.lines().collect();
                swapped.swap(line, if line + 1 < call.end { line + 1 } else { line - 1 });
                assert_eq!(judged(&swapped.join("\n"), false).len(), 1);
            }
        }
    }

    #[test]
    fn a_failure_names_the_call_and_both_lists() {
        assert_eq!(
            judged(&edited(3, 0), false),
            ["call `unmap one page`: expected in the trace: [IQT] [IOTLB: domain 1, page 0x2000806000, leaves only] \
              [wait]; seen: [IQT] [wait]"]
        );
    }

    #[test]
    fn what_does_not_belong_there_fails() {
        let mark = |name: &str| {
            let line = |word| format!("vtd_reg_write addr 0x50 size 0x8 value {word:#x}\n");
            mark::words(name).map(line).collect::<String>()
        };
        let write = "vtd_reg_write addr 0x28 size 0x8 value 0x0\n";
        for (trace, says) in [
            (format!("{write}{CAPTURED}"), "before the first call: register 0x28"),
            (format!("{CAPTURED}{}{write}", mark("more")), "`more` is not expected; seen: [register 0x28]"),
            (format!("{}{CAPTURED}", mark("more")), "`unmap one page` was to come, and the trace goes on with `more`"),
            (CAPTURED.replacen("low", "lo", 1), "cannot be read: vtd_inv_desc invalidate desc type iotlb"),
            (format!("{CAPTURED}vtd_other x\n"), "cannot be read: vtd_other x"),
        ] {
            let wrong = judged(&trace, false);
            assert!(wrong.iter().any(|wrong| wrong.contains(says)), "{says}: {wrong:?}");
        }
    }

    #[test]
    fn only_what_qemu_says_of_the_unit_is_the_trace() {
        let line = |stream, text: &str| is_event(&Line { after: Duration::ZERO, stream, text: text.into() });
        assert!(line(Stream::Err, "vtd_reg_write addr 0x88 size 0x8 value 0xb0"));
        assert!(!line(Stream::Out, "vtd_reg_write addr 0x88 size 0x8 value 0xb0"));
        assert!(!line(Stream::Err, "qemu-system-x86_64: vtd_iova_to_slpte: detected"));
    }

    #[test]
    fn a_script_with_no_expectation_or_an_unknown_word_is_wrong() {
        assert!(Script::parse("[[call]]\nname = \"a\"\ntrace = []").is_err());
        assert!(Script::parse("[[call]]\nname = \"a\"\ntrace = [\"IQT\"]\nchaching_mode = []").is_err());
        let both = "[[call]]\nname = \"a\"\ntrace = [\"IQT\"]\ncaching_mode = []\nesrtps = []";
        assert!(Script::parse(both).unwrap_err().to_string().contains("call `a`: which list counts"));
        assert!(Script::read(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn every_descriptor_is_read_as_the_specification_has_it() {
        for (high, low, says) in [
            (0, 0x11, "context cache: all"),
            (0, 0x7_0021, "context cache: domain 7"),
            (0, 0x3ff_0007_0031, "context cache: 03:1f.7 in domain 7"),
            (0, 0x1_03ff_0007_0031, "context cache: functions by mask"),
            (0, 0x7_0031 | 1 << 50, "context cache: 00:00.0 in domain 7, reserved bits"),
            (0, 0xd2, "IOTLB: all"),
            (0, 0x92, "IOTLB: all, does not drain"),
            (0, 0x7_00e2, "IOTLB: domain 7"),
            (0x8000_3000, 0x7_00f2, "IOTLB: domain 7, page 0x80003000"),
            (0x8000_0049, 0x7_0032, "IOTLB: domain 7, 2^9 pages at 0x80000000, leaves only, does not drain"),
            (0x8000_0080, 0x7_00f2, "IOTLB: domain 7, page 0x80000000, reserved bits"),
            (0x3000, 0x300_0000_0003, "device-TLB of 03:00.0: page 0x3000"),
            (0x8000_0001, 0x300_0000_0003, "device-TLB of 03:00.0: 2^1 pages at 0x80000000"),
            (0x3000, 0x300_0008_0003, "device-TLB of 03:00.0: page 0x3000, 8 at a time"),
            (0x3000, 0x300_0000_0003 | 1 << 52, "device-TLB of 03:00.0: page 0x3000, reserved bits"),
            (0x8000_7001, 0x300_0000_0003, "device-TLB of 03:00.0: 2^4 pages at 0x80000000"),
            (0x7fff_ffff_ffff_f001, 0x300_0000_0003, "device-TLB of 03:00.0: all"),
            (0xffff_ffff_ffff_f001, 0x300_0000_0003, "device-TLB of 03:00.0: no size"),
            (0, 0x04, "interrupt entry cache"),
            (0x1000, 0x5_0000_0025, "wait"),
            (0x1000, 0x5_0000_0065, "wait, fences"),
            (0, 0x15, "wait, tells nobody, interrupts"),
            (0, 0x206, "descriptor of type 0x16"),
        ] {
            assert_eq!(descriptor(high << 64 | low), says);
        }
    }

    #[test]
    fn a_command_shows_what_it_switches() {
        assert_eq!(register(0x18, 0xc400_0000), "GCMD QIE SRTP TE");
        assert_eq!(
            [0x20, 0x34, 0x88, 0x90, 0xf8].map(|at| register(at, 0)).join(" "),
            "RTADDR FSTS IQT IQA register 0xf8"
        );
    }
}
