//! A small hypervisor's own: a heap, frames that free themselves, and all memory seen at an offset.

use alloc::alloc::{GlobalAlloc, Layout, alloc_zeroed, dealloc};
use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::{self, NonNull};

use buddy_system_allocator::Heap;
use cofferdam::addr::{PhysAddr, PhysRange};
use cofferdam::hal::{Ecam, Hal, Kernel, OneToOne};
use cofferdam_pc::{Mcfg, Pc};
use cofferdam_tests_qemu::Words;
use spin::{Mutex, Once};

/// Where physical address 0 is seen: the upper half.
const OFFSET: u64 = 0xffff_8000_0000_0000;
/// Entries of the root of the CPU's tables for each half.
const HALF: usize = 256;
const PAGE: usize = 4096;
const HEAP_BYTES: u64 = 32 << 20;

/// The platform of the front: the hypervisor, which sees all at one offset.
pub type Platform = OneToOne<Hypervisor>;

static PLATFORM: Once<Platform> = Once::new();

/// What [`begin`] has made.
pub fn platform() -> Platform {
    *PLATFORM.get().expect("the hypervisor has begun")
}

/// The heap, which all memory of the hypervisor is from.
struct Global(Mutex<Heap<32>>);

#[global_allocator]
static HEAP: Global = Global(Mutex::new(Heap::new()));

// SAFETY: the heap hands out memory of its own, once until it comes back.
unsafe impl GlobalAlloc for Global {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().alloc(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, first: *mut u8, layout: Layout) {
        if let Some(first) = NonNull::new(first) {
            // SAFETY: the caller says that it is from here, and of this layout.
            unsafe { self.0.lock().dealloc(first, layout) };
        }
    }
}

/// Frames of the hypervisor. They go back to its heap by themselves.
struct Frames {
    first: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the frames belong to this value alone.
unsafe impl Send for Frames {}

impl Frames {
    fn zeroed(order: u8) -> Option<Self> {
        let bytes = PAGE << order;
        let layout = Layout::from_size_align(bytes, bytes).ok()?;
        // SAFETY: it is of more than no bytes.
        Some(Self { first: NonNull::new(unsafe { alloc_zeroed(layout) })?, layout })
    }

    fn base(&self) -> PhysAddr {
        PhysAddr::new_truncate((self.first.as_ptr().expose_provenance() as u64).wrapping_sub(OFFSET))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // SAFETY: it was allocated so, and goes with this value.
        unsafe { dealloc(self.first.as_ptr(), self.layout) };
    }
}

/// What the driver has of them.
static LENT: Mutex<Vec<Frames>> = Mutex::new(Vec::new());

/// How many frames, or runs of them, the driver has.
pub fn lent() -> usize {
    LENT.lock().len()
}

/// The hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Hypervisor {
    pc: &'static Pc,
    own: PhysRange,
}

// SAFETY: frames are zeroed, aligned to their size, and out of the heap, which no cell has; they are the driver's until they come
// back. The clock counts the time-stamp counter.
unsafe impl Kernel for Hypervisor {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        let frames = Frames::zeroed(order)?;
        let base = frames.base();
        LENT.lock().push(frames);
        Some(base)
    }

    unsafe fn free(&self, frames: PhysAddr, _: u8) {
        let mut lent = LENT.lock();
        let at = lent.iter().position(|lent| lent.base() == frames);
        let freed = at.map(|at| lent.swap_remove(at));
        drop((lent, freed));
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.own.intersection(memory)
    }

    fn now_ns(&self) -> u64 {
        self.pc.now_ns()
    }
}

/// Has the CPU see all memory at the offset, and makes the heap and the platform there.
///
/// # Errors
///
/// There is too little memory, or no configuration space.
pub fn begin(pc: &'static Pc) -> Result<(), Words> {
    see_at_offset();
    let words = |text| Words::new(format_args!("{text}"));
    let block = pc.allocate_block(HEAP_BYTES, HEAP_BYTES).ok_or_else(|| words("too little memory for the heap"))?;
    let first = block.base().as_u64().wrapping_add(OFFSET);
    // SAFETY: the memory is the hypervisor's from now on, and seen there.
    unsafe { HEAP.0.lock().init(first as usize, HEAP_BYTES as usize) };
    let own = PhysRange::new(block.base(), HEAP_BYTES).ok_or_else(|| words("no memory there"))?;
    let mcfg = pc.table::<Mcfg>()?.ok_or_else(|| words("no configuration space in memory"))?;
    let ecam: Vec<Ecam> = mcfg.get(44..).unwrap_or_default().chunks_exact(16).filter_map(ecam).collect();
    // SAFETY: the CPU sees all memory there as it does in the lower half, where the platform has devices uncached.
    PLATFORM.call_once(|| unsafe { OneToOne::new(Hypervisor { pc, own }, OFFSET, ecam.leak()) });
    Ok(())
}

/// An entry of the MCFG table (PCI Firmware Specification 3.3, section 4.1.2).
fn ecam(entry: &[u8]) -> Option<Ecam> {
    let base = PhysAddr::try_new(u64::from_le_bytes(*entry.first_chunk()?)).ok()?;
    let segment = u16::from_le_bytes([*entry.get(8)?, *entry.get(9)?]);
    Some(Ecam { segment, base, first_bus: *entry.get(10)?, last_bus: *entry.get(11)? })
}

/// The upper half leads where the lower does.
fn see_at_offset() {
    let root: usize;
    // SAFETY: the register is read, and nothing else happens.
    unsafe { asm!("mov {}, cr3", out(reg) root, options(nomem, nostack, preserves_flags)) };
    let root: *mut u64 = ptr::with_exposed_provenance_mut(root & !(PAGE - 1));
    for index in 0..HALF {
        // SAFETY: the root is a page of the image, which is mapped one to one.
        let entry = unsafe { root.add(index).read_volatile() };
        // SAFETY: as above; the upper half leads nowhere yet, so the CPU has cached nothing of it.
        unsafe { root.add(index + HALF).write_volatile(entry) };
    }
}
