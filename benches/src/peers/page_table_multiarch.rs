use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::{GenericPTE, MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData};

use super::entry;
use crate::pool::{POOL, pointer};
use crate::tables::Tables;

/// A VT-d entry in the words of this peer.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Entry(u64);

fn rights(flags: MappingFlags) -> u64 {
    u64::from(flags.contains(MappingFlags::READ)) | u64::from(flags.contains(MappingFlags::WRITE)) << 1
}

impl GenericPTE for Entry {
    fn new_page(paddr: PhysAddr, flags: MappingFlags, is_huge: bool) -> Self {
        let size = if is_huge { entry::LARGE } else { 0 };
        Self(paddr.as_usize() as u64 & entry::ADDRESS | rights(flags) | size | entry::SNOOP)
    }

    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 & entry::ADDRESS | entry::RIGHTS)
    }

    fn paddr(&self) -> PhysAddr {
        ((self.0 & entry::ADDRESS) as usize).into()
    }

    fn flags(&self) -> MappingFlags {
        MappingFlags::from_bits_truncate((self.0 & entry::RIGHTS) as usize)
    }

    fn set_paddr(&mut self, paddr: PhysAddr) {
        self.0 = self.0 & !entry::ADDRESS | paddr.as_usize() as u64 & entry::ADDRESS;
    }

    fn set_flags(&mut self, flags: MappingFlags, _is_huge: bool) {
        self.0 = self.0 & !entry::RIGHTS | rights(flags);
    }

    fn bits(self) -> usize {
        self.0 as usize
    }

    fn is_unused(&self) -> bool {
        self.0 == 0
    }

    fn is_present(&self) -> bool {
        self.0 & entry::RIGHTS != 0
    }

    fn is_huge(&self) -> bool {
        self.0 & entry::LARGE != 0
    }

    fn clear(&mut self) {
        self.0 = 0;
    }
}

#[derive(Debug)]
struct VtD;

impl PagingMetaData for VtD {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 46;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = VirtAddr;

    fn flush_tlb(_: Option<VirtAddr>) {}
}

#[derive(Debug)]
struct Memory;

impl PagingHandler for Memory {
    #[inline]
    fn alloc_frame() -> Option<PhysAddr> {
        // It zeroes the frame itself.
        Some((POOL.allocate() as usize).into())
    }

    fn alloc_frames(_: usize, _: usize) -> Option<PhysAddr> {
        None
    }

    #[inline]
    fn dealloc_frame(frame: PhysAddr) {
        POOL.free(frame.as_usize() as u64);
    }

    fn dealloc_frames(_: PhysAddr, _: usize) {}

    #[inline]
    fn phys_to_virt(frame: PhysAddr) -> VirtAddr {
        VirtAddr::from_mut_ptr_of(pointer(frame.as_usize() as u64).as_ptr())
    }
}

const FLAGS: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

/// `page_table_multiarch` with VT-d's entries. Its unmap leaves tables behind until the whole is dropped.
pub struct PageTableMultiarch(PageTable64<VtD, Entry, Memory>);

impl std::fmt::Debug for PageTableMultiarch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageTableMultiarch")
    }
}

impl Tables for PageTableMultiarch {
    fn new() -> Self {
        Self(PageTable64::try_new().expect("a frame"))
    }

    fn root(&self) -> u64 {
        self.0.root_paddr().as_usize() as u64
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        let (input, output) = ((input as usize).into(), (output as usize).into());
        self.0.cursor().map(input, output, PageSize::Size4K, FLAGS).expect("a page that can be mapped");
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.0.cursor().unmap((input as usize).into()).expect("a mapped page");
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        let output = |at: VirtAddr| PhysAddr::from(at.as_usize() - input as usize + output as usize);
        let mut cursor = self.0.cursor();
        cursor.map_region((input as usize).into(), output, bytes as usize, FLAGS, true).expect("a range");
    }

    #[inline]
    fn unmap(&mut self, input: u64, _output: u64, bytes: u64) {
        self.0.cursor().unmap_region((input as usize).into(), bytes as usize).expect("a mapped range");
    }
}
