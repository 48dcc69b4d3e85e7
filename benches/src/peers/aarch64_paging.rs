use std::ptr::NonNull;

use aarch64_paging::descriptor::{PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{Constraints, MemoryRegion, PageTable, RootTable, Stage2, Translation};

use crate::pool::{POOL, pointer};
use crate::tables::Tables;

#[derive(Debug)]
struct Memory;

impl Translation<Stage2Attributes> for Memory {
    #[inline]
    fn allocate_table(&mut self) -> (NonNull<PageTable<Stage2Attributes>>, PhysicalAddress) {
        let frame = POOL.allocate_zeroed();
        (pointer(frame).cast(), PhysicalAddress(frame as usize))
    }

    #[inline]
    unsafe fn deallocate_table(&mut self, table: NonNull<PageTable<Stage2Attributes>>) {
        POOL.free(table.as_ptr().expose_provenance() as u64);
    }

    #[inline]
    fn physical_to_virtual(&self, table: PhysicalAddress) -> NonNull<PageTable<Stage2Attributes>> {
        pointer(table.0 as u64).cast()
    }
}

const FLAGS: Stage2Attributes = Stage2Attributes::VALID
    .union(Stage2Attributes::S2AP_ACCESS_RW)
    .union(Stage2Attributes::ACCESS_FLAG)
    .union(Stage2Attributes::SH_INNER)
    .union(Stage2Attributes::MEMATTR_NORMAL_OUTER_WB);

/// `aarch64-paging`'s second stage, of four levels.
#[derive(Debug)]
pub struct Aarch64Paging(RootTable<Stage2, Memory>);

impl Aarch64Paging {
    #[inline]
    fn edit(&mut self, input: u64, output: u64, bytes: u64, flags: Stage2Attributes) {
        let range = MemoryRegion::new(input as usize, (input + bytes) as usize);
        let output = PhysicalAddress(output as usize);
        self.0.map_range(&range, output, flags, Constraints::empty()).expect("a range");
    }
}

impl Tables for Aarch64Paging {
    fn new() -> Self {
        Self(RootTable::new(Memory, 0, Stage2))
    }

    fn root(&self) -> u64 {
        self.0.to_physical().0 as u64
    }

    #[inline]
    fn map_page(&mut self, input: u64, output: u64) {
        self.edit(input, output, 4096, FLAGS);
    }

    #[inline]
    fn unmap_page(&mut self, input: u64) {
        self.edit(input, 0, 4096, Stage2Attributes::empty());
    }

    #[inline]
    fn map(&mut self, input: u64, output: u64, bytes: u64) {
        self.edit(input, output, bytes, FLAGS);
    }

    #[inline]
    fn unmap(&mut self, input: u64, _output: u64, bytes: u64) {
        self.edit(input, 0, bytes, Stage2Attributes::empty());
    }
}
