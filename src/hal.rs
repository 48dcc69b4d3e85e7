//! The seam to the platform: memory, registers, configuration space and time.
//!
//! A hypervisor implements [`Hal`] once; everything that the driver does to the machine goes through it. It is used by
//! instance, so two machines can live in one process, as they do in tests.

mod cache;
mod deadline;
#[cfg(test)]
pub(crate) mod fake;
mod frame_list;
mod frames;

use core::fmt;
use core::ptr::NonNull;

use crate::addr::{PhysAddr, SourceId};

pub(crate) use deadline::Deadline;
#[doc(hidden)]
pub use frame_list::FrameList;
pub use frames::NoFrame;
pub(crate) use frames::{Frame, Frames, Pairs, WORDS};

/// The registers of one unit: where they are and how far they reach. Made from what the firmware's table says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Physical address of the first register; aligned to 4 KiB.
    pub base: PhysAddr,
    /// Size; a multiple of 4 KiB.
    pub bytes: u32,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.base.as_u64())
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({:#x}, {:#x} bytes)", self.base.as_u64(), self.bytes)
    }
}

/// What the driver needs from the platform: frames for the hardware's tables, registers, configuration space, and a clock in
/// nanoseconds. The repository has one for a bare x86-64 PC (`platform/pc/src/pc.rs`).
///
/// Default methods are right for an x86 PC whose memory is ordinary write-back memory.
///
/// # Safety
///
/// The driver keeps devices out of memory only if the platform does what each method's *Implementation safety* says. An
/// implementation that does not can hand the same frame out twice, or lose a store before hardware sees it, and DMA goes
/// astray.
pub unsafe trait Hal {
    /// Allocates 2^`order` contiguous frames of 4 KiB. `None` if there are none; the driver then fails the call that
    /// needed them and changes nothing.
    ///
    /// All of them lie below 2^[host address width](crate::topology::Topology::host_address_width): the CPU may reach more,
    /// but a unit would look elsewhere for a table that is above. Frames that do not are given back at once, and the call
    /// fails as if there were none, with [`NoFrame::TooHigh`].
    ///
    /// # Implementation safety
    ///
    /// The frames are aligned to their total size, filled with zeros as the CPU reads them, used by nobody else until
    /// they come back through [`free`](Self::free), and outside of every memory that a cell is granted. They need not be
    /// written back from the CPU's caches.
    fn allocate(&self, order: u8) -> Option<PhysAddr>;

    /// Takes frames back.
    ///
    /// # Safety
    ///
    /// `frames` came from [`allocate`](Self::allocate) with the same `order`, and neither the driver nor hardware
    /// reaches them any more.
    unsafe fn free(&self, frames: PhysAddr, order: u8);

    /// Where the CPU sees a frame.
    ///
    /// # Safety
    ///
    /// `frame` is 4 KiB aligned and lies in frames that came from [`allocate`](Self::allocate) and are not freed.
    ///
    /// # Implementation safety
    ///
    /// The pointer is aligned to 4 KiB and valid for reads and writes of the frame, and of those that follow it in the
    /// same allocation, until they are freed. The memory is mapped write-back.
    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64>;

    /// Stores an entry of a structure that hardware reads. Every such store of the driver comes through here, in the
    /// order in which hardware may see them.
    ///
    /// # Safety
    ///
    /// `entry` is aligned and lies in a frame that [`virt`](Self::virt) gave and that is not freed.
    ///
    /// # Implementation safety
    ///
    /// One single 64-bit store, not reordered with other stores of this trait.
    #[inline(always)]
    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: the caller says that the entry is aligned and in a live frame, so it is valid for a write.
        unsafe { entry.write_volatile(value) }
    }

    /// Loads an entry of a structure that hardware reads or writes.
    ///
    /// # Safety
    ///
    /// As for [`store`](Self::store).
    ///
    /// # Implementation safety
    ///
    /// One single 64-bit load, made anew at each call.
    #[inline(always)]
    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: the caller says that the entry is aligned and in a live frame, so it is valid for a read.
        unsafe { entry.read_volatile() }
    }

    /// Reads a 64-bit word of physical memory for an [audit](crate::Iommu::audit), which follows the live tables wherever
    /// they lead: for a pointer that went bad that may be anywhere. `None` if that is not in memory that frames are
    /// allocated from; an audit then says that it could not read a table. It may be that of no other frames than those
    /// that are allocated now, or all of the machine's ordinary memory.
    ///
    /// The default reads nothing, so every audit finds tables that it cannot read.
    ///
    /// # Implementation safety
    ///
    /// What is read is memory, so that reading does nothing else, and no reference of Rust's excludes it. It is what the CPU
    /// sees: one single 64-bit load, made anew at each call.
    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        let _ = at;
        None
    }

    /// Writes the cache lines of `bytes` bytes from `first` on back to memory, for units that do not snoop the CPU's
    /// caches. Called before [`fence`](Self::fence), only for such units.
    ///
    /// # Safety
    ///
    /// The bytes lie in frames that [`virt`](Self::virt) gave and that are not freed.
    ///
    /// # Implementation safety
    ///
    /// After the next fence, memory holds what was stored there before this call.
    #[inline]
    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: the caller says that the bytes lie in live frames.
        unsafe { cache::write_back(first.cast(), bytes) }
    }

    /// Orders: stores and write-backs before it are done, as hardware sees them, before any store or register write
    /// after it.
    #[inline]
    fn fence(&self) {
        cache::store_fence();
    }

    /// Reads a 32-bit register.
    ///
    /// # Safety
    ///
    /// `window` is a unit's, as the firmware's table says; `offset` is a multiple of 4, and the register ends within the
    /// window.
    ///
    /// # Implementation safety
    ///
    /// One single uncached access of that width; in program order with all other register accesses.
    unsafe fn read32(&self, window: Window, offset: u32) -> u32;

    /// Writes a 32-bit register.
    ///
    /// # Safety
    ///
    /// As for [`read32`](Self::read32), and the write does to the unit what the specification allows.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    unsafe fn write32(&self, window: Window, offset: u32, value: u32);

    /// Reads a 64-bit register: one access, or two aligned halves, the lower first (VT-d 5.10, section 11.2).
    ///
    /// # Safety
    ///
    /// As for [`read32`](Self::read32), with `offset` a multiple of 8.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    unsafe fn read64(&self, window: Window, offset: u32) -> u64;

    /// Writes a 64-bit register: one access, or two aligned halves, the lower first.
    ///
    /// # Safety
    ///
    /// As for [`write32`](Self::write32), with `offset` a multiple of 8.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    unsafe fn write64(&self, window: Window, offset: u32, value: u64);

    /// Reads the 32-bit configuration register at `offset` (a multiple of 4, below 4096) of a PCI function. All ones if
    /// there is no such function, or no way to reach that offset.
    fn config_read(&self, function: SourceId, offset: u16) -> u32;

    /// Writes the 32-bit configuration register at `offset` (a multiple of 4, below 4096) of a PCI function. Nothing
    /// happens if there is no such function, or no way to reach that offset.
    ///
    /// # Safety
    ///
    /// The write has the function do nothing but what its specification says of that register, and the caller answers for
    /// that.
    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32);

    /// Nanoseconds from a fixed moment on.
    ///
    /// # Implementation safety
    ///
    /// Never goes back, on any CPU, and does not stand still: every deadline hangs on it. If it shows nothing new for 2^24
    /// looks in a row, with a [`pause`](Self::pause) between any two, whatever is waited for is given up as if its time had
    /// passed.
    fn now_ns(&self) -> u64;

    /// What to do between two looks at a register that has not changed yet.
    #[inline]
    fn pause(&self) {
        core::hint::spin_loop();
    }
}

// SAFETY: each method is the same one of what is referred to, which keeps its contract.
unsafe impl<H: Hal + ?Sized> Hal for &H {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        (**self).allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).free(frames, order) }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { (**self).virt(frame) }
    }

    #[inline(always)]
    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).store(entry, value) }
    }

    #[inline(always)]
    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        (**self).word_at(at)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write_back(first, bytes) }
    }

    fn fence(&self) {
        (**self).fence();
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).read32(window, offset) }
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write32(window, offset, value) }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).read64(window, offset) }
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write64(window, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        (**self).config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn pause(&self) {
        (**self).pause();
    }
}
