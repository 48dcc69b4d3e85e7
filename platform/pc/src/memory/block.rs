use core::ptr::NonNull;

use volatile::VolatilePtr;
use x86_64::PhysAddr;

/// Contiguous memory that devices may read and write too, such as a cell's.
///
/// Every access is a volatile one of 64 bits. What lies past the end reads as all ones and takes no writes, as an absent
/// device does. Nothing happens when it goes out of scope.
#[derive(Debug)]
pub struct Block {
    first: NonNull<u64>,
    bytes: u64,
}

// SAFETY: the memory is the block's alone on the CPU's side, and each access is one aligned volatile load or store.
unsafe impl Send for Block {}
// SAFETY: as above; a store through a shared reference is as if a device had made it.
unsafe impl Sync for Block {}

impl Block {
    /// # Safety
    ///
    /// `first` is valid for reads and writes of `bytes` bytes until the block is gone, is where that memory lies
    /// physically too, and nobody else on the CPU's side uses it.
    pub(crate) unsafe fn new(first: NonNull<u64>, bytes: u64) -> Self {
        Self { first, bytes }
    }

    /// Physical address of the first byte.
    pub fn base(&self) -> PhysAddr {
        PhysAddr::new_truncate(self.first.addr().get() as u64)
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the CPU sees the first byte.
    pub fn as_ptr(&self) -> NonNull<u64> {
        self.first
    }

    fn word(&self, offset: u64) -> Option<VolatilePtr<'_, u64>> {
        if !offset.is_multiple_of(8) || offset >= self.bytes {
            return None;
        }
        // SAFETY: the word ends within the block, whose size is a multiple of a frame.
        let word = unsafe { self.first.byte_add(offset as usize) };
        // SAFETY: the word is aligned, and valid as long as the block.
        Some(unsafe { VolatilePtr::new(word) })
    }

    /// The 64-bit word at `offset`, a multiple of 8 bytes.
    pub fn read(&self, offset: u64) -> u64 {
        self.word(offset).map_or(u64::MAX, VolatilePtr::read)
    }

    /// Stores the 64-bit word at `offset`, a multiple of 8 bytes.
    pub fn write(&self, offset: u64, value: u64) {
        if let Some(word) = self.word(offset) {
            word.write(value);
        }
    }
}
