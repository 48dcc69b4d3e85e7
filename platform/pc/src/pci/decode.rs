//! Whether a function answers at an address that somebody says is its own.

use super::bar::{is_64_bit, register, wide};
use super::{CLASS, COMMAND, HEADER_TYPE, IO_SPACE, MEMORY_SPACE, SERIAL_CLASS};

/// An address that a function may answer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BusAddress {
    Port(u16),
    Memory(u64),
}

impl BusAddress {
    /// The bit of the command register that has a function answer to such addresses.
    fn command(self) -> u32 {
        match self {
            Self::Port(_) => IO_SPACE,
            Self::Memory(_) => MEMORY_SPACE,
        }
    }
}

/// True if a function is the one with this vendor and device, and is no serial port.
pub(crate) fn is_other_than_serial(read: impl Fn(u16) -> u32, id: u32) -> bool {
    read(0) == id && read(CLASS) >> 16 != SERIAL_CLASS
}

/// The bit of the command register that a function lacks to answer at `address`. `None` if it has that, if it is not the one with this
/// vendor and device, or if none of its base address registers has the address.
pub(crate) fn lacks(read: impl Fn(u16) -> u32, id: u32, address: BusAddress) -> Option<u32> {
    let bit = address.command();
    if read(0) != id || read(COMMAND) & bit != 0 {
        return None;
    }
    let count = if read(HEADER_TYPE) >> 16 & 0x7f == 0 { 6 } else { 0 };
    let mut index = 0;
    while index < count {
        let low = read(register(index));
        let is_wide = is_64_bit(low);
        let base = match low & 1 {
            1 => u16::try_from(low & !3).ok().map(BusAddress::Port),
            _ if is_wide && index + 1 == count => None,
            _ => Some(BusAddress::Memory(wide(low, if is_wide { read(register(index + 1)) } else { 0 }))),
        };
        if base == Some(address) {
            return Some(bit);
        }
        index += if is_wide { 2 } else { 1 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: u32 = 0x0002_1b36;

    fn lacking(command: u32, header: u32, bars: [u32; 6], address: BusAddress) -> Option<u32> {
        let read = |offset: u16| match offset {
            0 => ID,
            COMMAND => command,
            HEADER_TYPE => header << 16,
            _ => bars[usize::from(offset - 0x10) / 4],
        };
        assert_eq!(lacks(read, ID ^ 1, address), None, "another function");
        lacks(read, ID, address)
    }

    #[test]
    fn a_function_is_a_serial_port_by_its_class() {
        let is_other = |class: u32, id| {
            is_other_than_serial(|offset| if offset == 0 { ID } else { [class][usize::from(offset - CLASS)] }, id)
        };
        // With the registers of a 16550 or not, and of whichever revision.
        assert!([0x0700_0000, 0x0700_02ff, 0x0700_0600].into_iter().all(|class| !is_other(class, ID)));
        // A NIC, a port with many lines, a modem, another bus, and nothing.
        for class in [0x0200_0000, 0x0702_0000, 0x0703_0000, 0x0c07_0000, u32::MAX] {
            assert!(is_other(class, ID), "{class:#x}");
            assert!(!is_other(class, ID ^ 1), "another function");
        }
    }

    #[test]
    fn a_function_lacks_what_leads_to_its_own_addresses() {
        let bars = [0xc061, 0xfea0_0000, 0xe000_000c, 0x80, 0xc0c1, 0xc100_0004];
        for (address, bit) in [
            (BusAddress::Port(0xc060), Some(IO_SPACE)),
            (BusAddress::Port(0xc0c0), Some(IO_SPACE)),
            (BusAddress::Memory(0xfea0_0000), Some(MEMORY_SPACE)),
            (BusAddress::Memory(0x80_e000_0000), Some(MEMORY_SPACE)),
            // Of another kind, within a register's, the upper half alone, and without one.
            (BusAddress::Memory(0xc060), None),
            (BusAddress::Port(0xc064), None),
            (BusAddress::Memory(0xe000_0000), None),
            (BusAddress::Memory(0x80), None),
            (BusAddress::Memory(0xc100_0000), None),
        ] {
            assert_eq!(lacking(0, 0x80, bars, address), bit, "{address:?}");
            assert_eq!(lacking(3, 0x80, bars, address), None, "{address:?} answers already");
            assert_eq!(lacking(0, 1, bars, address), None, "{address:?} of a bridge");
        }
        assert_eq!(lacking(MEMORY_SPACE, 0, bars, BusAddress::Port(0xc060)), Some(IO_SPACE));
    }
}
