//! Each mistake is found, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cofferdam::{
    addr::{PhysAddr, PhysRange, SourceId},
    firmware::dmar::{self, Flags, TableEntry},
    topology::{ConfigSpace, NoConfigSpace},
};

use cofferdam_report::Record;

use super::*;
use crate::{check::board, inspect::Input, report::made};

/// A configuration without a mistake.
pub(super) const GOOD: &str = r#"
input_bits = 39

[[cell]]
name = "root"
root = true
memory = [{ output = 0x0, bytes = 0xa0000 }, { output = 0x100000, bytes = 0x6ff00000 }]
devices = ["0000:00:02.0"]

[[cell]]
name = "left"
memory = [
    { output = 0x40000000, input = 0x0, bytes = 0x1000000 },
    { output = 0x50000000, bytes = 0x1000, shared = true },
]
devices = ["0000:00:03.0", "0000:00:04.0"]

[[cell]]
name = "right"
memory = [
    { output = 0x60000000, input = 0x0, bytes = 0x1000000 },
    { output = 0x50000000, bytes = 0x1000, shared = true },
]
devices = ["0000:01:00.0"]
"#;

/// A unit for segment 0, and reserved memory of two devices, of which one has some more.
fn table() -> Input {
    let device = |number| TableEntry::Function(SourceId::new(0, 0, number, 0).unwrap());
    let reserved = |start, bytes| {
        let memory = PhysRange::new(PhysAddr::new(start), bytes).unwrap();
        TableEntry::Reserved { segment: 0, memory }
    };
    let entries = [
        TableEntry::Unit { segment: 0, registers: PhysAddr::new(0xfed9_0000), all: true },
        reserved(0x7000_0000, 0x10_0000),
        device(3),
        device(4),
        reserved(0x7800_0000, 0x1000),
        device(5),
    ];
    let mut bytes = [0; 256];
    let table = dmar::write(&mut bytes, 39, Flags::INTR_REMAP, entries).unwrap().to_vec();
    Input::of("a table".into(), table)
}

pub(super) fn mistakes_on(text: &str, space: &impl ConfigSpace) -> Vec<String> {
    let (input, config) = (table(), Config::read(text).unwrap());
    let mut memory = board::memory(&input);
    of(&config, &Board::read(&input, &mut memory, space).unwrap())
}

/// What is found on a board with a report of these records.
pub(super) fn mistakes_with(text: &str, records: &[Record<&str>]) -> Vec<String> {
    let (input, config, report) = (table(), Config::read(text).unwrap(), made::contents(records));
    let mut memory = board::memory(&input);
    of(&config, &Board::read(&input, &mut memory, &NoConfigSpace).unwrap().with(Some(&report)))
}

/// What is found once a part of the good one is another.
#[track_caller]
fn changed(from: &str, to: &str) -> Vec<String> {
    assert_eq!(GOOD.matches(from).count(), 1, "{from}");
    mistakes_on(&GOOD.replace(from, to), &NoConfigSpace)
}

#[test]
fn nothing_is_wrong_with_a_good_one() {
    assert_eq!(mistakes_on(GOOD, &NoConfigSpace), [""; 0]);
    assert_eq!(mistakes_on("", &NoConfigSpace), [""; 0]);
}

#[test]
fn the_documents_example_is_one() {
    let text = include_str!("../../../../docs/check.md");
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(mistakes_on(example, &NoConfigSpace), [""; 0]);
}

#[test]
fn each_mistake_is_found_with_its_place() {
    let left = "output = 0x40000000, input = 0x0, bytes = 0x1000000";
    for (from, to, found) in [
        ("name = \"right\"", "name = \"left\"", "cell left: another cell has that name"),
        ("name = \"right\"", "name = \"right\"\nroot = true", "cell right: there is another root cell"),
        (
            left,
            "output = 0x40000800, input = 0x0, bytes = 0x1000000",
            "left, memory 1: output = 0x40000800 is no multiple",
        ),
        (
            left,
            "output = 0x40000000, input = 0x0, bytes = 0x1000800",
            "left, memory 1: bytes = 0x1000800 is no multiple",
        ),
        (
            left,
            "output = 0x40000000, input = 0x0, bytes = 0",
            "left, memory 1: 0 bytes from 0x40000000 on are no memory",
        ),
        (left, "output = 0x40000000, input = 0x8000000000, bytes = 0x1000", "behind the 39 bits that units translate"),
        (
            left,
            "output = 0x8000000000, input = 0x0, bytes = 0x1000",
            "behind the 39 bits of an address that DMA can use",
        ),
        (left, "output = 0x40000000, input = 0xfee00000, bytes = 0x200000", "0xfee00000 to 0xfeefffff are interrupts"),
        (
            left,
            "output = 0xfed90000, input = 0x0, bytes = 0x1000",
            "registers of the unit 0xfed90000 are at 0xfed90000",
        ),
        (
            left,
            "output = 0x40000000, input = 0x50000000, bytes = 0x1000",
            "left, memory 2: memory 1 has the input addresses",
        ),
        (
            left,
            "output = 0x60fff000, input = 0x0, bytes = 0x1000",
            "right: cell left has the memory 0x60fff000 to 0x60ffffff",
        ),
        (
            "output = 0x0, bytes = 0xa0000",
            "output = 0x0, input = 0x80000000, bytes = 0xa0000",
            "root cell has its memory one to one",
        ),
        ("\"0000:01:00.0\"", "\"0000:00:02.0\"", "cell right: cell root has the device 0000:00:02.0, too"),
        ("\"0000:01:00.0\"", "\"0001:01:00.0\"", "cell right: no unit serves 0001:01:00.0"),
        (
            left,
            "output = 0x40000000, input = 0x70000000, bytes = 0x1000",
            "firmware reserves 0x70000000 to 0x700fffff for",
        ),
        (
            "output = 0x60000000, input = 0x0",
            "output = 0x70000000, input = 0x0",
            "cell right: firmware reserves 0x70000000",
        ),
    ] {
        let mistakes = changed(from, to);
        assert!(mistakes.iter().any(|mistake| mistake.contains(found)), "{found}: {mistakes:#?}");
    }
}

#[test]
fn devices_that_share_reserved_memory_are_of_one_cell_unless_both_allow_it() {
    let apart = GOOD.replace(", \"0000:00:04.0\"", "").replace("\"0000:01:00.0\"", "\"0000:00:04.0\"");
    let mistakes = mistakes_on(&apart, &NoConfigSpace);
    let says = "0000:00:04.0 and 0000:00:03.0 of cell left use 0x70000000 to 0x700fffff; one cell has both";
    assert!(mistakes.iter().any(|mistake| mistake.contains(says)), "{mistakes:#?}");
    let allowed = apart.replace("name = \"left\"", "name = \"left\"\nallow_shared_reserved = true");
    assert_eq!(mistakes_on(&allowed, &NoConfigSpace).len(), mistakes.len(), "one alone allows nothing");
    let allowed = allowed.replace("name = \"right\"", "name = \"right\"\nallow_shared_reserved = true");
    assert_eq!(mistakes_on(&allowed, &NoConfigSpace), [""; 0]);
}

#[test]
fn reserved_memory_that_the_cell_has_itself_has_to_be_allowed() {
    let has = GOOD.replace("output = 0x40000000, input = 0x0", "output = 0x70000000");
    let mistakes = mistakes_on(&has.replace("bytes = 0x6ff00000", "bytes = 0x1000"), &NoConfigSpace);
    assert!(mistakes.iter().any(|it| it.ends_with("or say allow_identical_reserved = true")), "{mistakes:#?}");
    let allowed = has.replace("name = \"left\"", "name = \"left\"\nallow_identical_reserved = true");
    assert_eq!(mistakes_on(&allowed, &NoConfigSpace), [""; 0]);
}

/// Two functions of one device, neither with Access Control Services.
struct TwoFunctions;

impl ConfigSpace for TwoFunctions {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        let is_there =
            function.bus() == 0 && matches!((function.device(), function.function()), (2 | 3, 0) | (3, 1) | (4, 0));
        match offset {
            0 if is_there => 0x1234_8086,
            0x0c if is_there && function.device() == 3 => 0x80_0000,
            4..=0x3c if is_there => 0,
            _ => u32::MAX,
        }
    }
}

#[test]
fn functions_that_nothing_isolates_are_of_one_cell_unless_both_allow_it() {
    let both = GOOD.replace("\"0000:01:00.0\"", "\"0000:00:03.1\"");
    let mistakes = mistakes_on(&both, &TwoFunctions);
    let says = "cell right: nothing isolates 0000:00:03.1 from 0000:00:03.0 of cell left now";
    assert!(mistakes.len() == 1 && mistakes.iter().all(|it| it.starts_with(says)), "{mistakes:#?}");
    let allow = |text: &str, cell: &str| {
        text.replace(&format!("name = \"{cell}\""), &format!("name = \"{cell}\"\nallow_shared_group = true"))
    };
    assert_eq!(mistakes_on(&allow(&both, "left"), &TwoFunctions).len(), 1, "one alone allows nothing");
    assert_eq!(mistakes_on(&allow(&allow(&both, "left"), "right"), &TwoFunctions), [""; 0]);
}

#[test]
fn what_is_no_configuration_is_refused_with_its_place() {
    for (text, says) in [
        ("[[cell]]\n", "missing field `name`"),
        ("[[cell]]\nname = \"a\"\nmemroy = []\n", "unknown field `memroy`"),
        ("[[cell]]\nname = \"a\"\ndevices = [\"00:1f.3\"]\n", "\"00:1f.3\" is no device"),
        ("[[cell]]\nname = \"a\"\ndevices = [\"0000:00:20.0\"]\n", "is no device"),
        ("[[cell]]\nname = \"a\"\nmemory = [{ output = -1, bytes = 1 }]\n", "invalid value"),
        ("cells = 1", "unknown field `cells`"),
    ] {
        let error = format!("{:#}", Config::read(text).unwrap_err());
        assert!(error.contains(says) && error.contains("line"), "{text}: {error}");
    }
}
