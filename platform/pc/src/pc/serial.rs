//! From the firmware's table to the serial port that it names.

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::Hal;

use super::Pc;
use crate::acpi::{NamedFunction, Spcr, UartPlace, console};
use crate::pci::{self, Bar, BusAddress};
use crate::serial::{self, PortReason, SerialPort, UartRegisters};

/// Registers of a serial port.
const REGISTERS: u64 = 8;

impl Pc {
    /// The serial port that everything printed goes to.
    pub fn serial_port(&self) -> SerialPort {
        serial::port()
    }

    /// Has what is printed go to the port that the firmware's SPCR table names, if it names one that answers.
    pub(crate) fn take_serial(&self) {
        match self.table::<Spcr>().map(|table| table.map(console)) {
            Ok(None) => {}
            Ok(Some(Ok(console))) => {
                let read = |function: &NamedFunction, offset| self.config_read(function.source, offset);
                if let Some(function) =
                    console.function.filter(|it| pci::is_other_than_serial(|at| read(it, at), it.id))
                {
                    return serial::stay(PortReason::NoSerial(function.source));
                }
                let changed = console.function.and_then(|function| self.have_answer(&function, console.place));
                let is_taken = serial::move_to(&console, self.uart_registers(console.place));
                if let Some((source, bit)) = changed.filter(|_| !is_taken) {
                    self.change_command(source, |command| command & !bit);
                }
            }
            Ok(Some(Err(refusal))) => serial::stay(PortReason::NoConsole(refusal)),
            Err(error) => serial::stay(PortReason::BadTable(error)),
        }
    }

    /// Has a function answer at the place of the port, if it is the one that the table means and does not yet. The bit of its command
    /// register that was set for that.
    fn have_answer(&self, function: &NamedFunction, place: UartPlace) -> Option<(SourceId, u32)> {
        let address = match place {
            UartPlace::Ports(first) => BusAddress::Port(first),
            UartPlace::Memory { at, .. } => BusAddress::Memory(at),
        };
        let source = function.source;
        let bit = pci::lacks(|offset| self.config_read(source, offset), function.id, address)?;
        self.change_command(source, |command| command | bit);
        Some((source, bit))
    }

    /// Where the CPU has the registers of a port; `None` if they are out of its reach, or if memory is there.
    fn uart_registers(&self, place: UartPlace) -> Option<UartRegisters> {
        Some(match place {
            UartPlace::Ports(first) => UartRegisters::Ports(first),
            UartPlace::Memory { at, stride, width } => {
                let bar = Bar { base: PhysAddr::try_new(at).ok()?, bytes: REGISTERS * u64::from(stride) };
                // SAFETY: the firmware says that a serial port is there, which touches no memory.
                let registers = unsafe { self.registers(bar) }?;
                UartRegisters::Memory { registers, stride, width }
            }
        })
    }
}
