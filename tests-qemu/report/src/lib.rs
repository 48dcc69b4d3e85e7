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

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        let records = [
            Record::Started { scenario: "main", memory_mib: 256, tsc_mhz: 2400 },
            Record::Expect { what: "said \"no\"\tby\\hand", ok: false, seen: "" },
            Record::Unit { base: u64::MAX, segment: 7, capabilities: "snoop control" },
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
