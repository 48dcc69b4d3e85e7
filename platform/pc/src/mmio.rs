//! Registers of a device.

use core::ptr::NonNull;

use volatile::VolatilePtr;

/// The registers of a device.
///
/// Each access is one of its width, uncached, in program order. What is not aligned to its width or lies past the end
/// reads as all ones and takes no writes, as an absent device does.
#[derive(Debug)]
pub struct Mmio {
    first: NonNull<u8>,
    bytes: u64,
}

// SAFETY: registers are at the same address on every CPU, and each access is one volatile load or store.
unsafe impl Send for Mmio {}
// SAFETY: as above.
unsafe impl Sync for Mmio {}

macro_rules! width {
    ($type:ident, $read:ident, $write:ident) => {
        #[doc = concat!("Reads the `", stringify!($type), "` register at `offset`.")]
        pub fn $read(&self, offset: u64) -> $type {
            self.register(offset).map_or($type::MAX, VolatilePtr::read)
        }

        #[doc = concat!("Writes the `", stringify!($type), "` register at `offset`.")]
        pub fn $write(&self, offset: u64, value: $type) {
            if let Some(register) = self.register::<$type>(offset) {
                register.write(value);
            }
        }
    };
}

impl Mmio {
    /// # Safety
    ///
    /// `first` is aligned to 8 and mapped uncached for `bytes` bytes, behind which are registers. Whatever is written
    /// to them later makes the device touch no memory that is Rust's.
    pub(crate) unsafe fn new(first: NonNull<u8>, bytes: u64) -> Self {
        Self { first, bytes }
    }

    /// How many bytes of registers there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn register<T>(&self, offset: u64) -> Option<VolatilePtr<'_, T>> {
        let size = size_of::<T>() as u64;
        if !offset.is_multiple_of(size) || offset.checked_add(size)? > self.bytes {
            return None;
        }
        // SAFETY: the register ends within the mapped bytes.
        let register = unsafe { self.first.byte_add(offset as usize) }.cast();
        // SAFETY: it is aligned, as the first one is, and stays mapped.
        Some(unsafe { VolatilePtr::new(register) })
    }

    width!(u8, read8, write8);
    width!(u16, read16, write16);
    width!(u32, read32, write32);
    width!(u64, read64, write64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_registers_within_the_bounds_are_touched() {
        let mut memory = [0u64; 4];
        // SAFETY: the first half of `memory` stands for registers.
        let registers = unsafe { Mmio::new(NonNull::from(&mut memory).cast(), 16) };
        registers.write64(8, 0x1122_3344_5566_7788);
        assert_eq!((registers.read8(8), registers.read16(10), registers.read32(12)), (0x88, 0x5566, 0x1122_3344));
        for offset in [4, 12, 16, u64::MAX - 7, u64::MAX] {
            registers.write64(offset, 0);
            assert_eq!(registers.read64(offset), u64::MAX);
        }
        assert_eq!((registers.read16(15), registers.read32(16)), (u16::MAX, u32::MAX));
        assert_eq!(memory, [0, 0x1122_3344_5566_7788, 0, 0]);
    }
}
