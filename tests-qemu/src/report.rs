//! What a scenario tells over the serial line.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::fmt::{self, Write};

use cofferdam_pc::{Pc, Serial, show};
use cofferdam_report::{EXIT_FAILED, EXIT_OK, Record};
use heapless::String;

/// A text of a few words, cut where it gets too long.
#[derive(Clone, Debug, Default)]
pub struct Words(String<512>);

impl Words {
    /// The formatted text.
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        let mut words = Self::default();
        // Never fails: `write_str` cuts.
        let _ = words.write_fmt(text);
        words
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.push(character).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Tells records and keeps count of what did not hold.
#[derive(Debug)]
pub struct Report {
    failed: Cell<u32>,
    told: Cell<u32>,
}

impl Report {
    /// Tells that the scenario runs.
    pub fn start(pc: &Pc, scenario: &str) -> Self {
        let report = Self { failed: Cell::new(0), told: Cell::new(0) };
        let (memory_mib, tsc_mhz) = (pc.memory_bytes() >> 20, pc.tsc_hz() / 1_000_000);
        report.tell(Record::Started { scenario, memory_mib, tsc_mhz });
        report
    }

    /// Tells a record. One that is too long counts as a failure, and is told as such.
    pub fn tell(&self, record: Record<&str>) {
        self.told.update(|told| told + 1);
        if record.write(&mut Serial).is_err() {
            self.failed.update(|failed| failed + 1);
            let what = "every record fits its line";
            let _ = Record::Expect { what, ok: false, seen: "one was too long" }.write(&mut Serial);
        }
    }

    /// Tells how many records came before, so that one that is lost on the way is missed.
    pub fn tell_count(&self) {
        self.tell(Record::Sent { records: self.told.get() });
    }

    /// Tells whether something holds, and what was seen. Gives `ok` back.
    pub fn expect(&self, ok: bool, what: &str, seen: fmt::Arguments<'_>) -> bool {
        self.failed.update(|failed| failed + u32::from(!ok));
        self.tell(Record::Expect { what, ok, seen: Words::new(seen).as_str() });
        ok
    }

    /// Tells that the scenario is through, or why it could not go on; gives the status to end with.
    pub fn finish(self, result: Result<(), Words>) -> u32 {
        if let Err(error) = result {
            self.tell(Record::Refused { error: error.as_str() });
            show(format_args!("Refused: {}\n\nDone.", error.as_str()));
            return EXIT_FAILED;
        }
        self.tell(Record::Finished);
        let failed = self.failed.get();
        show(format_args!("{failed} expectations did not hold; the serial port has what each saw.\n\nDone."));
        if self.failed.get() == 0 { EXIT_OK } else { EXIT_FAILED }
    }
}

impl<E: core::error::Error> From<E> for Words {
    fn from(error: E) -> Self {
        Self::new(format_args!("{error}"))
    }
}
