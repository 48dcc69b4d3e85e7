//! From the firmware's table to the serial port that it names.

use cofferdam::addr::PhysAddr;
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
                console.function.inspect(|function| self.have_answer(function, console.place));
                serial::move_to(&console, self.uart_registers(console.place));
            }
            Ok(Some(Err(refusal))) => serial::stay(PortReason::NoConsole(refusal)),
            Err(error) => serial::stay(PortReason::BadTable(error)),
        }
    }

    /// Has a function answer at the place of the port, if it is the one that the table means and does not yet.
    fn have_answer(&self, function: &NamedFunction, place: UartPlace) {
        let address = match place {
            UartPlace::Ports(first) => BusAddress::Port(first),
            UartPlace::Memory { at, .. } => BusAddress::Memory(at),
        };
        let source = function.source;
        if let Some(bit) = pci::lacks(|offset| self.config_read(source, offset), function.id, address) {
            self.change_command(source, |command| command | bit);
        }
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
