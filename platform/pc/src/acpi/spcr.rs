//! Which serial port the firmware has its console on (Microsoft, Serial Port Console Redirection Table).
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::RangeInclusive;

use cofferdam::addr::SourceId;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::HEADER;

/// The table behind its header, as far as all revisions have it.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SpcrFields {
    kind: u8,
    _reserved: [u8; 3],
    registers: GenericAddress,
    _interrupt: [u8; 6],
    rate: u8,
    _line: [u8; 5],
    device: U16,
    vendor: U16,
    bus: u8,
    slot: u8,
    function: u8,
    _flags: U32,
    segment: u8,
}
const _: () = assert!(size_of::<SpcrFields>() == 40);

/// The generic address structure (ACPI 6.5, section 5.2.3.2).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GenericAddress {
    space: u8,
    bits: u8,
    _first_bit: u8,
    access: u8,
    at: U64,
}
const MEMORY: u8 = 0;
const PORTS: u8 = 1;

/// Interface types (Microsoft, Debug Port Table 2, table 3): with the registers of a 16550, of a part of one, and of one whose registers
/// are as the generic address structure says.
const KINDS: [u8; 3] = [0, 1, 0x12];
/// Behind the fields: the frequency of the clock, from revision 3 on, and the exact rate, from revision 4 on.
const CLOCK: usize = 76;
const EXACT_RATE: usize = 80;
/// What a vendor or a device reads as that is none.
const NO_PCI: u16 = 0xffff;
/// Registers of a 16550.
const REGISTERS: u16 = 8;
/// Ports that all PCs have for something else (ICH9 datasheet, fixed I/O address ranges): timers, controllers and resets below the first,
/// and those that lead to configuration space and to a reset.
const FIRST_FREE_PORT: u16 = 0x100;
const CONFIGURATION_PORTS: RangeInclusive<u16> = 0xcf8..=0xcff;
/// Memory below has the firmware and the picture of old, whatever it is that the map leaves out.
const FIRST_MIB: u64 = 1 << 20;

/// Where the registers of a serial port are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UartPlace {
    /// At I/O ports, one byte each, from this on.
    Ports(u16),
    /// In memory: each read and written in `width` bytes, `stride` bytes from one to the next.
    Memory { at: u64, stride: u8, width: u8 },
}

/// A PCI function that the table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamedFunction {
    pub(crate) source: SourceId,
    /// As configuration space has both at 0: the vendor in the lower half.
    pub(crate) id: u32,
}

/// What the table says of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Console {
    pub(crate) place: UartPlace,
    /// The function that the port is of, if it is one of PCI.
    pub(crate) function: Option<NamedFunction>,
    /// Bits a second; `None` if the port is to be left as it is.
    pub(crate) rate: Option<u32>,
    /// The frequency of its clock, in Hz, if the table knows.
    pub(crate) clock: Option<u32>,
}

/// Why a table names no port that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoConsole {
    /// It is shorter than all revisions are.
    Short,
    /// It names none, since the firmware's console is on none.
    Off,
    /// The port is of this interface type, which has other registers.
    Kind(u8),
    /// The port is in this address space, or at an address where none can be.
    Place { space: u8, at: u64 },
}

impl fmt::Display for NoConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the SPCR table is cut short"),
            Self::Off => f.write_str("the SPCR table names no port"),
            Self::Kind(kind) => {
                write!(f, "the SPCR table names a port of type {kind:#x}, which has no registers of a 16550")
            }
            Self::Place { space, at } => {
                write!(f, "the SPCR table names a port at {at:#x} of address space {space}, where none can be used")
            }
        }
    }
}

/// Reads the bytes of the table.
pub(crate) fn console(table: &[u8]) -> Result<Console, NoConsole> {
    let (fields, _) =
        table.get(HEADER..).and_then(|rest| SpcrFields::ref_from_prefix(rest).ok()).ok_or(NoConsole::Short)?;
    if fields.registers.at.get() == 0 {
        return Err(NoConsole::Off);
    }
    if !KINDS.contains(&fields.kind) {
        return Err(NoConsole::Kind(fields.kind));
    }
    let revision = table.get(8).copied().unwrap_or_default();
    // What an earlier revision has there is reserved.
    let since = |first: u8, at: usize| {
        let value = u32::from_le_bytes(*table.get(at..)?.first_chunk()?);
        (revision >= first && value != 0).then_some(value)
    };
    let rate = match fields.rate {
        3 => Some(9_600),
        4 => Some(19_200),
        6 => Some(57_600),
        7 => Some(115_200),
        // 0: as it is; the others are reserved.
        _ => None,
    };
    Ok(Console {
        place: fields.registers.place()?,
        function: fields.named_function(),
        rate: since(4, EXACT_RATE).or(rate),
        clock: since(3, CLOCK),
    })
}

impl SpcrFields {
    fn named_function(&self) -> Option<NamedFunction> {
        let (vendor, device) = (self.vendor.get(), self.device.get());
        if vendor == NO_PCI || device == NO_PCI {
            return None;
        }
        let source = SourceId::new(self.segment.into(), self.bus, self.slot, self.function)?;
        Some(NamedFunction { source, id: u32::from(device) << 16 | u32::from(vendor) })
    }
}

/// True if a serial port may be at these ports: they end, and no PC has something else there.
fn may_be_serial(first: u16) -> bool {
    let Some(last) = first.checked_add(REGISTERS - 1) else { return false };
    let is_configuration = first <= *CONFIGURATION_PORTS.end() && *CONFIGURATION_PORTS.start() <= last;
    first >= FIRST_FREE_PORT && !is_configuration
}

impl GenericAddress {
    /// Where the registers are. Ports are of one byte each whatever the widths say.
    fn place(&self) -> Result<UartPlace, NoConsole> {
        let at = self.at.get();
        let place = match self.space {
            PORTS => u16::try_from(at).ok().filter(|at| may_be_serial(*at)).map(UartPlace::Ports),
            MEMORY if at >= FIRST_MIB && at.is_multiple_of(8) => {
                // From one register to the next, if a register is that wide.
                let stride = [1, 2, 4].into_iter().find(|bytes| bytes * 8 == self.bits);
                let width = match self.access {
                    1 => 1,
                    2 => 2,
                    3 => 4,
                    // Undefined, or wider than a register is.
                    _ => stride.unwrap_or(1),
                };
                Some(UartPlace::Memory { at, stride: stride.unwrap_or(width).max(width), width })
            }
            _ => None,
        };
        place.ok_or(NoConsole::Place { space: self.space, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// COM1 at 115200, on no PCI function, revision 2.
    fn com1() -> Vec<u8> {
        let mut table = vec![0; 80];
        table[..4].copy_from_slice(b"SPCR");
        table[8] = 2;
        address(&mut table, PORTS, 8, 1, 0x3f8);
        table[58] = 7;
        table[64..68].fill(0xff);
        table
    }

    fn address(table: &mut [u8], space: u8, bits: u8, access: u8, at: u64) {
        table[40..44].copy_from_slice(&[space, bits, 0, access]);
        table[44..52].copy_from_slice(&at.to_le_bytes());
    }

    #[test]
    fn each_field_comes_from_its_bytes() {
        let expected = Console { place: UartPlace::Ports(0x3f8), function: None, rate: Some(115_200), clock: None };
        assert_eq!(console(&com1()), Ok(expected));
        for (code, rate) in [(0, None), (3, Some(9_600)), (4, Some(19_200)), (6, Some(57_600)), (5, None), (0xff, None)]
        {
            let mut table = com1();
            table[58] = code;
            assert_eq!(console(&table), Ok(Console { rate, ..expected }));
        }
        let mut pci = com1();
        pci[64..71].copy_from_slice(&[0x02, 0x00, 0x36, 0x1b, 0x40, 0x10, 3]);
        pci[75] = 9;
        let source = SourceId::new(9, 0x40, 0x10, 3).unwrap();
        let function = Some(NamedFunction { source, id: 0x0002_1b36 });
        assert_eq!(console(&pci), Ok(Console { function, ..expected }));
        // Of no vendor, of no device, and where no function is.
        for (at, bytes) in [(64, [0xff, 0xff]), (66, [0xff, 0xff]), (69, [0x20, 0]), (70, [8, 0])] {
            let mut table = pci.clone();
            table[at..at + 2].copy_from_slice(&bytes);
            assert_eq!(console(&table).unwrap().function, None, "{at}");
        }
    }

    #[test]
    fn clock_and_exact_rate_are_of_later_revisions() {
        let mut table = com1();
        table.resize(90, 0);
        table[76..80].copy_from_slice(&48_000_000_u32.to_le_bytes());
        table[80..84].copy_from_slice(&1_500_000_u32.to_le_bytes());
        for (revision, clock, rate) in [
            (2, None, 115_200),
            (3, Some(48_000_000), 115_200),
            (4, Some(48_000_000), 1_500_000),
            (9, Some(48_000_000), 1_500_000),
        ] {
            table[8] = revision;
            let console = console(&table).unwrap();
            assert_eq!((console.clock, console.rate), (clock, Some(rate)));
        }
        assert_eq!(console(&table[..83]).unwrap().rate, Some(115_200), "cut");
        assert_eq!(console(&table[..79]).unwrap().clock, None, "cut");
        table[76..84].fill(0);
        let console = console(&table).unwrap();
        assert_eq!((console.clock, console.rate), (None, Some(115_200)), "unknown");
    }

    #[test]
    fn registers_in_memory_have_a_distance_and_a_width() {
        let at = 0xfedc_9000;
        for (bits, access, stride, width) in [
            (8, 1, 1, 1),
            (8, 0, 1, 1),
            (16, 2, 2, 2),
            (32, 3, 4, 4),
            (32, 0, 4, 4),
            (32, 1, 4, 1),
            (32, 2, 4, 2),
            // A register is no narrower than an access.
            (8, 3, 4, 4),
            // The size of all of them, or nonsense.
            (64, 1, 1, 1),
            (0, 3, 4, 4),
            (0, 4, 1, 1),
            (7, 0xff, 1, 1),
        ] {
            let mut table = com1();
            address(&mut table, MEMORY, bits, access, at);
            let place = UartPlace::Memory { at, stride, width };
            assert_eq!(console(&table).map(|console| console.place), Ok(place), "{bits} {access}");
        }
        let mut ports = com1();
        address(&mut ports, PORTS, 32, 3, 0xfff8);
        assert_eq!(console(&ports).unwrap().place, UartPlace::Ports(0xfff8), "whatever the widths are");
    }

    #[test]
    fn a_port_that_cannot_be_used_is_named() {
        let refused = |space, at| {
            let mut table = com1();
            address(&mut table, space, 8, 1, at);
            console(&table).unwrap_err()
        };
        assert_eq!(refused(PORTS, 0), NoConsole::Off);
        for (space, at) in
            [(PORTS, 0xfff9), (PORTS, 0x1_03f8), (PORTS, u64::MAX), (MEMORY, 0xfedc_9004), (2, 0x10), (0x7f, 8)]
        {
            assert_eq!(refused(space, at), NoConsole::Place { space, at });
        }
        // What all PCs have for something else.
        let ports = (1..0x100).chain(0xcf1..=0xcff).map(|at| (PORTS, at));
        for (space, at) in ports.chain([8, 0xa_0000, 0xf_fff8].map(|at| (MEMORY, at))) {
            assert_eq!(refused(space, at), NoConsole::Place { space, at });
        }
        for (space, at) in [(PORTS, 0x100), (PORTS, 0xcf0), (PORTS, 0xd00), (MEMORY, FIRST_MIB)] {
            let mut table = com1();
            address(&mut table, space, 8, 1, at);
            assert!(console(&table).is_ok(), "{space} {at:#x}");
        }
        for kind in 0..=u8::MAX {
            let mut table = com1();
            table[36] = kind;
            let is_16550 = matches!(kind, 0 | 1 | 0x12);
            assert_eq!(console(&table).err(), (!is_16550).then_some(NoConsole::Kind(kind)));
        }
    }

    #[test]
    fn no_byte_and_no_cut_makes_it_panic() {
        let good = com1();
        for at in 0..good.len() {
            for value in 0..=u8::MAX {
                let mut table = good.clone();
                table[at] = value;
                let _ = console(&table).map_err(|error| error.to_string());
            }
            let expected = if at < 76 { Err(NoConsole::Short) } else { console(&good) };
            assert_eq!(console(&good[..at]), expected);
        }
    }
}
