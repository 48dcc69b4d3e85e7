//! What is wrong with a report is found, with its line.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use super::*;
use crate::report::made::{self, STATE, UNIT, VERDICT, bridge, contents, function, shared};

#[track_caller]
fn flaws(records: &[Record<&str>]) -> Vec<String> {
    contents(records).flaws
}

fn of_log(log: &str) -> Contents {
    Contents::of(SavedLog::read(log.as_bytes()).unwrap())
}

#[test]
fn a_whole_report_has_no_flaw_and_all_that_it_says() {
    let all = contents(&[
        Record::TablePart { offset: 0, hex: "444d" },
        Record::TablePart { offset: 2, hex: "4152" },
        STATE,
        Record::Ability { unit: UNIT, bit: "QI", has: true, words: "a queue" },
        Record::Reserved { first: 0x1000, last: 0x1fff, offset: 8, map: "reserved", agrees: true },
        shared("0000:00:02.0"),
        Record::Group { function: "0000:00:02.0", first: "0000:00:02.0", last: "0000:00:02.7" },
        Record::Alias { function: "0000:00:02.0", id: "0000:01:00.0" },
        Record::Uses { function: "0000:00:02.0", first: 0x1000, last: 0x1fff },
        bridge("0000:00:03.0", (1, 1)),
        VERDICT,
    ]);
    assert_eq!((all.flaws.len(), all.notes.len(), all.is_sound()), (0, 0, true), "{all:#?}");
    assert_eq!(all.table, b"DMAR");
    let function = all.function(parse("0000:00:02.0").unwrap()).unwrap();
    assert_eq!((function.aliases.len(), function.shares.len(), &*function.uses), (1, 1, &[(0x1000, 0x1fff)][..]));
    assert_eq!(all.unit(UNIT).unwrap().abilities.len(), 2);
}

#[test]
fn what_is_torn_behind_the_report_is_a_flaw_and_does_not_count() {
    let whole = made::log(&[STATE, VERDICT]);
    let line = whole.lines().count() + 1;
    let says = format!("line {line}: a record that cannot be read, behind this report; it may be of a later one");
    assert_eq!(of_log(&format!("{whole}@cofferdam {{\"Star\n")).flaws, [says]);
}

#[test]
fn each_flaw_is_named() {
    let id = "0000:00:02.0";
    let other = |unit| Record::Ability { unit, bit: "QI", has: true, words: "" };
    let found: [(&[Record<&str>], &str); 14] = [
        (&[STATE], "it has no verdict"),
        (&[VERDICT], "the state of the unit 0xfed90000 is not there"),
        (&[STATE, VERDICT, VERDICT], "line 6: another verdict"),
        (&[STATE, other(1), VERDICT], "line 5: it names the unit 0x1, which is not there"),
        (
            &[STATE, Record::Unit { base: UNIT, segment: 0, capabilities: "" }, STATE, VERDICT],
            "line 5: the unit 0xfed90000 is there twice",
        ),
        (&[STATE, function(id), function(id), VERDICT], "line 6: the function 0000:00:02.0 is there twice"),
        (&[STATE, function("00:02.0"), VERDICT], "line 5: \"00:02.0\" is no source-id"),
        (
            &[STATE, Record::Alias { function: id, id }, VERDICT],
            "line 5: it names the function 0000:00:02.0, which is not there",
        ),
        (
            &[STATE, function(id), Record::Uses { function: id, first: 0, last: 1 }, VERDICT],
            "0000:00:02.0 uses reserved memory 0x0 to 0x1",
        ),
        (
            &[STATE, bridge(id, (1, 1)), bridge("0000:00:03.0", (1, 2)), VERDICT],
            "0000:00:02.0 and 0000:00:03.0 both lead to the bus 01",
        ),
        (
            &[STATE, Record::TablePart { offset: 4, hex: "00" }, VERDICT],
            "line 5: bytes of firmware's table are not there, before the offset 0x4",
        ),
        (
            &[STATE, Record::TablePart { offset: 0, hex: "0x" }, VERDICT],
            "line 5: bytes of firmware's table that are no hexadecimal digits",
        ),
        (&[STATE, Record::Limit { text: "a" }, VERDICT], "its verdict has 0 limits, and 1 are there"),
        (&[STATE, Record::Board { format: FORMAT + 1, version: "" }, VERDICT], "line 5: its format is"),
    ];
    for (records, says) in found {
        let flaws = flaws(records);
        assert!(flaws.iter().any(|flaw| flaw.starts_with(says)), "{says}: {flaws:#?}");
    }
    let mut lost = function(id);
    if let Record::Function { unit, .. } = &mut lost {
        *unit = Some(2);
    }
    assert_eq!(flaws(&[STATE, lost, VERDICT]), ["line 5: 0000:00:02.0 names the unit 0x2, which is not there"]);
    let measured = Record::Measured { unit: 3, what: "a", times: 1, min_ns: 1, median_ns: 1, max_ns: 1 };
    assert_eq!(flaws(&[STATE, measured, VERDICT]), ["\"a\" was measured on the unit 0x3, which is not there"]);
}

#[test]
fn a_line_that_is_lost_or_torn_is_missed() {
    let expect = Record::Expect { what: "", ok: true, seen: "" };
    let log = made::log(&[STATE, expect, VERDICT]);
    let without = |which: &str| {
        log.lines().filter(|line| !line.contains(which)).map(|line| line.to_owned() + "\n").collect::<String>()
    };
    assert_eq!(of_log(&without("Expect")).flaws, ["line 11: 11 records come before this one, and 10 are there"]);
    assert!(of_log(&without("Started")).flaws.contains(&"its start is not there".to_owned()));
    assert!(
        of_log(&without("Finished"))
            .flaws
            .contains(&"its end is not there: the log was cut, or the machine stopped".to_owned())
    );
    assert_eq!(of_log(&without("Sent")).flaws, ["how many records it has is not there"]);
    assert_eq!(of_log(&log.replace("\"seen\"", "\"se")).flaws, ["line 5: a record that cannot be read"]);
    // A newer image may say more, and that is no flaw.
    let newer = of_log(&log.replace("\"Expect\"", "\"Later\""));
    assert_eq!((newer.flaws.len(), newer.notes.len(), newer.expected.len()), (0, 1, 0), "{newer:#?}");
    for (kind, lacks) in [
        ("Memory", "the memory map"),
        ("TablePart", "firmware's table"),
        ("Firmware", "what firmware's table says of the machine"),
        ("Function", "any function"),
    ] {
        assert!(of_log(&without(&format!("\"{kind}\""))).flaws.contains(&format!("it lacks {lacks}")), "{kind}");
    }
    let says = "what the unit 0xfed90000 can do is not there";
    assert!(of_log(&without("Ability")).flaws.contains(&says.to_owned()));
    let two = of_log(&(log.clone() + &log));
    assert_eq!(
        (two.flaws.len(), &*two.notes),
        (0, &["2 reports are in the file; this is the last one, lines 14 to 26".to_owned()][..])
    );
}

#[test]
fn there_are_no_more_of_anything_than_can_be_held_against_each_other() {
    let id = "0000:00:02.0";
    let group = Record::Group { function: id, first: id, last: id };
    let reserved = Record::Reserved { first: 0, last: 1, offset: 0, map: "", agrees: true };
    for (first, record, most, says) in [
        (function(id), group, MOST_RANGES, "more than 64 ranges of one function"),
        (
            function(id),
            Record::Uses { function: id, first: 0, last: 1 },
            MOST_RANGES,
            "more than 64 ranges of one function",
        ),
        (STATE, reserved, MOST_RESERVED, "more than 1024 pieces of reserved memory"),
        (STATE, Record::Unit { base: 1, segment: 0, capabilities: "" }, MOST_UNITS, "more than 1024 units"),
    ] {
        let mut records = vec![first];
        records.extend(std::iter::repeat_n(record, most));
        let has = |records: &[Record<&str>]| flaws(records).iter().any(|flaw| flaw.ends_with(says));
        // One unit is there already.
        assert_eq!(has(&records), says.ends_with("units"), "{says}");
        records.push(record);
        assert!(has(&records), "{says}");
    }
    let ids =
        Vec::from_iter((0..=MOST_FUNCTIONS).map(|id| format!("0000:{:02x}:{:02x}.{}", id >> 8, id >> 3 & 31, id & 7)));
    let records = Vec::from_iter(ids.iter().map(|id| function(id)));
    assert!(flaws(&records).iter().any(|flaw| flaw == "line 4100: more than 4096 functions"));
}

#[test]
fn what_is_wrong_with_the_board_is_no_flaw_and_not_sound() {
    let error = Record::Finding { severity: "error", offset: 1, text: "", action: "" };
    let note = Record::Finding { severity: "note", offset: 1, text: "", action: "" };
    let expect = |ok| Record::Expect { what: "", ok, seen: "" };
    let unfit = Record::Verdict { fit: false, why: "no unit", limits: 0 };
    for (records, is_sound) in [
        (&[STATE, note, expect(true), VERDICT][..], true),
        (&[STATE, error, VERDICT], false),
        (&[STATE, expect(false), VERDICT], false),
        (&[STATE, unfit], false),
    ] {
        let all = contents(records);
        assert_eq!((all.is_sound(), all.flaws.len()), (is_sound, 0), "{all:#?}");
    }
}
