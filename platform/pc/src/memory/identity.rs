//! How the CPU sees memory: one to one, memory cached and everything else uncached.

use core::ops::Range;
use core::ptr::{self, NonNull};

use spin::mutex::SpinMutex;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::{MappedFrame, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::Frames;
use super::frames::allocate_zeroed;
use crate::boot::MapEntry;

/// What the entry (`boot/entry.s`) maps: everything below.
pub(crate) const LOW: u64 = 1 << 32;
/// Size of the pages.
const PAGE: u64 = 2 << 20;

/// The page tables that the entry made and that this extends. There is one.
#[derive(Debug)]
pub(crate) struct IdentityMap {
    /// Held by whoever changes or walks the tables; the first address that does not exist.
    limit: SpinMutex<u64>,
}

/// Table frames for the mapper.
struct TableFrames<'a>(&'a SpinMutex<Frames>);

// SAFETY: the frames are nobody else's until they are freed, which they never are.
unsafe impl FrameAllocator<Size4KiB> for TableFrames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = allocate_zeroed(self.0, 0)?;
        Some(PhysFrame::containing_address(PhysAddr::new_truncate(frame.addr().get() as u64)))
    }
}

impl IdentityMap {
    /// For physical addresses below `limit`.
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit: SpinMutex::new(limit) }
    }

    /// Takes the caches away from each page below 4 GiB in which `map` knows no memory: devices are there.
    pub(crate) fn uncache_devices(&self, map: &[MapEntry]) {
        let _limit = self.limit.lock();
        for start in (0..LOW).step_by(PAGE as usize) {
            let is_memory = |entry: &MapEntry| entry.is_memory() && entry.start() < start + PAGE && start < entry.end();
            if !map.iter().any(is_memory) {
                let page = Page::<Size2MiB>::containing_address(VirtAddr::new_truncate(start));
                // SAFETY: the page stays where it is, and no memory is in it. A page that is not mapped stays so.
                if let Ok(flush) = unsafe { tables().update_flags(page, flags(false)) } {
                    flush.flush();
                }
            }
        }
    }

    /// Maps what lies in `range` at or above 4 GiB as memory. What is mapped already stays as it is.
    ///
    /// On failure the address that could not be mapped comes back; what lies below it is mapped.
    pub(crate) fn map_memory(&self, range: Range<u64>, frames: &SpinMutex<Frames>) -> Result<(), u64> {
        let limit = self.limit.lock();
        let first = range.start.max(LOW) & !(PAGE - 1);
        for start in (first..range.end).step_by(PAGE as usize) {
            map_page(start, *limit, flags(true), frames).ok_or(start)?;
        }
        Ok(())
    }

    /// Where the CPU sees the device register at `at`, mapped uncached if nobody asked for that page before. `None` if
    /// there is no such address, or no frame for the page tables.
    pub(crate) fn device(&self, at: u64, frames: &SpinMutex<Frames>) -> Option<NonNull<u8>> {
        if at >= LOW {
            let limit = self.limit.lock();
            map_page(at & !(PAGE - 1), *limit, flags(false), frames)?;
        }
        NonNull::new(ptr::with_exposed_provenance_mut(at as usize))
    }

    /// The same for all of some registers or other memory of a device.
    pub(crate) fn devices(&self, at: u64, bytes: u64, frames: &SpinMutex<Frames>) -> Option<NonNull<u8>> {
        let end = at.checked_add(bytes)?;
        for page in (at & !(PAGE - 1)..end).step_by(PAGE as usize) {
            self.device(page.max(at), frames)?;
        }
        self.device(at, frames)
    }
}

/// The live tables. The lock of the one [`IdentityMap`] is held while the result is used.
fn tables() -> OffsetPageTable<'static> {
    let root: *mut PageTable = ptr::with_exposed_provenance_mut(Cr3::read().0.start_address().as_u64() as usize);
    // SAFETY: the root table is in the image, which is mapped one to one; the lock that is held makes it this reference's.
    let root = unsafe { &mut *root };
    // SAFETY: all tables are in the image or in memory, both mapped one to one.
    unsafe { OffsetPageTable::new(root, VirtAddr::zero()) }
}

fn map_page(start: u64, limit: u64, flags: PageTableFlags, frames: &SpinMutex<Frames>) -> Option<()> {
    let last = start.checked_add(PAGE - 1).filter(|&last| last < limit)?;
    let mut tables = tables();
    if let TranslateResult::Mapped { frame: MappedFrame::Size2MiB(_), .. } =
        tables.translate(VirtAddr::try_new(last).ok()?)
    {
        return Some(());
    }
    let frame = PhysFrame::<Size2MiB>::containing_address(PhysAddr::try_new(start).ok()?);
    // SAFETY: nothing is mapped there yet, and one to one no address gets a second meaning.
    unsafe { tables.identity_map(frame, flags, &mut TableFrames(frames)) }.ok()?.flush();
    Some(())
}

fn flags(cached: bool) -> PageTableFlags {
    let uncached = PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH;
    PageTableFlags::PRESENT
        | PageTableFlags::WRITABLE
        | PageTableFlags::HUGE_PAGE
        | if cached { PageTableFlags::empty() } else { uncached }
}
