//! Who has which memory.

use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;

use buddy_system_allocator::Heap;
use spin::mutex::SpinMutex;

/// Blocks reach up to 2^39 bytes.
const ORDERS: usize = 40;
/// Bytes of a frame.
const PAGE: usize = 4096;
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

    /// Memory of this size and alignment, both powers of two and at least a frame; it holds whatever was there.
    pub(crate) fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        self.high.alloc(layout).or_else(|()| self.low.alloc(layout)).ok()
    }

    /// Takes memory back.
    ///
    /// # Safety
    ///
    /// `memory` came from [`allocate`](Self::allocate) with the same layout, and nobody uses it any more.
    pub(crate) unsafe fn free(&mut self, memory: NonNull<u8>, layout: Layout) {
        let heap = if memory.addr().get() as u64 >= FOUR_GIB { &mut self.high } else { &mut self.low };
        // SAFETY: as the caller says; memory at that address came from this heap.
        unsafe { heap.dealloc(memory, layout) };
    }
}

/// 2^`order` frames, aligned to their size and filled with zeros.
pub(crate) fn allocate_zeroed(frames: &SpinMutex<Frames>, order: u8) -> Option<NonNull<u8>> {
    let layout = layout(order)?;
    let memory = frames.lock().allocate(layout)?;
    // SAFETY: the memory is of that size, mapped, and nobody else's.
    unsafe { memory.write_bytes(0, layout.size()) };
    Some(memory)
}

/// Size and alignment of 2^`order` frames; `None` if no machine has that many.
pub(crate) fn layout(order: u8) -> Option<Layout> {
    let bytes = PAGE.checked_shl(u32::from(order)).filter(|bytes| bytes >> order == PAGE)?;
    Layout::from_size_align(bytes, bytes).ok()
}
