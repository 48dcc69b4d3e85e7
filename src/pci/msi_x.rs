//! The capability of MSI-X, and its table in the memory behind a base address (PCI Local Bus Specification 3.0, section 6.8.2).
//!
//! | word | bits | field |
//! |---|---|---|
//! | 0 of the capability | 26:16 | Table Size, less one |
//! | 0 | 30 | Function Mask |
//! | 0 | 31 | MSI-X Enable |
//! | 1 | 2:0 | Table BIR: which base address |
//! | 1 | 31:3 | Table Offset, from there, in units of 8 bytes |
//! | 0 to 2 of an entry of the table | | address, upper half of the address, data |
//! | 3 | 0 | mask |

use core::ptr::NonNull;

use super::ConfigSpace;
use super::capability::capability;
use super::header::is_any_bridge;
use crate::addr::{PhysAddr, SourceId};
use crate::hal::Hal;

const ID: u8 = 0x11;
const FUNCTION_MASK: u32 = 1 << 30;
const ENABLE: u32 = 1 << 31;
const MASK: u32 = 1;
/// Words of an entry.
const WORDS: usize = 4;
/// The first base address; a function that is no bridge has six (section 6.2.5).
const BASES: u16 = 0x10;

/// Where the table of a function's MSI-X is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MsiXTable {
    /// The address, by the function's base address as it is now.
    pub address: PhysAddr,
    /// How many entries of 16 bytes it has, 1 to 2048.
    pub entries: u16,
}

/// The table of a function; `None` if it has none, or configuration space does not show where, as for a virtual function.
pub(crate) fn msi_x_table(config: &impl ConfigSpace, function: SourceId) -> Option<MsiXTable> {
    let at = place(config, function)?;
    let (first, second) = (config.read(function, at), config.read(function, at + 4));
    let base = BASES + (second & 0b111) as u16 * 4;
    if base > 0x24 || is_any_bridge(config, function) {
        return None;
    }
    let low = config.read(function, base);
    // Bit 0: in I/O space. Bits 2:1: 00 for 32 bits, 10 for 64.
    let high = match low & 0b111 {
        0b000 => 0,
        0b100 if base < 0x24 => config.read(function, base + 4),
        _ => return None,
    };
    let memory = u64::from(high) << 32 | u64::from(low & !0xf);
    let address = memory.checked_add(u64::from(second & !0b111)).and_then(|at| PhysAddr::try_new(at).ok())?;
    (memory != 0).then_some(MsiXTable { address, entries: (first >> 16 & 0x7ff) as u16 + 1 })
}

/// Where the capability is.
fn place(config: &impl ConfigSpace, function: SourceId) -> Option<u16> {
    capability(config, function, ID).filter(|at| *at <= 0xf4)
}

/// Has a function send its interrupts by MSI-X: `messages` are those of the first entries, address and data, and all others are masked.
/// False if it has no such capability.
///
/// # Safety
///
/// `table` is where the CPU sees the function's table, uncached, with all entries that it [has](msi_x_table).
pub(crate) unsafe fn program_msi_x(
    hal: &impl Hal,
    function: SourceId,
    table: NonNull<u32>,
    messages: impl Iterator<Item = (u64, u32)>,
) -> bool {
    let Some(at) = place(hal, function) else { return false };
    let first = hal.config_read(function, at);
    let control = |flags: u32| {
        // SAFETY: the register is of the function's capability. What it sends by its entries are interrupts, which its unit takes or not.
        unsafe { hal.config_write(function, at, first & !(FUNCTION_MASK | ENABLE) | flags) }
    };
    // None is sent with half of an address.
    control(FUNCTION_MASK | ENABLE);
    let mut messages = messages.fuse();
    for entry in 0..=(first >> 16 & 0x7ff) as usize {
        let write = |word: usize, value: u32| {
            // SAFETY: the caller says that all entries are there.
            let word = unsafe { table.add(entry * WORDS + word) };
            // SAFETY: as above.
            unsafe { word.write_volatile(value) }
        };
        match messages.next() {
            None => write(3, MASK),
            Some((address, data)) => {
                write(3, MASK);
                write(0, address as u32);
                write(1, (address >> 32) as u32);
                write(2, data);
                write(3, 0);
            }
        }
    }
    control(ENABLE);
    true
}

#[cfg(test)]
mod tests {
    use std::vec;

    use cofferdam_model::{Config, Machine, UnitConfig};

    use super::super::config_space::tests::{FewRegisters, function};
    use super::*;
    use crate::hal::on_model::{OnModel, source};

    /// A function's table by its registers: word 0 and word 1 of the capability, and some base addresses.
    fn table(first: u32, second: u32, bases: &[(u16, u32)]) -> Option<MsiXTable> {
        let of = function(3);
        let mut all = vec![(of, 4, 1 << 20), (of, 0x34, 0x70), (of, 0x70, first | 0x11), (of, 0x74, second)];
        all.extend(bases.iter().map(|(at, value)| (of, *at, *value)));
        msi_x_table(&FewRegisters(&all), of)
    }

    fn found(address: u64, entries: u16) -> Option<MsiXTable> {
        Some(MsiXTable { address: PhysAddr::new(address), entries })
    }

    #[test]
    fn the_table_is_where_its_base_address_says() {
        assert_eq!(table(15 << 16, 0x2003, &[(0x1c, 0xfeb0_0000)]), found(0xfeb0_2000, 16));
        assert_eq!(
            table(0x7ff << 16 | 3 << 30, 0x8, &[(0x10, 0xfeb0_000c), (0x14, 0x12)]),
            found(0x12_feb0_0008, 2048)
        );
        assert_eq!(table(0, 5, &[(0x24, 0xfeb0_0000)]), found(0xfeb0_0000, 1));
    }

    #[test]
    fn a_table_that_is_nowhere_is_none() {
        for (second, bases) in [
            (0, &[][..]),
            (0, &[(0x10, 0xe001)]),
            (0, &[(0x10, 0xfeb0_0002)]),
            (5, &[(0x24, 0xfeb0_0004)]),
            (6, &[(0x28, 0xfeb0_0000)]),
            (0, &[(0x10, 0xfeb0_0000), (0x0c, 1 << 16)]),
            (0, &[(0x10, 0xffff_fffc), (0x14, u32::MAX)]),
        ] {
            assert_eq!(table(0, second, bases), None, "{second} {bases:x?}");
        }
        assert_eq!(msi_x_table(&FewRegisters(&[(function(3), 4, 0)]), function(3)), None);
    }

    #[test]
    fn entries_are_written_while_the_function_is_masked_and_all_others_are_masked() {
        const FUNCTION: SourceId = SourceId::from_requester(0, 8);
        let machine = Machine::new(Config::new([UnitConfig::server()]));
        for (offset, value) in [(0, 0x1234_8086), (4, 1 << 20), (0x34, 0x70), (0x70, 0x11 | 3 << 16 | FUNCTION_MASK)] {
            machine.set_config(source(FUNCTION), offset, value);
        }
        let machine = OnModel(machine);
        let mut memory = [0xaaaa_aaaa_u32; 20];
        let messages = [(0x1_fee0_0018, 0x21), (0xfee0_0038, 0)];
        // SAFETY: the table has four entries, and nobody else has it.
        assert!(unsafe { program_msi_x(&machine, FUNCTION, NonNull::from(&mut memory).cast(), messages.into_iter()) });
        let expected = [0xfee0_0018, 1, 0x21, 0, 0xfee0_0038, 0, 0, 0];
        assert_eq!(memory[..8], expected);
        let untouched = 0xaaaa_aaaa;
        let masked = [untouched, untouched, untouched, 1];
        assert_eq!((&memory[8..12], &memory[12..16], &memory[16..]), (&masked[..], &masked[..], &[untouched; 4][..]));
        assert_eq!(machine.config_read(FUNCTION, 0x70), 0x11 | 3 << 16 | ENABLE);
        // More messages than entries, and a function without any.
        let many = (0..9).map(|n| (0xfee0_0000, n));
        // SAFETY: as above.
        assert!(unsafe { program_msi_x(&machine, FUNCTION, NonNull::from(&mut memory).cast(), many) });
        assert_eq!((memory[14], &memory[16..]), (3, &[untouched; 4][..]));
        let other = SourceId::from_requester(0, 16);
        // SAFETY: as above.
        assert!(!unsafe { program_msi_x(&machine, other, NonNull::from(&mut memory).cast(), messages.into_iter()) });
    }
}
