//! Where the registers of a function are (PCI Local Bus Specification 3.0, section 6.2.5.1).

use cofferdam::addr::PhysAddr;

use super::{COMMAND, HEADER_TYPE};

/// Memory that a function answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Physical address of the first byte.
    pub base: PhysAddr,
    /// Size: a power of two.
    pub bytes: u64,
}

/// The base address register `index` of a function whose configuration registers are read and written so. `None` if
/// there is none of that number, if it is for ports or the upper half of another, or if the firmware gave it no address.
///
/// The function answers to no address while its size is asked for; everything is as before at the end.
pub(crate) fn bar(read: impl Fn(u16) -> u32, write: impl Fn(u16, u32), index: u8) -> Option<Bar> {
    let count = match read(HEADER_TYPE) >> 16 & 0x7f {
        0 => 6,
        1 => 2,
        _ => 0,
    };
    if index >= count {
        return None;
    }
    let mut at = 0;
    while at < index {
        at += if is_64_bit(read(register(at))) { 2 } else { 1 };
    }
    let low = read(register(index));
    let is_64_bit = is_64_bit(low);
    if at != index || index + u8::from(is_64_bit) >= count || low & 1 != 0 {
        return None;
    }
    let (first, second) = (register(index), register(index + 1));
    let high = if is_64_bit { read(second) } else { 0 };
    let base = PhysAddr::try_new(wide(low, high)).ok().filter(|base| !base.is_null())?;

    let command = read(COMMAND) & 0xffff;
    write(COMMAND, command & !3);
    write(first, u32::MAX);
    let mask_low = read(first);
    write(first, low);
    let mask_high = if is_64_bit {
        write(second, u32::MAX);
        let mask = read(second);
        write(second, high);
        mask
    } else {
        0
    };
    write(COMMAND, command);

    // The bits that cannot be set are those below the size.
    let mask = wide(mask_low, mask_high);
    let bytes = mask & mask.wrapping_neg();
    (bytes != 0).then_some(Bar { base, bytes })
}

pub(super) fn register(index: u8) -> u16 {
    0x10 + 4 * u16::from(index)
}

/// Bit 0: for ports; bits 2:1: 10b for 64 bits.
pub(super) fn is_64_bit(low: u32) -> bool {
    low & 7 == 4
}

pub(super) fn wide(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low & !0xf)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A function whose registers keep only the bits of a mask, and that must not decode while a BAR is not itself.
    struct Function {
        header: u32,
        values: RefCell<[u32; 6]>,
        masks: [u32; 6],
        command: RefCell<u32>,
    }

    impl Function {
        fn new(header: u32, bars: [(u32, u32); 6]) -> Self {
            let (values, masks) = (bars.map(|(value, _)| value), bars.map(|(_, mask)| mask));
            Self { header, values: values.into(), masks, command: 0x0010_0007.into() }
        }

        fn bar(&self, index: u8) -> Option<(u64, u64)> {
            let before = *self.values.borrow();
            let read = |offset: u16| match offset {
                COMMAND => *self.command.borrow(),
                HEADER_TYPE => self.header << 16,
                _ => self.values.borrow()[usize::from(offset - 0x10) / 4],
            };
            let write = |offset: u16, value: u32| {
                if offset == COMMAND {
                    assert_eq!(value >> 16, 0, "a 1 clears status bits");
                    *self.command.borrow_mut() = 0x0010_0000 | value;
                } else {
                    assert_eq!(*self.command.borrow() & 3, 0, "sized while it decodes");
                    let index = usize::from(offset - 0x10) / 4;
                    let mask = self.masks[index];
                    self.values.borrow_mut()[index] = value & mask | before[index] & !mask;
                }
            };
            let found = bar(read, write, index);
            assert_eq!((*self.values.borrow(), *self.command.borrow()), (before, 0x0010_0007));
            found.map(|bar| (bar.base.as_u64(), bar.bytes))
        }
    }

    const NONE: (u32, u32) = (0, 0);

    #[test]
    fn address_and_size_come_out_and_nothing_is_changed() {
        let function = Function::new(
            0x80,
            [
                (0xfea0_0000, 0xfff0_0000),
                (0xc001, 0xffe1),
                (0xe000_000c, 0xf000_0000),
                (0x80, 0xffff_ffff),
                (4, 0xffff_0000),
                (0, u32::MAX),
            ],
        );
        assert_eq!(function.bar(0), Some((0xfea0_0000, 1 << 20)));
        assert_eq!(function.bar(1), None, "for ports");
        assert_eq!(function.bar(2), Some((0x80_e000_0000, 1 << 28)));
        assert_eq!(function.bar(3), None, "an upper half");
        assert_eq!(function.bar(4), None, "without an address");
        assert_eq!(function.bar(5), None, "an upper half");
        for index in 6..=u8::MAX {
            assert_eq!(function.bar(index), None);
        }
    }

    #[test]
    fn sizes_of_4_gib_and_more_are_in_the_upper_half() {
        let function = Function::new(0, [(4, 0), (0x8, 0xffff_fff8), NONE, NONE, NONE, NONE]);
        assert_eq!(function.bar(0), Some((8 << 32, 8 << 32)));
    }

    #[test]
    fn a_bridge_has_two_and_other_headers_none() {
        let bars = [(0xfea0_0000, 0xffff_f000); 6];
        let found = |header: u32| (0..6).filter(|&index| Function::new(header, bars).bar(index).is_some()).count();
        assert_eq!((found(0), found(1), found(2), found(0x7f)), (6, 2, 0, 0));
    }

    #[test]
    fn nonsense_is_no_bar() {
        let cut = Function::new(0, [NONE, NONE, NONE, NONE, NONE, (0xe000_0004, 0xf000_0000)]);
        assert_eq!(cut.bar(5), None, "no room for the upper half");
        let fixed = Function::new(0, [(0xfea0_0000, 0), NONE, NONE, NONE, NONE, NONE]);
        assert_eq!(fixed.bar(0), Some((0xfea0_0000, 0xfea0_0000 & 0xfea0_0000u64.wrapping_neg())));
        let beyond = Function::new(0, [(0xe000_0004, 0xf000_0000), (0xffff_0000, u32::MAX), NONE, NONE, NONE, NONE]);
        assert_eq!(beyond.bar(0), None, "no physical address has more than 52 bits");
        assert_eq!(bar(|_| u32::MAX, |_, _| {}, 0), None, "no function there");
    }
}
