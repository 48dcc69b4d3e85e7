//! What is drawn, and where.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cofferdam_report::Record;

use super::*;
use crate::report::made::{STATE, VERDICT, bridge, contents, function, shared, unserved};

/// The rows of each column, as indented text.
fn drawn(records: &[Record<&str>]) -> Vec<Vec<String>> {
    let contents = contents(records);
    let groups = groups(&contents);
    let text = |row: &PictureRow<'_>| format!("{}{}", " ".repeat(row.depth), row.text());
    columns(&contents, &groups).iter().map(|column| column.rows.iter().map(text).collect()).collect()
}

#[test]
fn what_is_behind_a_bridge_is_below_it_and_each_function_is_there_once() {
    let rows = drawn(&[
        STATE,
        function("0000:03:00.0"),
        bridge("0000:01:00.0", (3, 3)),
        bridge("0000:00:1c.0", (1, 3)),
        function("0000:00:02.0"),
        function("0001:00:00.0"),
        bridge("0000:03:01.0", (1, 1)),
        // It leads back to its own bus, and the one before in a circle.
        bridge("0000:00:1d.0", (0, 5)),
        unserved("0000:07:00.0", "it is in no scope"),
        VERDICT,
    ]);
    assert_eq!(
        rows,
        [
            vec![
                "bus 0000:00",
                " 02.0 8086:1234 network",
                " 1c.0 8086:1234 bridge to 01",
                "  bus 0000:01",
                "   00.0 8086:1234 bridge to 03",
                "    bus 0000:03",
                "     00.0 8086:1234 network",
                "     01.0 8086:1234 bridge",
                " 1d.0 8086:1234 bridge",
                "bus 0001:00",
                " 00.0 8086:1234 network",
            ],
            vec!["bus 0000:07", " 00.0 8086:1234 network · no cell"],
        ]
    );
}

#[test]
fn a_group_has_one_number_and_one_colour_whoever_names_it() {
    let all = contents(&[
        STATE,
        shared("0000:00:02.0"),
        function("0000:00:03.0"),
        shared("0000:00:04.0"),
        shared("0000:00:05.0"),
        // It says itself that something isolates it, and another does not.
        function("0000:00:06.0"),
        Record::Group { function: "0000:00:02.0", first: "0000:00:02.0", last: "0000:00:02.0" },
        Record::Group { function: "0000:00:04.0", first: "0000:00:04.0", last: "0000:00:06.0" },
        Record::Group { function: "0000:00:05.0", first: "0000:00:04.0", last: "0000:00:05.0" },
        VERDICT,
    ]);
    assert_eq!(groups(&all), [Some(1), None, Some(2), Some(2), Some(2)]);
    let picture = svg(&all).into_string();
    assert_eq!(picture.matches(COLOURS[0]).count(), 1);
    assert_eq!(picture.matches(COLOURS[1]).count(), 3);
}

#[test]
fn what_no_unit_serves_is_marked() {
    let picture = |records: &[Record<&str>]| svg(&contents(records)).into_string();
    let good = picture(&[STATE, function("0000:00:02.0"), VERDICT]);
    assert!(!good.contains(WRONG) && !good.contains("No unit"), "{good}");
    let bad = picture(&[STATE, unserved("0000:00:02.0", "a <reason>"), VERDICT]);
    assert!(bad.contains(">No unit<") && bad.contains("0000:00:02.0: a &lt;reason&gt;"), "{bad}");
    assert!(bad.matches(WRONG).count() >= 4, "{bad}");
}

#[test]
fn every_box_lies_within_the_picture() {
    let ids = Vec::from_iter((0..32_u8).map(|device| format!("0000:00:{device:02x}.0")));
    let mut records = vec![STATE];
    records.extend(ids.iter().map(|id| function(id)));
    records.push(VERDICT);
    let picture = svg(&contents(&records)).into_string();
    let number = |text: &str, name: &str| {
        let rest = text.split_once(&format!("{name}=\"")).unwrap().1;
        rest.split_once('"').unwrap().0.parse::<usize>().unwrap()
    };
    let (width, height) = (number(&picture, "width"), number(&picture, "height"));
    let boxes = Vec::from_iter(picture.split("<rect").skip(1));
    assert_eq!(boxes.len(), 34);
    for it in boxes {
        assert!(
            number(it, "x") + number(it, "width") <= width && number(it, "y") + number(it, "height") <= height,
            "{it}"
        );
    }
}

#[test]
fn a_board_without_a_unit_has_its_memory_alone() {
    let board = Contents { started: Some((4_194_304, 1000)), ..Contents::default() };
    let picture = svg(&board).into_string();
    let box_width = picture.split_once("<rect").unwrap().1.split_once("width=\"").unwrap().1.split_once('"').unwrap().0;
    assert!(
        box_width.parse::<usize>().unwrap() >= text_width("CPUs and memory: 4194304 MiB of it free") + 24,
        "{picture}"
    );
    assert_eq!((picture.matches("<rect").count(), picture.matches("<path").count()), (1, 0), "{picture}");
}
