//! What a scenario tells `xtask` over the serial line: one [`Record`] a line, as JSON behind [`MARK`].
//!
//! Everything else on the line is a log for people. Both sides link this crate, so they cannot disagree.
#![no_std]
#![forbid(unsafe_code)]

pub mod mark;

use core::fmt::Write;

use serde::{Deserialize, Serialize};

/// What a line that holds a record starts with.
pub const MARK: &str = "@cofferdam ";
/// The longest record, in bytes of JSON.
pub const MAX_BYTES: usize = 1024;
/// Goes up when a record of a board report changes its meaning or goes away; a new record or field does not raise it.
pub const FORMAT: u16 = 1;
/// What a scenario writes to the `isa-debug-exit` port when all went as it should; QEMU then ends with 2 n + 1.
pub const EXIT_OK: u32 = 0x10;
/// The same when an expectation did not hold, or the driver refused the machine.
pub const EXIT_FAILED: u32 = 0x11;
/// The same after a panic or a CPU exception.
pub const EXIT_CRASHED: u32 = 0x12;

/// One thing that a scenario has to tell, with texts of type `S`: `&str` in the scenario, `String` in `xtask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<S> {
    /// The image runs: serial line, clock and frames are up.
    Started {
        /// Name of the scenario.
        scenario: S,
        /// Usable memory.
        memory_mib: u64,
        /// Frequency of the time-stamp counter.
        tsc_mhz: u64,
    },
    /// A remapping unit as the driver found it.
    Unit {
        /// Physical address of its registers.
        base: u64,
        /// PCI segment.
        segment: u16,
        /// What it can do, in words.
        capabilities: S,
    },
    /// What a remapping unit's registers say that it can do, as the scenario itself reads them.
    Registers {
        /// Physical address of its registers.
        unit: u64,
        /// CAP_REG.
        cap: u64,
        /// ECAP_REG.
        ecap: u64,
    },
    /// A cell was made.
    Cell {
        /// Its name.
        name: S,
        /// Where its devices see its memory.
        input: u64,
        /// Where that memory is.
        output: u64,
        /// How much it is.
        bytes: u64,
        /// Whether DMA snoops the CPU's caches, in words.
        coherency: S,
    },
    /// What a device reached, as found by trying: one field of the table "device by memory".
    Reach {
        /// The device, as source-id and owner.
        device: S,
        /// The memory, or the CPU that its interrupts are to reach.
        memory: S,
        /// `read write`, `read`, `write`, `interrupts` or `blocked`.
        access: S,
    },
    /// Something that has to hold.
    Expect {
        /// What, in words.
        what: S,
        /// Whether it does.
        ok: bool,
        /// What was seen instead, or what proves it.
        seen: S,
    },
    /// What the driver did so far.
    Counts {
        /// Descriptors submitted, waits among them.
        descriptors: u64,
        /// Wait descriptors submitted.
        waits: u64,
        /// Writes of the queue's tail register.
        doorbells: u64,
        /// Frames in use for root, context and page tables and queues.
        table_frames: u64,
    },
    /// How long a kind of work took, of so many times that it was done.
    Measured {
        /// The base of the unit that did it.
        unit: u64,
        /// What.
        what: S,
        /// How often.
        times: u32,
        /// The shortest time, in nanoseconds.
        min_ns: u64,
        /// Half of them took no longer.
        median_ns: u64,
        /// The longest time.
        max_ns: u64,
    },
    /// A board report begins.
    Board {
        /// [`FORMAT`].
        format: u16,
        /// The version of cofferdam that made it.
        version: S,
    },
    /// Some bytes of the firmware's table, so that the report has all of it. The first of them has the offset 0.
    TablePart {
        /// Where in the table they are.
        offset: u32,
        /// The bytes, as two hexadecimal digits each.
        hex: S,
    },
    /// What the firmware's table says of the whole machine.
    Firmware {
        /// Bits of an address that DMA can use.
        host_bits: u8,
        /// Interrupts can be remapped.
        interrupts: bool,
        /// No part was lost that may define a unit or say what one serves.
        complete: bool,
    },
    /// Something that is wrong with the firmware's table.
    Finding {
        /// `note`, `warning` or `error`.
        severity: S,
        /// Where in the table.
        offset: u32,
        /// What.
        text: S,
        /// What the driver does about it.
        action: S,
    },
    /// What a remapping unit is, and what it was found doing.
    UnitState {
        /// The base of its registers.
        unit: u64,
        /// The version of its registers: before the point, and behind it.
        version: (u8, u8),
        /// Bits of an address that it translates.
        input_bits: u8,
        /// Bits of an address that it translates to.
        output_bits: u8,
        /// How many domain-ids it has.
        domains: u32,
        /// Somebody had it translating.
        translating: bool,
        /// It remaps interrupts.
        interrupts: bool,
        /// Why it cannot be used; empty if it can.
        refused: S,
    },
    /// One bit of what a unit says that it can do.
    Ability {
        /// The base of its registers.
        unit: u64,
        /// The bit, as the specification names it.
        bit: S,
        /// It is set.
        has: bool,
        /// What that means.
        words: S,
    },
    /// A PCI function.
    Function {
        /// Its source-id.
        id: S,
        /// Who made it.
        vendor: u16,
        /// What it is, as its maker counts.
        device: u16,
        /// Its class code, of 24 bits.
        class: u32,
        /// The base of the unit that serves it, if one does.
        unit: Option<u64>,
        /// Why no cell is given it; empty if one can be.
        refused: S,
        /// Bits of an address that it can be translated for.
        input_bits: u8,
        /// What isolates it from all others; empty if nothing does.
        isolated: S,
        /// How many invalidations its device-TLB takes at a time; 0 if it can have none.
        device_tlb: u8,
        /// Why it can have no device-TLB; empty if it can.
        no_device_tlb: S,
        /// How many messages it can send by MSI; 0 if it has none.
        msi: u16,
        /// How many messages its MSI-X table has; 0 if it has no table.
        msi_x: u16,
        /// It can be reset alone.
        resettable: bool,
        /// If it is a bridge: the bus right behind it, and the last one behind it.
        buses: Option<(u8, u8)>,
    },
    /// Another source-id that a function's requests may carry.
    Alias {
        /// The function.
        function: S,
        /// The source-id.
        id: S,
    },
    /// Functions that nothing isolates a function from. It is among them.
    Group {
        /// The function.
        function: S,
        /// The first source-id of a range.
        first: S,
        /// The last one.
        last: S,
    },
    /// Memory that firmware reserves for devices.
    Reserved {
        /// Its first address.
        first: u64,
        /// Its last address.
        last: u64,
        /// Where in the table that is said.
        offset: u32,
        /// What the memory map says of it, in words.
        map: S,
        /// The memory map does not give it away.
        agrees: bool,
    },
    /// A function uses memory that firmware reserves.
    Uses {
        /// The function.
        function: S,
        /// The first address of that memory.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// An entry of the memory map.
    Memory {
        /// Its first address.
        first: u64,
        /// How much it is.
        bytes: u64,
        /// What it is for, in words.
        kind: S,
    },
    /// Something that limits what cells can have on a board, and what to change.
    Limit {
        /// What, in words.
        text: S,
    },
    /// What a board is fit for.
    Verdict {
        /// It can be partitioned.
        fit: bool,
        /// Why it cannot; empty if it can.
        why: S,
        /// How many [limits](Self::Limit) there are, those among them for which there was no room.
        limits: u32,
    },
    /// So many records came before this one, from [`Started`](Self::Started) on: whoever saves them sees whether one is lost.
    Sent {
        /// How many.
        records: u32,
    },
    /// The driver or the scenario refused to go on: why, and where.
    Refused {
        /// One clear message.
        error: S,
    },
    /// The scenario came to its end; what did not hold was told before.
    Finished,
}

impl Record<&str> {
    /// Writes the record as one line.
    ///
    /// # Errors
    ///
    /// The record is longer than [`MAX_BYTES`], and nothing was written; or `out` fails.
    pub fn write(&self, out: &mut impl Write) -> core::fmt::Result {
        let mut json = [0; MAX_BYTES];
        let len = serde_json_core::to_slice(self, &mut json).map_err(|_| core::fmt::Error)?;
        let text = json.get(..len).and_then(|json| core::str::from_utf8(json).ok()).ok_or(core::fmt::Error)?;
        out.write_str(MARK)?;
        out.write_str(text)?;
        out.write_str("\n")
    }
}

/// The JSON of a line that holds a record; `None` for a line of the log.
pub fn json(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix(MARK)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;

    use super::*;

    fn function(unit: Option<u64>, buses: Option<(u8, u8)>) -> Record<&'static str> {
        Record::Function {
            id: "0000:00:1c.0",
            vendor: 0x8086,
            device: 0x1234,
            class: 0x06_0400,
            unit,
            refused: "",
            input_bits: 48,
            isolated: "by the root complex",
            device_tlb: 0,
            no_device_tlb: "it has no ATS capability",
            msi: 0,
            msi_x: 0,
            resettable: false,
            buses,
        }
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let records = [
            Record::Started { scenario: "main", memory_mib: 256, tsc_mhz: 2400 },
            Record::Expect { what: "said \"no\"\tby\\hand", ok: false, seen: "" },
            Record::Unit { base: u64::MAX, segment: 7, capabilities: "snoop control" },
            Record::UnitState {
                unit: 0xfed9_0000,
                version: (1, 0),
                input_bits: 48,
                output_bits: 39,
                domains: 65536,
                translating: false,
                interrupts: true,
                refused: "",
            },
            function(None, None),
            function(Some(0xfed9_0000), Some((1, 3))),
            Record::Registers { unit: 0, cap: u64::MAX, ecap: 1 },
            Record::Finished,
        ];
        for record in records {
            let mut line = String::new();
            record.write(&mut line).unwrap();
            assert!(line.ends_with('\n') && line.trim_end().lines().count() == 1);
            let read: Record<String> = serde_json::from_str(json(&line).unwrap()).unwrap();
            assert_eq!(std::format!("{read:?}"), std::format!("{record:?}"));
        }
    }

    #[test]
    fn a_log_line_is_no_record_and_a_torn_record_is_an_error() {
        assert_eq!(json("SeaBIOS (version 1.16)"), None);
        let torn = json("@cofferdam {\"Expect\":{\"what\":\"x").unwrap();
        assert!(serde_json::from_str::<Record<String>>(torn).is_err());
    }

    #[test]
    fn a_mark_comes_out_as_it_went_in() {
        let names = ["", "x", "seven by", "1234567", "unmap 64 pages, and more than a word"];
        let mut reader = mark::Reader::<String>::default();
        let read =
            names.map(|name| mark::words(name).filter_map(|word| reader.take(word)).collect::<std::vec::Vec<_>>());
        assert_eq!(read, names.map(|name| std::vec![String::from(name)]));
    }

    #[test]
    fn a_record_that_is_too_long_is_an_error_and_writes_nothing() {
        let long = [b'x'; MAX_BYTES];
        let mut line = String::new();
        let record = Record::Refused { error: core::str::from_utf8(&long).unwrap() };
        assert!(record.write(&mut line).is_err());
        assert!(line.is_empty());
    }
}
