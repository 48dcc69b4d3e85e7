//! Events that a unit sends as a message (sections 7.3 and 11.4.7.3).
#![forbid(unsafe_code)]

use crate::judge::journal::Journal;

pub(crate) const MASKED: u32 = 1 << 31;
const WAITING: u32 = 1 << 30;

/// The registers of an event that is sent as a message: control, data, address, upper address.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) control: u32,
    pub(crate) data: u32,
    pub(crate) address: u32,
    pub(crate) upper: u32,
}

impl Default for Message {
    fn default() -> Self {
        Self { control: MASKED, data: 0, address: 0, upper: 0 }
    }
}

impl Message {
    /// Sends, or keeps pending if masked.
    pub(crate) fn raise(&mut self, journal: &mut Journal) {
        self.control |= WAITING;
        self.deliver(journal);
    }

    fn deliver(&mut self, journal: &mut Journal) {
        if self.control & (MASKED | WAITING) == WAITING {
            self.control &= !WAITING;
            let address = u64::from(self.upper) << 32 | u64::from(self.address);
            journal.message(address, self.data);
        }
    }

    /// The condition has been served.
    pub(crate) fn settle(&mut self) {
        self.control &= !WAITING;
    }

    pub(crate) fn read(&self, index: u32) -> u32 {
        match index {
            0 => self.control,
            1 => self.data,
            2 => self.address,
            _ => self.upper,
        }
    }

    /// A write of control, address or upper address.
    pub(crate) fn write(&mut self, index: u32, value: u32, journal: &mut Journal) {
        match index {
            0 => {
                if value & MASKED == 0 && self.address == 0 {
                    journal.violation("R64b", "an event is unmasked while its message has no address");
                }
                self.control = self.control & WAITING | value & MASKED;
                self.deliver(journal);
            }
            2 => self.address = value & !3,
            _ => self.upper = value,
        }
    }
}
