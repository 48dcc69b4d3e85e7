//! Which rules the model holds a driver to.
//!
//! The numbers are those of the project's list of rules of a correct VT-d driver, where each has its text and its place in
//! the specification (R50 does not exist). Three more belong to the model: `HAL`, the contract of the seam, `OWN`, what all the
//! others are for, and `REG`, how registers are accessed (sections 11.2 and 11.3).
#![forbid(unsafe_code)]

/// What the model does about a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Breaking it is a [`Violation`](crate::Violation) with the rule's number.
    Checked,
    /// The hardware behaves so that breaking it breaks something else, which is reported or seen by a test.
    Shown(&'static str),
    /// Nothing happens, for this reason.
    NotYet(&'static str),
}

use Status::{Checked, NotYet, Shown};

const SCALABLE: Status = NotYet("the model has no scalable mode yet");
const FIRMWARE: Status = NotYet("a matter of the firmware's tables, which the model does not make");
const ATS_ALLOWED: Status = NotYet("a matter of the firmware's tables and of the devices' configuration space");

/// All rules, in the order of the list: number, what it is about, and what the model does about it.
pub const RULES: &[(&str, &str, Status)] = &[
    ("R1", "one bit of GCMD at a time, confirmed by GSTS", Checked),
    ("R2", "what a pending command reads belongs to hardware", Checked),
    ("R3", "the state starts from what GSTS shows", Shown("a command that drops a bit that is on breaks R1")),
    ("R4", "a unit that does not answer, or has no page-table format, is refused", Checked),
    ("R5", "register-based invalidation only without the queue, and before major version 6", Checked),
    ("R6", "each poll has a deadline", Shown("a poll without one never returns, and the test does not end")),
    ("R6b", "the register set is as large as the firmware says", Checked),
    ("R7", "a root table is set before translation is on", Checked),
    ("R8", "caches are invalidated after a root table is set", Checked),
    ("R9", "a live root table is replaced only by one that translates alike", Checked),
    ("R10", "write buffers are flushed", Checked),
    ("R11", "a unit's queue is on before its root table is set", Checked),
    ("R12", "protected memory is on until translation is", Checked),
    ("R13", "each unit that shares a structure is invalidated", Shown("a unit that is left out breaks R31 or R33")),
    ("R14", "the queue is switched on and off in order", Checked),
    ("R15", "descriptors and the tail stay within the ring", Checked),
    ("R16", "old errors are cleared before the queue is on", Checked),
    ("R17", "completion is the status write of a wait", Shown("the head moves first; what is freed then breaks R31")),
    ("R18", "the status write goes to memory that lives", Checked),
    ("R19", "an error of the queue is recovered", Shown("the queue stops at the bad descriptor until IQE is cleared")),
    ("R20", "after a time-out all is issued again", Shown("waits are dropped, and what was not executed breaks R31")),
    ("R21", "retries are bounded", Shown("a test can have a device never answer")),
    ("R22", "a completion error is recorded, and the queue goes on", Shown("ICE can be raised on request")),
    ("R23", "at most 32 device-TLB invalidations of a device are outstanding", Checked),
    ("R24", "the order within a batch", Checked),
    ("R25", "draining is asked for", Checked),
    ("R25b", "no reserved bit, no descriptor that the unit does not have", Checked),
    ("R26", "a page-selective address is aligned to its mask", Checked),
    ("R27", "no page-selective invalidation beyond what the unit has", Checked),
    ("R28", "IH = 1 only if no non-leaf entry changed", Checked),
    ("R29", "a new page is invalidated in caching mode", Checked),
    ("R30", "more permission is invalidated", Checked),
    ("R31", "nothing is freed or left behind that a cache still has", Checked),
    ("R32", "another page size is set after an invalidation", Checked),
    ("R33", "a context entry, or a domain-id that is reused, is invalidated in all caches", Checked),
    ("R33b", "in caching mode a new context entry is invalidated with domain-id 0", Checked),
    ("R34", "how all of a device-TLB is named", Checked),
    ("R35", "the half with P is set last and cleared first", Checked),
    ("R36", "a present entry does not change in two stores", Checked),
    ("R37", "tables are written back", Checked),
    ("R38", "one domain-id, one page table; never 0 in caching mode", Checked),
    ("R39", "CAP.ND bounds the domain-id", Checked),
    ("R40", "address widths are those of the unit", Checked),
    ("R41", "reserved bits are zero", Checked),
    ("R42", "first-stage entries", SCALABLE),
    ("R43", "nothing is mapped to the interrupt range", Checked),
    ("R44", "a device is in the flush list while its entry is present", Shown("a change that misses it breaks R31")),
    ("R45", "an alias is invalidated with its own source-id", Shown("one that is left out breaks R33")),
    (
        "R46",
        "all requester-ids of a device go together",
        Shown("a request that a bridge renamed is blocked, or reaches what it should not"),
    ),
    ("R47", "the order in which ATS is switched on and off", Checked),
    ("R48", "ATS only for devices that may have it", ATS_ALLOWED),
    ("R49", "a device is blocked before its reset, and left alone until it is over", Checked),
    ("R51", "a CXL.cache device needs ATS", ATS_ALLOWED),
    ("R52", "the order in which interrupt remapping is switched on", Checked),
    ("R53", "compatibility format stays off", Checked),
    ("R54", "how an interrupt entry changes", Checked),
    ("R55", "interrupt entries are invalidated, IM at most MHMV", Checked),
    ("R56", "interrupt sources are validated", Checked),
    ("R57", "EIME only where the unit has it", Checked),
    ("R58", "formats of interrupt entries and requests", Checked),
    ("R59", "a unit's own messages are not remapped", Shown("`Machine::messages` has them as programmed")),
    ("R60", "a posted interrupt has a descriptor in memory", Checked),
    ("R61", "interrupt remapping needs the queue", Checked),
    ("R62", "fault records are cleared in order", Checked),
    ("R63", "PPF and bit 7 of FSTS are never written", Checked),
    (
        "R64",
        "fault reading is bounded",
        Shown("up to 256 records can be pending, and faults can be raised at any time"),
    ),
    ("R64b", "an event is unmasked when its message has an address", Checked),
    ("R65", "unknown and broken structures of the firmware", FIRMWARE),
    ("R66", "reserved memory", FIRMWARE),
    ("R67", "other structures of the firmware", FIRMWARE),
    ("R68", "flags of the firmware", FIRMWARE),
    ("R69", "a unit found running is taken over in order", Checked),
    ("C1", "all pages of a table snoop, or none", Checked),
    ("C2", "who can use a table that snoops", Shown("SNP in a unit without snoop control breaks R41")),
    ("C3", "what a cell learns of coherency", NotYet("a matter of the driver's own state")),
    ("C4", "a table is searched before the device is touched", NotYet("a matter of counting; see the journal")),
    ("C5", "which error says what", NotYet("a matter of the driver's own errors")),
    ("HAL", "the contract of the seam", Checked),
    ("OWN", "no device reaches memory or a CPU of another owner", Checked),
    ("REG", "registers are accessed with their width, and only those that exist", Checked),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if !path.ends_with("rules.rs") {
                found.push(fs::read_to_string(path).unwrap());
            }
        }
    }

    /// All rules that the sources in a folder name in quotes.
    fn named(folder: &str) -> BTreeSet<&'static str> {
        let mut texts = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut texts);
        let numbers = RULES.iter().map(|(number, ..)| *number);
        numbers.filter(|number| texts.iter().any(|text| text.contains(&format!("\"{number}\"")))).collect()
    }

    #[test]
    fn every_rule_is_there_once_and_in_order() {
        let mut expected = Vec::new();
        for number in (1..=69).filter(|number| *number != 50) {
            expected.push(format!("R{number}"));
            if [6, 25, 33, 64].contains(&number) {
                expected.push(format!("R{number}b"));
            }
        }
        expected.extend((1..=5).map(|number| format!("C{number}")));
        expected.extend(["HAL", "OWN", "REG"].map(String::from));
        let numbers: Vec<&str> = RULES.iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn what_is_called_checked_is_reported_somewhere_and_tested() {
        let checked: BTreeSet<&str> =
            RULES.iter().filter(|(_, _, status)| *status == Checked).map(|(number, ..)| *number).collect();
        assert_eq!(checked, named("src"), "reported by the model");
        assert_eq!(checked, named("tests"), "broken on purpose by a test");
    }
}
