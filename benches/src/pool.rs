//! The one source of frames for all contenders: a stack of 4 KiB frames, the last freed handed out first.

use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::LazyLock;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use spin::Mutex;

/// Bytes of a frame.
pub const FRAME: usize = 4096;
/// Enough for the largest table that is measured.
const FRAMES: usize = 1 << 16;
const LARGE_PAGE: usize = 2 << 20;

/// The frames of this process.
pub static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

/// Frames whose physical address is where the CPU sees them.
#[derive(Debug)]
pub struct Pool {
    first: u64,
    frames: Mutex<Frames>,
}

#[derive(Debug)]
struct Frames {
    free: Vec<u64>,
    peak: usize,
}

impl Pool {
    fn new() -> Self {
        let (bytes, flags) = (FRAMES * FRAME, MapFlags::PRIVATE);
        // SAFETY: no address is asked for, so nothing is mapped over.
        let memory = unsafe {
            mmap_anonymous(std::ptr::null_mut(), bytes + LARGE_PAGE, ProtFlags::READ | ProtFlags::WRITE, flags)
        }
        .expect("memory for the frames");
        let first = memory.expose_provenance().next_multiple_of(LARGE_PAGE);
        let start = with_exposed_provenance_mut::<u8>(first);
        // Large pages, as a hypervisor maps its memory; a kernel without them does it the slower way.
        // SAFETY: the range is within the mapping, and the advice changes nothing that can be read there.
        let _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxHugepage) };
        // The kernel gives the memory now, not while the clock runs; one before 5.14 does then.
        // SAFETY: as above.
        let _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxPopulateWrite) };
        let free = (0..FRAMES).rev().map(|index| (first + index * FRAME) as u64).collect();
        Self { first: first as u64, frames: Mutex::new(Frames { free, peak: 0 }) }
    }

    /// The memory that all frames are from: its first address, and its bytes.
    pub fn memory(&self) -> (u64, u64) {
        (self.first, (FRAMES * FRAME) as u64)
    }

    /// A frame with whatever was in it: for contenders that zero it themselves.
    ///
    /// # Panics
    ///
    /// There is none left.
    #[inline]
    pub fn allocate(&self) -> u64 {
        let mut frames = self.frames.lock();
        let frame = frames.free.pop().expect("a free frame");
        frames.peak = frames.peak.max(FRAMES - frames.free.len());
        frame
    }

    /// A frame of zeros.
    #[inline]
    pub fn allocate_zeroed(&self) -> u64 {
        let frame = self.allocate();
        // SAFETY: the frame was free, so nobody else uses it.
        unsafe { pointer(frame).as_ptr().write_bytes(0, FRAME / 8) };
        frame
    }

    /// Takes a frame back.
    #[inline]
    pub fn free(&self, frame: u64) {
        self.frames.lock().free.push(frame);
    }

    /// How many frames are in use.
    pub fn used(&self) -> usize {
        FRAMES - self.frames.lock().free.len()
    }

    /// The most frames that were in use at a time since the last call.
    pub fn take_peak(&self) -> usize {
        let mut frames = self.frames.lock();
        let used = FRAMES - frames.free.len();
        std::mem::replace(&mut frames.peak, used)
    }
}

/// Where the CPU sees a frame, or a word in one.
#[inline]
pub fn pointer(frame: u64) -> NonNull<u64> {
    NonNull::new(with_exposed_provenance_mut(frame as usize)).expect("no frame is at address 0")
}
