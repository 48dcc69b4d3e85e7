use core::ptr::NonNull;

use cofferdam::addr::PhysAddr;
use volatile::VolatilePtr;

use super::frames::PAGE;

/// Contiguous memory that devices may read and write too, such as a cell's; aligned to its size, a power of two.
///
/// Every access is a volatile one of 64 bits. What is not aligned or lies past the end reads as all ones and takes no
/// writes, as an absent device does. Nothing happens when it goes out of scope.
#[derive(Debug)]
pub struct Block {
    first: NonNull<u64>,
    order: u8,
}

// SAFETY: the memory is the block's alone on the CPU's side, and each access is one aligned volatile load or store.
unsafe impl Send for Block {}
// SAFETY: as above; a store through a shared reference is as if a device had made it.
unsafe impl Sync for Block {}

impl Block {
    /// # Safety
    ///
    /// `first` is valid for reads and writes of 2^`order` frames until the block is gone, is where that memory lies
    /// physically too, and nobody else on the CPU's side uses it.
    pub(crate) unsafe fn new(first: NonNull<u64>, order: u8) -> Self {
        Self { first, order }
    }

    /// Physical address of the first byte.
    pub fn base(&self) -> PhysAddr {
        PhysAddr::new_truncate(self.first.addr().get() as u64)
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        (PAGE as u64) << self.order
    }

    /// Where the CPU sees the first byte.
    pub(crate) fn first(&self) -> NonNull<u64> {
        self.first
    }

    /// It is 2^`order` frames.
    pub(crate) fn order(&self) -> u8 {
        self.order
    }

    fn word(&self, offset: u64) -> Option<VolatilePtr<'_, u64>> {
        if !offset.is_multiple_of(8) || offset >= self.bytes() {
            return None;
        }
        // SAFETY: the word ends within the block, whose size is a multiple of a frame.
        let word = unsafe { self.first.byte_add(offset as usize) };
        // SAFETY: the word is aligned, and valid as long as the block.
        Some(unsafe { VolatilePtr::new(word) })
    }

    /// The 64-bit word at `offset` bytes, a multiple of 8.
    pub fn read(&self, offset: u64) -> u64 {
        self.word(offset).map_or(u64::MAX, VolatilePtr::read)
    }

    /// Writes the cache line of the word at `offset` bytes, a multiple of 8, back to memory, for what does not snoop the CPU's caches.
    pub fn write_back(&self, offset: u64) {
        if let Some(word) = self.word(offset) {
            // SAFETY: the word is valid, and each CPU of 64 bits has CLFLUSH.
            unsafe { core::arch::x86_64::_mm_clflush(word.as_raw_ptr().as_ptr().cast()) };
            // SAFETY: each CPU of 64 bits has MFENCE, behind which the line is written.
            unsafe { core::arch::x86_64::_mm_mfence() };
        }
    }

    /// Stores the 64-bit word at `offset` bytes, a multiple of 8.
    pub fn write(&self, offset: u64, value: u64) {
        if let Some(word) = self.word(offset) {
            word.write(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_blocks_own_and_nothing_past_the_end_is_touched() {
        let mut memory = [0u64; 1024];
        // SAFETY: the block is the first half of `memory`.
        let block = unsafe { Block::new(NonNull::from(&mut memory).cast(), 0) };
        block.write(0, 1);
        block.write(4088, 2);
        for offset in [4, 4092, 4096, u64::MAX - 7, u64::MAX] {
            block.write(offset, 3);
            assert_eq!(block.read(offset), u64::MAX);
        }
        assert_eq!((block.read(0), block.read(4088), block.bytes()), (1, 2, 4096));
        assert_eq!(memory.iter().filter(|&&word| word != 0).count(), 2);
    }
}
