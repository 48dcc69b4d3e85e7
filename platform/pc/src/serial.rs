//! The serial port, which is what the PC has to say something to other machines: COM1, until the firmware says that it is another.

mod choice;
mod uart;

use core::fmt;

use spin::mutex::SpinMutex;
use uart_16550::Uart16550;

pub(crate) use self::choice::PortReason;
pub use self::choice::SerialPort;
pub(crate) use self::uart::UartRegisters;
use self::uart::{CLOCK_HZ, PATIENCE, Speed, UartBackend};
use crate::acpi::{Console, UartPlace};
use crate::println;

/// The first port of every PC that has one.
const COM1_PORT: u16 = 0x3f8;
const COM1: UartPlace = UartPlace::Ports(COM1_PORT);
/// Its speed, in bits a second, if nobody says another.
const RATE: u32 = 115_200;

/// Where what is printed goes.
struct Output {
    uart: Option<Uart16550<UartBackend>>,
    /// It has not taken what it was given last, and is not waited for again before it takes something.
    is_stuck: bool,
    port: SerialPort,
}

static OUTPUT: SpinMutex<Output> = SpinMutex::new(Output {
    uart: None,
    is_stuck: false,
    port: SerialPort { place: None, function: None, rate: None, reason: PortReason::NoTable },
});

/// Starts COM1 for all that is printed from now on. If it does not answer, what is printed is dropped.
pub(crate) fn init() {
    let speed = Speed::of(RATE, CLOCK_HZ);
    let uart = uart::start(UartRegisters::Ports(COM1_PORT), speed);
    let place = uart.is_some().then_some(COM1);
    let port = SerialPort { place, function: None, rate: Some(RATE), reason: PortReason::NoTable };
    *OUTPUT.lock() = Output { uart, is_stuck: false, port };
}

/// Starts the port that the firmware names, with its registers if they are in reach, for all that is printed from now on. If it does not
/// answer, all stays as it is. True if it is the one from now on.
///
/// The port is as fast as the firmware says, if its clock is known; otherwise it stays as it is.
pub(crate) fn move_to(console: &Console, registers: Option<UartRegisters>) -> bool {
    let clock = console.clock.or(matches!(console.place, UartPlace::Ports(_)).then_some(CLOCK_HZ));
    let mut speed = console.rate.zip(clock).and_then(|(rate, clock)| Speed::of(rate, clock));
    if console.place == COM1 {
        // That was set before.
        speed = speed.or(Speed::of(RATE, CLOCK_HZ));
    }
    // COM1 was started before, and is the last that is left: it need not lead its modem lines back.
    let start = if console.place == COM1 { uart::start } else { uart::start_if_sure };
    match registers.and_then(|registers| start(registers, speed)) {
        None => {
            stay(PortReason::Silent(console.place));
            false
        }
        Some(uart) => {
            let rate = speed.map(|speed| speed.rate);
            let (place, reason) = (Some(console.place), PortReason::Named);
            let port = SerialPort { place, function: console.function, rate, reason };
            *OUTPUT.lock() = Output { uart: Some(uart), is_stuck: false, port };
            // What the firmware had under way on the port may have left a byte.
            println!();
            true
        }
    }
}

/// The port stays the one that it is, although there is a table.
pub(crate) fn stay(reason: PortReason) {
    OUTPUT.lock().port.reason = reason;
}

/// The port that is used.
pub(crate) fn port() -> SerialPort {
    OUTPUT.lock().port
}

/// Lets a report of a crash through, even if it happened in the middle of printing.
pub(crate) fn break_lock() {
    if OUTPUT.is_locked() {
        // SAFETY: there is one CPU, and what held the lock on it never runs again.
        unsafe { OUTPUT.force_unlock() };
    }
}

/// The serial port as a writer. Never fails and never waits for ever: what the port does not take is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        OUTPUT.lock().write(text.as_bytes());
        Ok(())
    }
}

impl Output {
    fn write(&mut self, text: &[u8]) {
        let Some(uart) = self.uart.as_mut() else { return };
        let (mut rest, mut patience) = (text, if self.is_stuck { 1 } else { PATIENCE });
        while !rest.is_empty() && patience > 0 {
            match uart.send_bytes(rest) {
                0 => patience -= 1,
                sent => (rest, patience) = (rest.get(sent..).unwrap_or_default(), PATIENCE),
            }
        }
        self.is_stuck &= text.is_empty();
        self.is_stuck |= !rest.is_empty();
    }
}

/// Prints to the serial port, as `std::print!` does to the standard output.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => {{
        let _ = ::core::fmt::Write::write_fmt(&mut $crate::Serial, ::core::format_args!($($text)*));
    }};
}

/// Prints a line to the serial port, as `std::println!` does to the standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::print!("{}\n", ::core::format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::uart::tests::Memory;
    use super::*;

    #[test]
    fn what_a_port_does_not_take_is_dropped_and_the_next_is_tried() {
        let memory = Memory::idle(1);
        let uart = uart::start(memory.registers(8, 1, 1), Speed::of(RATE, CLOCK_HZ));
        let port = SerialPort { place: Some(COM1), function: None, rate: Some(RATE), reason: PortReason::NoTable };
        let mut output = Output { uart, is_stuck: false, port };
        output.write(b"a");
        assert_eq!((memory.get(0, 1), output.is_stuck), (b'a', false));
        memory.set(5, 1, 0);
        // Each but the first waits no more: with patience these would take hours.
        for _ in 0..100_000 {
            output.write(b"b");
        }
        assert_eq!((memory.get(0, 1), output.is_stuck), (b'a', true));
        output.write(b"");
        assert!(output.is_stuck, "nothing was taken");
        memory.set(5, 1, 0x60);
        output.write(b"c");
        assert_eq!((memory.get(0, 1), output.is_stuck), (b'c', false));
        output.uart = None;
        output.write(b"d");
        assert_eq!(memory.get(0, 1), b'c');
    }
}
