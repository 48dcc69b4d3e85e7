use page_table_generic::{FrameAllocator, MapConfig, PageTable, PageTableEntry, PhysAddr, TableMeta, VirtAddr};

use super::entry;
use crate::pool::{POOL, pointer};
use crate::tables::Tables;

/// A VT-d entry in the words of this peer; what configures a page are its rights.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Entry(u64);

impl PageTableEntry for Entry {
    type PteConfig = u64;

    fn new_page(paddr: PhysAddr, config: u64, is_huge: bool) -> Self {
        let size = if is_huge { entry::LARGE } else { 0 };
        Self(paddr.as_usize() as u64 & entry::ADDRESS | config | size | entry::SNOOP)
    }

    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 & entry::ADDRESS | entry::RIGHTS)
    }

    fn paddr(&self, _is_dir: bool) -> PhysAddr {
        PhysAddr::from_usize((self.0 & entry::ADDRESS) as usize)
    }

    fn config(&self, _is_dir: bool) -> u64 {
        self.0 & entry::RIGHTS
    }

    fn present(&self) -> bool {
        self.0 & entry::RIGHTS != 0
    }

    fn huge(&self, is_dir: bool) -> bool {
        is_dir && self.0 & entry::LARGE != 0
    }

    fn unused(&self) -> bool {
        self.0 == 0
    }

    fn clear(&mut self) {
        self.0 = 0;
    }
}

#[derive(Clone, Copy, Debug)]
struct VtD;

impl TableMeta for VtD {
    type P = Entry;
    const PAGE_SIZE: usize = 4096;
    const LEVEL_BITS: &[usize] = &[9, 9, 9, 9];
    const MAX_BLOCK_LEVEL: usize = 3;

    fn flush(_: Option<VirtAddr>) {}
}

#[derive(Clone, Copy, Debug)]
struct Memory;

impl FrameAllocator for Memory {
    #[inline]
    fn alloc_frame(&self) -> Option<PhysAddr> {
        // It zeroes the frame itself.
        Some(PhysAddr::from_usize(POOL.allocate() as usize))
    }

    #[inline]
    fn dealloc_frame(&self, frame: PhysAddr) {
        POOL.free(frame.as_usize() as u64);
    }

    #[inline]
    fn phys_to_virt(&self, frame: PhysAddr) -> *mut u8 {
        pointer(frame.as_usize() as u64).as_ptr().cast()
    }
}

/// `page-table-generic` with VT-d's entries.
pub struct PageTableGeneric(PageTable<VtD, Memory>);

impl std::fmt::Debug for PageTableGeneric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTableGeneric")
    }
}

impl Tables for PageTableGeneric {
    fn new() -> Self {
        Self(PageTable::new(Memory).expect("a frame"))
    }

    fn root(&self) -> u64 {
        self.0.root_paddr().as_usize() as u64
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        let (input, output) = (VirtAddr::from_usize(input as usize), PhysAddr::from_usize(output as usize));
        self.0.map_page(input, output, 4096, entry::RIGHTS).expect("a page that can be mapped");
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.0.unmap_page(VirtAddr::from_usize(input as usize)).expect("a mapped page");
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        let config = MapConfig {
            vaddr: VirtAddr::from_usize(input as usize),
            paddr: PhysAddr::from_usize(output as usize),
            size: bytes as usize,
            pte: entry::RIGHTS,
            allow_huge: true,
            flush: false,
        };
        self.0.map(&config).expect("a range");
    }

    #[inline]
    fn unmap(&mut self, input: u64, _output: u64, bytes: u64) {
        self.0.unmap(VirtAddr::from_usize(input as usize), bytes as usize).expect("a mapped range");
    }
}
