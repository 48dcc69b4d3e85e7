//! cofferdam's page table, and what stores alone would cost.

use std::ptr::NonNull;

use cofferdam::addr::{Iova, IovaRange, PhysAddr, PhysRange, Region, Rights, SourceId};
use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam::internals::{Format, Geometry, Hole, PageTable, SecondStage, V1};

use crate::pool::{POOL, pointer};
use crate::tables::{Tables, page_size};

/// A platform that has frames and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Memory;

// SAFETY: the pool hands a frame out once until it comes back, aligned and zeroed; its memory lives for ever. There are
// no registers, and nothing waits for the clock.
unsafe impl Hal for Memory {
    #[inline]
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        assert_eq!(order, 0, "single frames only");
        Some(PhysAddr::new_truncate(POOL.allocate_zeroed()))
    }

    #[inline]
    unsafe fn free(&self, frames: PhysAddr, _order: u8) {
        POOL.free(frames.as_u64());
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        let (first, bytes) = POOL.memory();
        PhysRange::new(PhysAddr::new_truncate(first), bytes)?.intersection(memory)
    }

    #[inline]
    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        pointer(frame.as_u64())
    }

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        Some(NonNull::dangling())
    }

    unsafe fn read32(&self, _: MappedRegisters, _: u32) -> u32 {
        u32::MAX
    }

    unsafe fn write32(&self, _: MappedRegisters, _: u32, _: u32) {}

    unsafe fn read64(&self, _: MappedRegisters, _: u32) -> u64 {
        u64::MAX
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

/// What every table here is like: four levels, all page sizes, and addresses as wide as those of the pool's frames.
const GEOMETRY: Geometry = Geometry::new(4, 3, 48, 48, &[Hole::INTERRUPTS]).expect("a geometry");

/// A vendor's format.
pub trait Vendor: Format {
    /// With DMA made coherent by each page.
    const COHERENT: Self;
}

impl Vendor for SecondStage {
    const COHERENT: Self = Self { snoop: true };
}

impl Vendor for V1 {
    const COHERENT: Self = Self { force_coherent: true };
}

/// cofferdam, with every check of its page table, in the format of a vendor, for units that snoop page walks or for those
/// that do not.
#[derive(Debug)]
pub struct Cofferdam<F: Vendor, const SNOOPED: bool>(Option<PageTable<F>>);

impl<F: Vendor, const SNOOPED: bool> Cofferdam<F, SNOOPED> {
    fn table(&mut self) -> &mut PageTable<F> {
        self.0.as_mut().expect("a table until it is dropped")
    }
}

impl<F: Vendor, const SNOOPED: bool> Tables for Cofferdam<F, SNOOPED> {
    fn new() -> Self {
        Self(Some(PageTable::new(&Memory, F::COHERENT, GEOMETRY, SNOOPED).expect("a frame")))
    }

    fn root(&self) -> u64 {
        self.0.as_ref().expect("a table until it is dropped").root().as_u64()
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        self.map(input, output, 4096);
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.unmap(input, 0, 4096);
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        let region = Region::new(Iova::new(input), PhysAddr::new_truncate(output), bytes, Rights::all());
        let region = region.expect("a region");
        let table = self.table();
        let prealloc = table.prepare_map(&Memory, region).expect("a region that can be mapped");
        let change = table.map(&Memory, region, prealloc);
        if change.tables {
            // SAFETY: no hardware walks this table.
            unsafe { table.free_unlinked(&Memory) };
        }
    }

    #[inline]
    fn unmap(&mut self, input: u64, _output: u64, bytes: u64) {
        let range = IovaRange::new(Iova::new(input), bytes).expect("a range");
        let table = self.table();
        let prealloc = table.prepare_edit(&Memory, range).expect("frames");
        let change = table.unmap(&Memory, range, prealloc);
        if change.tables {
            // SAFETY: no hardware walks this table.
            unsafe { table.free_unlinked(&Memory) };
        }
    }
}

impl<F: Vendor, const SNOOPED: bool> Drop for Cofferdam<F, SNOOPED> {
    fn drop(&mut self) {
        if let Some(table) = self.0.take() {
            let frames = table.into_frames(&Memory);
            // SAFETY: no hardware walks this table.
            unsafe { frames.free(&Memory) };
        }
    }
}

/// The floor: a walk and a store for a page by itself, in tables that are there and stay; for a range one store after the
/// other, into fresh frames to map it, into tables that stay to unmap it. No check at all. Where the units do not snoop,
/// every line that was stored to is written back.
///
/// It holds one range at a time, of pages of one size, and leads from the top to pages by themselves only.
#[derive(Debug)]
pub struct Stores<const SNOOPED: bool> {
    /// Each of the two upper ones leads to the next with every entry, the third to the leaves.
    upper: [u64; 3],
    leaves: Vec<u64>,
    fresh: Vec<u64>,
}

/// A word of a table.
#[inline]
fn word(table: u64, index: u64) -> NonNull<u64> {
    // SAFETY: there are 512 words in a frame.
    unsafe { pointer(table).add(index as usize % 512) }
}

impl<const SNOOPED: bool> Stores<SNOOPED> {
    #[inline]
    fn write_back(first: NonNull<u64>, bytes: usize) {
        if !SNOOPED {
            // SAFETY: the bytes are in a frame.
            unsafe { Memory.write_back(first, bytes) };
        }
    }

    fn settle() {
        if !SNOOPED {
            Memory.fence();
        }
    }

    /// Stores a page's entry where a walk finds it.
    #[inline]
    fn store(&mut self, input: u64, value: u64) {
        let mut table = self.upper[0];
        for level in 1..4 {
            // SAFETY: the word is in a frame of this table.
            table = unsafe { word(table, input >> (48 - 9 * level)).read_volatile() };
        }
        let entry = word(table, input >> 12);
        // SAFETY: the word is in a frame of this table.
        unsafe { entry.write_volatile(value) };
        Self::write_back(entry, 8);
        Self::settle();
    }

    #[inline]
    fn fill(tables: impl Iterator<Item = u64>, count: u64, value: impl Fn(u64) -> u64) {
        let mut number = 0;
        for table in tables {
            let here = (count - number).min(512);
            for index in 0..here {
                // SAFETY: the word is in a frame of this table.
                unsafe { word(table, index).write_volatile(value(number + index)) };
            }
            Self::write_back(pointer(table), here as usize * 8);
            number += here;
            if number == count {
                break;
            }
        }
        Self::settle();
    }
}

impl<const SNOOPED: bool> Tables for Stores<SNOOPED> {
    fn new() -> Self {
        let upper = std::array::from_fn(|_| POOL.allocate_zeroed());
        let leaves: Vec<u64> = (0..512).map(|_| POOL.allocate_zeroed()).collect();
        for (index, &leaf) in (0..).zip(&leaves) {
            for (&table, next) in upper.iter().zip([upper[1], upper[2], leaf]) {
                // SAFETY: the word is in a frame that was just allocated.
                unsafe { word(table, index).write(next) };
            }
        }
        Self { upper, leaves, fresh: Vec::with_capacity(512) }
    }

    fn root(&self) -> u64 {
        self.upper[0]
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        self.store(input, output | 0x803);
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.store(input, 0);
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        let page = page_size(input, output, bytes);
        let tables = (bytes / page).div_ceil(512) as usize;
        self.fresh.extend(std::iter::repeat_with(|| POOL.allocate_zeroed()).take(tables));
        Self::fill(self.fresh.iter().copied(), bytes / page, |number| (output + number * page) | 0x883);
    }

    #[inline]
    fn unmap(&mut self, input: u64, output: u64, bytes: u64) {
        Self::fill(self.leaves.iter().copied(), bytes / page_size(input, output, bytes), |_| 0);
    }
}

impl<const SNOOPED: bool> Drop for Stores<SNOOPED> {
    fn drop(&mut self) {
        self.upper.iter().chain(&self.leaves).chain(&self.fresh).for_each(|&frame| POOL.free(frame));
    }
}
