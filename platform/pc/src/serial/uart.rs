//! The registers of a 16550, wherever they are, and how a port is started that may be none.

use uart_16550::backend::Backend;
use uart_16550::spec::registers::{LCR, LSR, offsets};
use uart_16550::{BaudRate, Config, Uart16550};
use x86_64::instructions::port::Port;

use crate::mmio::Mmio;

/// Looks at a port that stays busy before it is given up: many times what a byte takes.
pub(super) const PATIENCE: u32 = 1_000_000;
/// What divides the clock of a port at I/O ports, in Hz.
pub(super) const CLOCK_HZ: u32 = 1_843_200;
/// A speed that is off by more than this part of it is not understood.
const TOLERANCE: u64 = 32;

/// Where the registers are.
#[derive(Debug)]
pub(crate) enum UartRegisters {
    /// At I/O ports from this on.
    Ports(u16),
    /// In memory: each of `width` bytes, `stride` bytes from one to the next.
    Memory { registers: Mmio, stride: u8, width: u8 },
}

impl UartRegisters {
    fn read(&self, register: u8) -> u8 {
        self.read_all(register) as u8
    }

    fn write(&self, register: u8, value: u8) {
        self.write_all(register, value.into());
    }

    /// All bits of a register, which has 8 if it is one of a serial port.
    fn read_all(&self, register: u8) -> u32 {
        match self {
            // SAFETY: whoever has made this says that a serial port is there, or nothing.
            Self::Ports(first) => unsafe { Port::<u8>::new(first.wrapping_add(register.into())).read() }.into(),
            Self::Memory { registers, stride, width } => {
                let at = u64::from(register) * u64::from(*stride);
                match width {
                    4 => registers.read32(at),
                    2 => registers.read16(at).into(),
                    _ => registers.read8(at).into(),
                }
            }
        }
    }

    fn write_all(&self, register: u8, value: u32) {
        match self {
            // SAFETY: as above; a serial port touches no memory.
            Self::Ports(first) => unsafe { Port::new(first.wrapping_add(register.into())).write(value as u8) },
            Self::Memory { registers, stride, width } => {
                let at = u64::from(register) * u64::from(*stride);
                match width {
                    4 => registers.write32(at, value),
                    2 => registers.write16(at, value as u16),
                    _ => registers.write8(at, value as u8),
                }
            }
        }
    }
}

/// How fast a port sends, and what its clock has to be divided by for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speed {
    pub(super) rate: u32,
    divisor: u16,
}

impl Speed {
    /// So many bits a second, of a clock of so many Hz; `None` if that cannot be.
    pub(super) fn of(rate: u32, clock: u32) -> Option<Self> {
        let bits = u64::from(rate) * 16;
        let divisor = (u64::from(clock) + bits / 2).checked_div(bits)?;
        let is_near = (divisor * bits).abs_diff(clock.into()) <= u64::from(clock) / TOLERANCE;
        let divisor = u16::try_from(divisor).ok().filter(|divisor| *divisor != 0 && is_near)?;
        Some(Self { rate, divisor })
    }

    /// What the crate takes, which refuses a clock that is no multiple of the rate: the clock that would be one.
    fn config(self) -> Option<Config> {
        let frequency = self.rate.checked_mul(16)?.checked_mul(self.divisor.into())?;
        Some(Config { baud_rate: BaudRate::Custom(self.rate), frequency, ..Config::DEFAULT })
    }
}

/// Registers as the crate uses them.
#[derive(Debug)]
pub(super) struct UartBackend {
    registers: UartRegisters,
    /// The port keeps its speed, and how many bits a character has.
    keeps_line: bool,
    /// The crate writes the divisor.
    is_divisor: bool,
    /// Looks that are left at a port that is started: the crate would wait for ever.
    patience: Option<u32>,
}

impl Backend for UartBackend {
    unsafe fn read(&mut self, register: u8) -> u8 {
        let value = self.registers.read(register);
        let is_busy = register == offsets::LSR as u8 && value & LSR::TRANSMITTER_EMPTY.bits() == 0;
        match &mut self.patience {
            Some(0) if is_busy => value | LSR::TRANSMITTER_EMPTY.bits(),
            Some(patience) if is_busy => {
                *patience -= 1;
                value
            }
            _ => value,
        }
    }

    unsafe fn write(&mut self, register: u8, value: u8) {
        if !self.keeps_line {
            self.registers.write(register, value);
        } else if register == offsets::LCR as u8 {
            let line = LCR::from_bits_retain(self.registers.read(register));
            self.is_divisor = value & LCR::DLAB.bits() != 0;
            self.registers.write(register, (line - LCR::DLAB).bits());
        } else if !self.is_divisor {
            self.registers.write(register, value);
        }
    }
}

/// True if the registers are those of a 16550 (PC16550D datasheet, modem control register): while MCR leads its outputs back (LOOP), MSR
/// has OUT2 as DCD and RTS as CTS. Nothing but MCR is written, and it is as before at the end.
fn leads_back(read: impl Fn(u8) -> u32, write: impl Fn(u8, u32)) -> bool {
    let (control, status) = (offsets::MCR as u8, offsets::MSR as u8);
    let before = read(control);
    // Nothing is there, or a register of another kind, which need not stand a write.
    if before >= 0xff {
        return false;
    }
    let leads_back = [(0x10, 0), (0x1a, 0x90)].into_iter().all(|(outputs, inputs)| {
        write(control, outputs);
        read(status) & !0xf == inputs
    });
    write(control, before);
    leads_back
}

/// The same as [`start`], where something else may be: nothing is started if the registers do not act as those of a serial port.
pub(super) fn start_if_sure(registers: UartRegisters, speed: Option<Speed>) -> Option<Uart16550<UartBackend>> {
    let (read, write) =
        (|register| registers.read_all(register), |register, value| registers.write_all(register, value));
    if leads_back(read, write) { start(registers, speed) } else { None }
}

/// Starts a port: without interrupts, with a FIFO if it has one, and 8 data bits without parity at a speed, or as it is. `None` if there
/// is none, or if it never comes to its end with what it sends.
pub(super) fn start(registers: UartRegisters, speed: Option<Speed>) -> Option<Uart16550<UartBackend>> {
    let config = speed.and_then(Speed::config);
    let backend = UartBackend { registers, keeps_line: config.is_none(), is_divisor: false, patience: Some(PATIENCE) };
    // SAFETY: the registers are those of a serial port, or none are there.
    let mut uart = unsafe { Uart16550::new_with_backend(backend) };
    uart.init(config.unwrap_or(Config::DEFAULT)).ok()?;
    (uart.backend_mut().patience.take() != Some(0)).then_some(uart)
}

#[cfg(test)]
pub(super) mod tests {
    use core::cell::Cell;
    use core::ptr::NonNull;

    use super::*;

    /// Memory that stands for the registers of a port that has nothing to send.
    pub(crate) struct Memory([Cell<u64>; 4]);

    impl Memory {
        pub(crate) fn idle(stride: u8) -> Self {
            let memory = Self([const { Cell::new(0) }; 4]);
            memory.set(5, stride, 0x60);
            memory
        }

        pub(crate) fn set(&self, register: u8, stride: u8, value: u8) {
            let bits = u32::from(register) * u32::from(stride) * 8;
            let word = &self.0[bits as usize / 64];
            word.set(word.get() & !(0xff << (bits % 64)) | u64::from(value) << (bits % 64));
        }

        pub(crate) fn get(&self, register: u8, stride: u8) -> u8 {
            let bits = u32::from(register) * u32::from(stride) * 8;
            (self.0[bits as usize / 64].get() >> (bits % 64)) as u8
        }

        pub(crate) fn registers(&self, bytes: u64, stride: u8, width: u8) -> UartRegisters {
            // SAFETY: the words stand for registers, and others write them by cells alone.
            let registers = unsafe { Mmio::new(NonNull::from(&self.0).cast(), bytes) };
            UartRegisters::Memory { registers, stride, width }
        }
    }

    #[test]
    fn each_register_is_where_the_stride_says() {
        for (stride, width) in [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)] {
            let memory = Memory::idle(stride);
            let speed = Speed::of(9_600, CLOCK_HZ);
            let mut uart = start(memory.registers(8 * u64::from(stride), stride, width), speed).unwrap();
            assert_eq!(uart.send_bytes(b"x"), 1);
            // The divisor was 12; what was sent has the place of its lower half.
            assert_eq!(
                [memory.get(0, stride), memory.get(3, stride), memory.get(4, stride)],
                [b'x', 3, 0xb],
                "{stride}"
            );
            // Nothing lies between them.
            let all = (0..8 * stride).filter(|at| at % stride != 0);
            assert!(all.map(|at| memory.get(at, 1)).all(|byte| byte == 0), "{stride} {width}");
        }
    }

    #[test]
    fn a_port_keeps_its_line_if_no_speed_is_known() {
        let memory = Memory::idle(1);
        // Where the lower half of a divisor would be seen; and 7 bits, with the divisor within reach.
        memory.set(0, 1, 0xee);
        memory.set(3, 1, 0x9a);
        let mut uart = start(memory.registers(8, 1, 1), None).unwrap();
        assert_eq!([memory.get(0, 1), memory.get(1, 1), memory.get(3, 1)], [0xee, 0, 0x1a]);
        assert_eq!((uart.send_bytes(b"x"), memory.get(0, 1)), (1, b'x'));
    }

    #[test]
    fn where_no_port_is_nothing_is_started() {
        // What is not there reads as all ones.
        assert!(start(Memory::idle(1).registers(0, 1, 1), None).is_none());
        assert!(start(Memory::idle(1).registers(7, 1, 1), Speed::of(115_200, CLOCK_HZ)).is_none());
    }

    #[test]
    fn what_does_not_lead_its_outputs_back_is_no_port() {
        // What MSR is for MCR; MCR before; is it a port, and what is MCR then?
        let lines = |control: u32| (control & 0xc) << 4 | (control & 1) << 5 | (control & 2) << 3;
        let looped = |control: u32| if control & 0x10 == 0 { 0xb3 } else { lines(control) | 3 };
        let shifted = |control: u32| lines(control) | 0x100;
        type Status<'a> = &'a dyn Fn(u32) -> u32;
        let cases: [(Status<'_>, u32, bool); 8] = [
            (&looped, 0xb, true),
            (&looped, 0, true),
            (&looped, 0xff, false),
            (&looped, 0x100, false),
            (&|_| 0, 0xb, false),
            (&|_| 0x90, 0xb, false),
            (&|_| 0xff, 0xb, false),
            (&shifted, 0xb, false),
        ];
        for (index, (status, before, is_port)) in cases.into_iter().enumerate() {
            let (control, writes) = (Cell::new(before), Cell::new(0));
            let read = |register| if register == 4 { control.get() } else { status(control.get()) };
            let write = |register, value| {
                assert_eq!(register, 4);
                writes.set(writes.get() + 1);
                control.set(value);
            };
            assert_eq!((leads_back(read, write), control.get()), (is_port, before), "{index}");
            assert_eq!(writes.get() == 0, before >= 0xff, "{index}");
        }
        // Memory keeps what is written, and does no more.
        let memory = Memory::idle(1);
        assert!(start_if_sure(memory.registers(8, 1, 1), Speed::of(115_200, CLOCK_HZ)).is_none());
        assert_eq!((0..8).map(|register| memory.get(register, 1)).sum::<u8>(), 0x60);
    }

    #[test]
    fn a_port_that_never_gets_ready_is_given_up() {
        for ready in [0, 0x20] {
            let memory = Memory::idle(1);
            memory.set(5, 1, ready);
            assert!(start(memory.registers(8, 1, 1), Speed::of(115_200, CLOCK_HZ)).is_none(), "{ready}");
        }
    }

    #[test]
    fn a_speed_is_near_what_was_wanted_or_none() {
        let divisor = |rate, clock| Speed::of(rate, clock).map(|speed| speed.divisor);
        assert_eq!(divisor(115_200, CLOCK_HZ), Some(1));
        assert_eq!(divisor(9_600, CLOCK_HZ), Some(12));
        assert_eq!(divisor(115_200, 48_000_000), Some(26));
        assert_eq!(divisor(1_500_000, 48_000_000), Some(2));
        // Too fast for the clock, too far from what it can do, and too slow for the register.
        assert_eq!([divisor(230_400, CLOCK_HZ), divisor(80_000, CLOCK_HZ), divisor(1, CLOCK_HZ)], [None; 3]);
        assert_eq!([divisor(0, CLOCK_HZ), divisor(9_600, 0), divisor(u32::MAX, u32::MAX)], [None; 3]);
        for (rate, clock) in [(115_200, CLOCK_HZ), (115_200, 48_000_000), (268_435_455, u32::MAX)] {
            let memory = Memory::idle(1);
            assert!(start(memory.registers(8, 1, 1), Speed::of(rate, clock)).is_some(), "{rate} of {clock}");
        }
    }
}
