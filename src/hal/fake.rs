//! The smallest platform for unit tests: frames, and a journal of what was done to them.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::cell::RefCell;
use std::vec::Vec;

use super::{Hal, MappedRegisters, RegisterWindow};
use crate::addr::{PhysAddr, PhysRange, SourceId};

/// What was done through the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Zeroed as the CPU sees it; memory holds anything.
    Allocate {
        at: u64,
    },
    Free {
        at: u64,
    },
    Store {
        at: u64,
        value: u64,
    },
    WriteBack {
        at: u64,
        bytes: usize,
    },
    Fence,
}

const BASE: u64 = 0x10_0000;

fn everything() -> PhysRange {
    PhysRange::new(PhysAddr::new(0), 1 << 52).unwrap()
}

const WORDS: usize = 512;

pub(crate) struct Fake {
    memory: NonNull<u64>,
    frames: usize,
    state: RefCell<FakeState>,
}

struct FakeState {
    free: Vec<usize>,
    used: usize,
    left: Option<usize>,
    own: PhysRange,
    loads: usize,
    journal: Vec<Deed>,
}

impl Fake {
    /// A machine with this many frames.
    pub(crate) fn new(frames: usize) -> Self {
        let memory = Vec::leak(std::vec![0u64; (frames + 1) * WORDS]);
        // Frames are aligned to their size; one more was allocated to make up for the vector's own alignment.
        let skip = memory.as_ptr().align_offset(4096);
        let memory = NonNull::from(&mut memory[skip..]).cast();
        let free = (0..frames).rev().collect();
        Self {
            memory,
            frames,
            state: RefCell::new(FakeState {
                free,
                used: 0,
                left: None,
                own: everything(),
                loads: 0,
                journal: Vec::new(),
            }),
        }
    }

    /// Frames that were allocated and not freed.
    pub(crate) fn used(&self) -> usize {
        self.state.borrow().used
    }

    /// True if the frame that holds this address is allocated.
    pub(crate) fn is_used(&self, at: u64) -> bool {
        !self.state.borrow().free.contains(&(((at - BASE) / 4096) as usize))
    }

    /// Leaves only `count` frames to allocate from now on, or all of them.
    pub(crate) fn limit(&self, count: Option<usize>) {
        self.state.borrow_mut().left = count;
    }

    /// Keeps only this memory for itself from now on.
    pub(crate) fn own(&self, memory: PhysRange) {
        self.state.borrow_mut().own = memory;
    }

    /// All frames that are allocated, word for word.
    pub(crate) fn content(&self) -> Vec<(u64, Vec<u64>)> {
        let frames = (0..self.frames).map(|index| BASE + index as u64 * 4096).filter(|&at| self.is_used(at));
        let words = |at| {
            // SAFETY: the frame is allocated.
            let frame = unsafe { self.phys_to_virt(PhysAddr::new(at)) };
            // SAFETY: the words of the frame are initialised, and nobody writes them meanwhile.
            unsafe { core::slice::from_raw_parts(frame.as_ptr(), WORDS) }.to_vec()
        };
        frames.map(|at| (at, words(at))).collect()
    }

    /// How many words were loaded through the seam.
    pub(crate) fn loads(&self) -> usize {
        self.state.borrow().loads
    }

    /// What was done since the last call.
    pub(crate) fn journal(&self) -> Vec<Deed> {
        std::mem::take(&mut self.state.borrow_mut().journal)
    }

    fn physical(&self, at: NonNull<u64>) -> u64 {
        BASE + (at.addr().get() - self.memory.addr().get()) as u64
    }
}

// SAFETY: frames are handed out once until they come back, zeroed, and aligned as far as the tests need it; the memory lives
// for ever. All registers read 0; the clock stands.
unsafe impl Hal for Fake {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let mut state = self.state.borrow_mut();
        if let Some(left) = &mut state.left {
            *left = left.checked_sub(1)?;
        }
        let index = state.free.pop()?;
        let count = 1 << order;
        let following: Vec<usize> = (1..count).filter_map(|_| state.free.pop()).collect();
        assert!(following.into_iter().eq(index + 1..index + count), "several frames only of a fresh machine");
        state.used += count;
        let base = PhysAddr::new(BASE + index as u64 * 4096);
        // SAFETY: the frame is within the memory.
        let frame = unsafe { self.phys_to_virt(base) };
        // SAFETY: the frames are free, so nobody else uses them.
        unsafe { frame.write_bytes(0, WORDS * count) };
        state.journal.push(Deed::Allocate { at: base.as_u64() });
        Some(base)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        let index = ((frames.as_u64() - BASE) / 4096) as usize;
        let mut state = self.state.borrow_mut();
        let count = 1 << order;
        for index in (index..index + count).rev() {
            assert!(index < self.frames && !state.free.contains(&index), "freed twice: {frames:?}");
            state.free.push(index);
        }
        state.used -= count;
        state.journal.push(Deed::Free { at: frames.as_u64() });
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.state.borrow().own.intersection(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        let word = ((frame.as_u64() - BASE) / 8) as usize;
        assert!(word < self.frames * WORDS, "no frame at {frame:?}");
        // SAFETY: the word is within the memory.
        unsafe { self.memory.add(word) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        self.state.borrow_mut().journal.push(Deed::Store { at: self.physical(entry), value });
        // SAFETY: as the caller says.
        unsafe { AtomicU64::from_ptr(entry.as_ptr()) }.store(value, Ordering::Release);
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        self.state.borrow_mut().loads += 1;
        // SAFETY: as the caller says.
        unsafe { AtomicU64::from_ptr(entry.as_ptr()) }.load(Ordering::Relaxed)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        self.state.borrow_mut().journal.push(Deed::WriteBack { at: self.physical(first), bytes });
    }

    fn fence(&self) {
        self.state.borrow_mut().journal.push(Deed::Fence);
    }

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, _: MappedRegisters, _: u32) -> u32 {
        0
    }

    unsafe fn write32(&self, _: MappedRegisters, _: u32, _: u32) {}

    unsafe fn read64(&self, _: MappedRegisters, _: u32) -> u64 {
        0
    }

    unsafe fn write64(&self, _: MappedRegisters, _: u32, _: u64) {}

    fn config_read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        0
    }
}
