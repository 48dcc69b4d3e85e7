//! Who has which memory.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use spin::mutex::SpinMutex;

/// Blocks reach up to 2^39 bytes.
const ORDERS: usize = 40;
/// Bytes of a frame.
pub(crate) const PAGE: usize = 4096;
/// What a device that takes 32-bit addresses reaches.
const FOUR_GIB: u64 = 1 << 32;

/// The free memory of the machine, which the CPU sees one to one.
///
/// Whoever asks gets memory above 4 GiB while there is some: an address that loses its upper half shows up in tests
/// then, and what lies below is left for those that can use nothing else.
#[derive(Debug)]
pub(crate) struct Frames {
    high: Heap<ORDERS>,
    low: Heap<ORDERS>,
}

impl Frames {
    pub(crate) const fn new() -> Self {
        Self { high: Heap::new(), low: Heap::new() }
    }

    /// Takes a range over.
    ///
    /// # Safety
    ///
    /// The range is aligned to frames, memory that is mapped one to one, and nobody else's from now on.
    pub(crate) unsafe fn add(&mut self, range: Range<u64>) {
        for (heap, start, end) in [
            (&mut self.low, range.start, range.end.min(FOUR_GIB)),
            (&mut self.high, range.start.max(FOUR_GIB), range.end),
        ] {
            if start < end {
                // SAFETY: the part is memory that the caller gives away, and it is not empty.
                unsafe { heap.add_to_heap(start as usize, end as usize) };
            }
        }
    }

    /// Bytes that are free.
    pub(crate) fn free_bytes(&self) -> u64 {
        [&self.high, &self.low].map(|heap| heap.stats_total_bytes() - heap.stats_alloc_actual()).iter().sum::<usize>()
            as u64
    }

    /// 2^`order` frames, aligned to their size; they hold whatever was there.
    pub(crate) fn allocate(&mut self, order: u8) -> Option<NonNull<u8>> {
        let layout = layout(order)?;
        self.high.alloc(layout).or_else(|()| self.low.alloc(layout)).ok()
    }

    /// Takes frames back.
    ///
    /// # Safety
    ///
    /// `first` came from [`allocate`](Self::allocate) with the same `order`, and nobody uses the frames any more.
    pub(crate) unsafe fn free(&mut self, first: NonNull<u8>, order: u8) {
        let Some(layout) = layout(order) else { return };
        let heap = if first.addr().get() as u64 >= FOUR_GIB { &mut self.high } else { &mut self.low };
        // SAFETY: as the caller says; what lies on that side of 4 GiB came from this heap.
        unsafe { heap.dealloc(first, layout) };
    }
}

/// 2^`order` frames, aligned to their size and filled with zeros.
pub(crate) fn allocate_zeroed(frames: &SpinMutex<Frames>, order: u8) -> Option<NonNull<u8>> {
    let memory = frames.lock().allocate(order)?;
    // SAFETY: that many frames were just allocated, so they are mapped and nobody else's.
    unsafe { memory.write_bytes(0, PAGE << order) };
    Some(memory)
}

/// Size and alignment of 2^`order` frames; `None` if no machine has that many.
fn layout(order: u8) -> Option<Layout> {
    let bytes = PAGE.checked_shl(u32::from(order))?;
    Layout::from_size_align(bytes, bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::alloc::{alloc, dealloc};

    use super::*;

    const MIB: usize = 1 << 20;

    /// Runs `test` on the frames of 4 MiB that lie 1 MiB into memory aligned to 8 MiB.
    fn with_frames(test: impl FnOnce(&SpinMutex<Frames>, usize)) {
        let layout = Layout::from_size_align(8 * MIB, 8 * MIB).unwrap();
        // SAFETY: the size is not 0.
        let memory = unsafe { alloc(layout) };
        let start = memory.expose_provenance() + MIB;
        let frames = SpinMutex::new(Frames::new());
        // SAFETY: the memory is this test's.
        unsafe { frames.lock().add(start as u64..(start + 4 * MIB) as u64) };
        test(&frames, start);
        // SAFETY: it came from `alloc` with this layout, and `frames` is not used any more.
        unsafe { dealloc(memory, layout) };
    }

    #[test]
    fn every_frame_comes_once_aligned_and_zeroed_and_comes_back() {
        with_frames(|frames, start| {
            for round in 0..2 {
                let mut all = Vec::new();
                while let Some(frame) = allocate_zeroed(frames, 0) {
                    // SAFETY: the frame is this test's.
                    let bytes = unsafe { frame.cast::<[u8; PAGE]>().as_mut() };
                    assert!(bytes.iter().all(|&byte| byte == 0), "round {round}");
                    bytes.fill(0xa5);
                    all.push(frame);
                }
                assert_eq!((all.len(), frames.lock().free_bytes()), (4 * MIB / PAGE, 0));
                all.sort();
                assert!(all.iter().zip(0..).all(|(frame, index)| frame.addr().get() == start + index * PAGE));
                // SAFETY: each came from `allocate_zeroed`, once.
                all.into_iter().for_each(|frame| unsafe { frames.lock().free(frame, 0) });
                assert_eq!(frames.lock().free_bytes(), 4 * MIB as u64);
            }
        });
    }

    #[test]
    fn larger_ones_are_aligned_to_their_size_and_merge_again() {
        with_frames(|frames, start| {
            // From 1 to 5 MiB there is one place for 2 MiB.
            let large = frames.lock().allocate(9).unwrap();
            assert_eq!(large.addr().get(), start + MIB);
            assert_eq!(frames.lock().allocate(9), None);
            // SAFETY: it was allocated just now.
            unsafe { frames.lock().free(large, 9) };
            let small: Vec<_> = (0..1024).map(|_| frames.lock().allocate(0).unwrap()).collect();
            // SAFETY: as above.
            small.into_iter().for_each(|frame| unsafe { frames.lock().free(frame, 0) });
            assert_eq!(frames.lock().allocate(9), Some(large));
        });
    }

    #[test]
    fn no_order_is_too_large_to_be_refused() {
        with_frames(|frames, _| {
            for order in 10..=u8::MAX {
                assert_eq!(allocate_zeroed(frames, order), None, "order {order}");
            }
        });
    }
}
