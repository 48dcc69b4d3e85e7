//! The first serial port, which is all that the PC has to say something.

use core::fmt;

use spin::mutex::SpinMutex;
use uart_16550::{BaudRate, Config, Uart16550, backend::PioBackend};

/// COM1 of every PC.
const PORT: u16 = 0x3f8;
/// Looks at a transmitter that stays full before what is to be sent is dropped: many times what a byte takes.
const PATIENCE: u32 = 1_000_000;

static COM1: SpinMutex<Option<Uart16550<PioBackend>>> = SpinMutex::new(None);

/// Sets the port up: 115200 baud, 8 data bits, no parity. Without a port there, everything printed is dropped.
pub(crate) fn init() {
    // SAFETY: a PC has a serial port or nothing at these ports, and nobody else uses them.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(PORT) }) else { return };
    if uart.init(Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT }).is_ok() {
        *COM1.lock() = Some(uart);
    }
}

/// Lets a report of a crash through, even if it happened in the middle of printing.
pub(crate) fn break_lock() {
    if COM1.is_locked() {
        // SAFETY: there is one CPU, and what held the lock on it never runs again.
        unsafe { COM1.force_unlock() };
    }
}

/// The serial port as a writer. Never fails and never waits for ever: what the port does not take is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut port = COM1.lock();
        let Some(uart) = port.as_mut() else { return Ok(()) };
        let (mut rest, mut patience) = (text.as_bytes(), PATIENCE);
        while !rest.is_empty() && patience > 0 {
            match uart.send_bytes(rest) {
                0 => patience -= 1,
                sent => (rest, patience) = (rest.get(sent..).unwrap_or_default(), PATIENCE),
            }
        }
        Ok(())
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
