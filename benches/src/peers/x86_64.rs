use x86_64::structures::paging::mapper::{CleanUp, MappedPageTable, Mapper, PageTableFrameMapping};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::pool::{POOL, pointer};
use crate::tables::{Tables, each_page};

const FLAGS: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

#[derive(Debug)]
struct Frames;

// SAFETY: the pool hands a frame out once until it comes back.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    #[inline]
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        // It zeroes the frame itself.
        Some(PhysFrame::containing_address(PhysAddr::new_truncate(POOL.allocate())))
    }
}

impl FrameDeallocator<Size4KiB> for Frames {
    #[inline]
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        POOL.free(frame.start_address().as_u64());
    }
}

#[derive(Debug)]
struct Memory;

// SAFETY: the pool's frames are where it says.
unsafe impl PageTableFrameMapping for Memory {
    #[inline]
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        pointer(frame.start_address().as_u64()).as_ptr().cast()
    }
}

/// `x86_64`'s `MappedPageTable`. It has no call for a range, so one is made of calls for pages; its unmap leaves tables
/// behind, which a call of its own takes away.
#[derive(Debug)]
pub struct X86_64(MappedPageTable<'static, Memory>);

impl X86_64 {
    #[inline]
    fn map_as<S: PageSize + std::fmt::Debug>(&mut self, input: u64, output: u64)
    where
        MappedPageTable<'static, Memory>: Mapper<S>,
    {
        let page = Page::<S>::containing_address(VirtAddr::new_truncate(input));
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(output));
        // SAFETY: nothing walks this table.
        unsafe { self.0.map_to(page, frame, FLAGS, &mut Frames) }.expect("a page that can be mapped").ignore();
    }

    #[inline]
    fn unmap_as<S: PageSize + std::fmt::Debug>(&mut self, input: u64)
    where
        MappedPageTable<'static, Memory>: Mapper<S>,
    {
        self.0.unmap(Page::<S>::containing_address(VirtAddr::new_truncate(input))).expect("a mapped page").1.ignore();
    }

    fn clean_up(&mut self, input: u64, bytes: u64) {
        let page = |at| Page::containing_address(VirtAddr::new_truncate(at));
        let range = Page::range_inclusive(page(input), page(input + bytes - 1));
        // SAFETY: nothing walks this table, and its frames are the pool's.
        unsafe { self.0.clean_up_addr_range(range, &mut Frames) };
    }
}

impl Tables for X86_64 {
    fn new() -> Self {
        // SAFETY: a frame of zeros is an empty table, and nobody else has this one.
        let top = unsafe { pointer(POOL.allocate_zeroed()).cast().as_mut() };
        // SAFETY: the pool's frames are where `Memory` says.
        Self(unsafe { MappedPageTable::new(top, Memory) })
    }

    fn root(&self) -> u64 {
        std::ptr::from_ref(self.0.level_4_table()).expose_provenance() as u64
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        self.map_as::<Size4KiB>(input, output);
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.unmap_as::<Size4KiB>(input);
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        each_page(input, output, bytes, |input, output, page| match page {
            Size1GiB::SIZE => self.map_as::<Size1GiB>(input, output),
            Size2MiB::SIZE => self.map_as::<Size2MiB>(input, output),
            _ => self.map_as::<Size4KiB>(input, output),
        });
    }

    #[inline]
    fn unmap(&mut self, input: u64, output: u64, bytes: u64) {
        each_page(input, output, bytes, |input, _, page| match page {
            Size1GiB::SIZE => self.unmap_as::<Size1GiB>(input),
            Size2MiB::SIZE => self.unmap_as::<Size2MiB>(input),
            _ => self.unmap_as::<Size4KiB>(input),
        });
        self.clean_up(input, bytes);
    }
}

impl Drop for X86_64 {
    fn drop(&mut self) {
        // `clean_up` frees only what is empty.
        fn free(table: u64, level: u8) {
            for index in 0..512 {
                // SAFETY: there are 512 words in a frame.
                let entry = unsafe { pointer(table).add(index) };
                // SAFETY: the entry is in a frame of this table.
                let entry = unsafe { entry.read() };
                if level > 1 && entry & 0x81 == 1 {
                    free(entry & 0x000f_ffff_ffff_f000, level - 1);
                }
            }
            POOL.free(table);
        }
        free(self.root(), 4);
    }
}
