//! Each mistake that a report shows is found, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cofferdam_report::Record;

use crate::{
    check::mistakes::tests::{GOOD, mistakes_with},
    report::made::{STATE, UNIT, VERDICT, function, shared, unserved},
};

/// The board of the good configuration.
const BOARD: [&str; 4] = ["0000:00:02.0", "0000:00:03.0", "0000:00:04.0", "0000:01:00.0"];

/// What is found with a report that has another function in the place of the last one, and something more.
fn found(text: &str, last: Record<&str>, more: &[Record<&str>]) -> Vec<String> {
    let [two, three, four, _] = BOARD.map(function);
    let records = [&[STATE, two, three, four, last][..], more, &[VERDICT]].concat();
    mistakes_with(text, &records)
}

#[test]
fn a_good_configuration_is_good_on_its_board() {
    let [.., last] = BOARD;
    assert_eq!(found(GOOD, function(last), &[]), [""; 0]);
    // Without `input_bits` the report's are held against it.
    assert_eq!(found(&GOOD.replace("input_bits = 39", ""), function(last), &[]), [""; 0]);
}

#[test]
fn each_mistake_is_found_with_its_place() {
    let [.., last] = BOARD;
    let mut narrow = function(last);
    if let Record::Function { input_bits, .. } = &mut narrow {
        *input_bits = 24;
    }
    let mut refused = function(last);
    if let Record::Function { refused, .. } = &mut refused {
        *refused = "it needs a device-TLB";
    }
    let mut short = STATE;
    if let Record::UnitState { output_bits, .. } = &mut short {
        *output_bits = 30;
    }
    for (last, more, says) in [
        (function("0000:02:00.0"), &[][..], "cell right: the board has no device 0000:01:00.0"),
        (
            unserved(last, "no scope has it"),
            &[],
            "cell right: no unit serves 0000:01:00.0, so nothing blocks it: no scope has it",
        ),
        (refused, &[], "cell right: no cell is given 0000:01:00.0: it needs a device-TLB"),
        (narrow, &[], "cell right, memory 2: its input addresses end behind the 24 bits that 0000:01:00.0 has"),
        (
            function(last),
            &[short],
            "cell right, memory 1: it ends behind the 30 bits that the unit of 0000:01:00.0 translates to",
        ),
    ] {
        let all = found(GOOD, last, more);
        assert!(all.iter().any(|mistake| mistake == says), "{says}: {all:#?}");
    }
}

#[test]
fn a_group_belongs_to_one_cell_unless_both_allow_it() {
    let [_, three, _, last] = BOARD;
    let group = [Record::Group { function: last, first: three, last }];
    let says = "cell right: nothing isolates 0000:01:00.0 from 0000:00:03.0 of cell left; one cell has both";
    let other = "cell right: nothing isolates 0000:01:00.0 from 0000:00:04.0 of cell left; one cell has both";
    assert_eq!(found(GOOD, shared(last), &group), [says, other]);
    let allow = |text: &str, cell: &str| {
        text.replace(&format!("name = \"{cell}\""), &format!("name = \"{cell}\"\nallow_shared_group = true"))
    };
    assert_eq!(found(&allow(GOOD, "left"), shared(last), &group), [says, other], "one alone allows nothing");
    assert_eq!(found(&allow(&allow(GOOD, "left"), "right"), shared(last), &group), [""; 0]);
}

#[test]
fn a_group_goes_on_through_a_device_that_no_cell_has() {
    let ([two, three, four, last], between) = (BOARD, "0000:00:1f.0");
    let shares = |function, with| Record::Group { function, first: with, last: with };
    let records = [
        STATE,
        function(two),
        function(three),
        shared(four),
        shared(between),
        shared(last),
        shares(four, four),
        shares(four, between),
        shares(between, between),
        shares(between, last),
        shares(last, last),
        VERDICT,
    ];
    let says = "cell right: nothing isolates 0000:01:00.0 from 0000:00:04.0 of cell left; one cell has both";
    assert_eq!(mistakes_with(GOOD, &records), [says]);
}

#[test]
fn what_the_board_is_not_fit_for_and_what_did_not_hold_are_mistakes() {
    let [two, three, four, last] = BOARD.map(function);
    let expect = |ok| Record::Expect { what: "a write arrives", ok, seen: "0x55" };
    let unfit = Record::Verdict { fit: false, why: "no unit", limits: 0 };
    let with = |expect, verdict| mistakes_with(GOOD, &[STATE, two, three, four, last, expect, verdict]);
    assert_eq!(with(expect(true), VERDICT), [""; 0]);
    assert_eq!(with(expect(true), unfit), ["the board is not fit for partitioning: no unit"]);
    assert_eq!(with(expect(false), VERDICT), ["on the board this did not hold: a write arrives [0x55]"]);
}

#[test]
fn devices_of_a_unit_that_cannot_be_used_are_mistakes() {
    let [.., last] = BOARD;
    let mut broken = STATE;
    if let Record::UnitState { refused, .. } = &mut broken {
        *refused = "its version is not known";
    }
    let all = found(GOOD, function(last), &[broken]);
    let says = "cell right: the unit 0xfed90000 of 0000:01:00.0 cannot be used: its version is not known";
    assert_eq!((all.len(), all.last().map(String::as_str)), (4, Some(says)), "{all:#?}");
}

#[test]
fn devices_that_send_alike_belong_to_one_cell_whatever_both_allow() {
    let [_, three, _, last] = BOARD;
    let both = GOOD
        .replace("root = true", "root = true\nallow_shared_group = true")
        .replace("name = \"left\"", "name = \"left\"\nallow_shared_group = true");
    let both = both.replace("name = \"right\"", "name = \"right\"\nallow_shared_group = true");
    let alias = Record::Alias { function: last, id: three };
    let says = "cell right: 0000:01:00.0 and 0000:00:03.0 of cell left both send as 0000:00:03.0; one cell has both";
    assert_eq!(found(&both, function(last), &[alias]), [says]);
}

#[test]
fn reserved_memory_of_a_device_behind_a_bridge_is_known() {
    let [.., last] = BOARD;
    let reserved = Record::Reserved { first: 0x4000_0000, last: 0x4000_0fff, offset: 0, map: "", agrees: true };
    let uses = Record::Uses { function: last, first: 0x4000_0000, last: 0x4000_0fff };
    let says = "cell left: firmware reserves 0x40000000 to 0x40000fff for 0000:01:00.0 of cell right";
    assert_eq!(found(GOOD, function(last), &[reserved, uses]), [says]);
}

#[test]
fn interrupts_that_are_not_remapped_have_to_be_allowed_and_cannot_be_routed() {
    let [.., last] = BOARD;
    let mut unsafe_unit = STATE;
    if let Record::UnitState { interrupts, .. } = &mut unsafe_unit {
        *interrupts = false;
    }
    let all = found(GOOD, function(last), &[unsafe_unit]);
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(all.iter().all(|mistake| mistake.contains("are not remapped, so it can send any to any CPU")), "{all:#?}");
    let allowed = GOOD.replace("devices =", "allow_unsafe_interrupts = true\ndevices =");
    assert_eq!(found(&allowed, function(last), &[unsafe_unit]), [""; 0]);
    let routed = allowed + "cpus = [1]\ninterrupts = [{ device = \"0000:01:00.0\", vector = 32, cpu = 1 }]\n";
    let says = "cell right: interrupts of 0000:01:00.0 are not remapped, so none can be routed";
    assert_eq!(found(&routed, function(last), &[unsafe_unit]), [says]);
}

#[test]
fn messages_and_wide_ids_are_those_of_the_device_and_its_unit() {
    let [.., last] = BOARD;
    let text = |message: u16, cpu: u32| {
        let route = format!("{{ device = \"{last}\", message = {message}, vector = 32, cpu = {cpu} }}");
        format!("{GOOD}cpus = [{cpu}]\ninterrupts = [{route}]\n")
    };
    assert_eq!(found(&text(3, 254), function(last), &[]), [""; 0]);
    assert_eq!(
        found(&text(4, 254), function(last), &[]),
        ["cell right, interrupt 1: 0000:01:00.0 has no message 4; it has 4 at most, from 0 on"]
    );
    let ability = |has| Record::Ability { unit: UNIT, bit: "EIM", has, words: "" };
    let says = "cell right: the unit 0xfed90000 sends interrupts to CPUs up to 254 alone, not to 300 (EIM)";
    assert_eq!(found(&text(0, 300), function(last), &[ability(false)]), [says]);
    assert_eq!(found(&text(0, 300), function(last), &[ability(true)]), [""; 0]);
}

#[test]
fn memory_of_cells_is_free_memory_of_the_board() {
    let [.., last] = BOARD;
    let map = |entries: &[(u64, u64, &'static str)]| {
        let records = entries.iter().map(|&(first, bytes, kind)| Record::Memory { first, bytes, kind });
        found(GOOD, function(last), &Vec::from_iter(records))
    };
    let all = 0x1_0000_0000;
    // In one piece, and in two that are not in order.
    assert_eq!(map(&[(0, all, "free")]), [""; 0]);
    assert_eq!(map(&[(all / 4, all, "free"), (0, all / 4, "free")]), [""; 0]);
    let mistakes = map(&[(0, 0x1000, "free"), (0x1000, all, "ACPI NVS")]);
    assert!(
        !mistakes.is_empty() && mistakes.iter().all(|it| it.ends_with("of this board: it is ACPI NVS")),
        "{mistakes:#?}"
    );
    let mistakes = map(&[(0, 0x1000, "free")]);
    assert!(mistakes.iter().all(|it| it.ends_with("of this board: nothing is there")), "{mistakes:#?}");
}
