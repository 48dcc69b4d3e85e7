//! Which serial port is used, and why, in words.
#![forbid(unsafe_code)]

use core::fmt;

use cofferdam::addr::SourceId;

use super::COM1;
use crate::acpi::{AcpiError, NamedFunction, NoConsole, UartPlace};

/// The serial port that everything printed goes to, and why it is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialPort {
    /// `None` if there is no port.
    pub(super) place: Option<UartPlace>,
    pub(super) function: Option<NamedFunction>,
    /// Bits a second, with 8 data bits and no parity; `None` if the port is as the firmware has left it.
    pub(super) rate: Option<u32>,
    pub(super) reason: PortReason,
}

/// Why a port is the one that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortReason {
    /// There is no SPCR table.
    NoTable,
    /// The SPCR table names it.
    Named,
    /// No SPCR table can be read.
    BadTable(AcpiError),
    /// The SPCR table names none that can be used.
    NoConsole(NoConsole),
    /// The SPCR table names a function that is no serial port.
    NoSerial(SourceId),
    /// What the SPCR table names does not answer.
    Silent(UartPlace),
}

impl SerialPort {
    /// True if there is one.
    pub fn is_there(&self) -> bool {
        self.place.is_some()
    }
}

impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            None => f.write_str("none, since nothing answers at COM1")?,
            Some(place) => {
                if place == COM1 {
                    f.write_str("COM1, ")?;
                }
                write!(f, "{place}")?;
                if let Some(function) = self.function {
                    write!(f, " of {}", function.source)?;
                }
                match self.rate {
                    Some(rate) => write!(f, ", {rate} baud, 8N1")?,
                    None => f.write_str(", as fast as the firmware has set it")?,
                }
            }
        }
        match self.reason {
            PortReason::NoTable => f.write_str("; there is no SPCR table"),
            PortReason::Named => f.write_str("; the SPCR table names it"),
            PortReason::BadTable(error) => write!(f, "; {error}"),
            PortReason::NoConsole(refusal) => write!(f, "; {refusal}"),
            PortReason::NoSerial(function) => write!(f, "; the SPCR table names {function}, which is no serial port"),
            PortReason::Silent(place) => write!(f, "; the SPCR table names {place}, where nothing answers"),
        }
    }
}

impl fmt::Display for UartPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ports(first) => write!(f, "I/O port {first:#x}"),
            Self::Memory { at, stride, width } => {
                write!(f, "memory at {at:#x} ({} bits wide, one register in {stride} bytes)", width * 8)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_has_its_words() {
        let none = SerialPort { place: None, function: None, rate: None, reason: PortReason::NoTable };
        assert_eq!(none.to_string(), "none, since nothing answers at COM1; there is no SPCR table");
        let com1 = SerialPort { place: Some(COM1), rate: Some(115_200), ..none };
        assert_eq!(com1.to_string(), "COM1, I/O port 0x3f8, 115200 baud, 8N1; there is no SPCR table");
        let function = Some(NamedFunction { source: SourceId::from_requester(0, 0x80), id: 0 });
        let place = Some(UartPlace::Ports(0xc060));
        let named = SerialPort { place, function, reason: PortReason::Named, ..com1 };
        assert_eq!(named.to_string(), "I/O port 0xc060 of 0000:00:10.0, 115200 baud, 8N1; the SPCR table names it");
        let memory = UartPlace::Memory { at: 0xfedc_9000, stride: 4, width: 2 };
        let left = SerialPort { place: Some(memory), rate: None, function: None, ..named };
        assert_eq!(
            left.to_string(),
            "memory at 0xfedc9000 (16 bits wide, one register in 4 bytes), as fast as the firmware has set it; the SPCR table names it"
        );
        for (reason, words) in [
            (PortReason::Silent(UartPlace::Ports(0x2f8)), "the SPCR table names I/O port 0x2f8, where nothing answers"),
            (
                PortReason::NoSerial(SourceId::from_requester(0, 0x10)),
                "the SPCR table names 0000:00:02.0, which is no serial port",
            ),
            (PortReason::NoConsole(NoConsole::Off), "the SPCR table names no port"),
            (PortReason::BadTable(AcpiError::NoRsdp), "no RSDP found"),
        ] {
            let text = SerialPort { reason, ..com1 }.to_string();
            assert_eq!(text, format!("COM1, I/O port 0x3f8, 115200 baud, 8N1; {words}"));
        }
    }
}
