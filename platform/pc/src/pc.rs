//! The machine as one value.

mod devices;
mod hal;
mod serial;

use core::arch::x86_64::__cpuid;
use core::ops::Range;
use core::ptr::NonNull;
use core::{ptr, slice};

use ::acpi::AcpiTable;
use cofferdam::addr::{PhysAddr, PhysRange};
use cofferdam::hal::Hal;
use spin::Once;
use spin::mutex::SpinMutex;

use crate::acpi::{AcpiError, Mcfg, Root};
use crate::boot::{Boot, CPU_PAGE, Loader, MapEntry, MappedRange, Picture};
use crate::clock::{Clock, ClockTrust, Timers, is_invariant};
use crate::error::BootError;
use crate::memory::{Block, Frames, IdentityMap, LOW, PAGE, carve, first_in_use, is_for_tables, is_free, is_memory};
use crate::mmio::Mmio;
use crate::pci::Ecam;
use crate::screen;

/// Free memory below which nothing useful can be done.
const NEEDED: u64 = 4 << 20;
/// The driver's frames are this part of the free memory, and no more than 2^13.
const FRAMES_PART: u64 = 16;
const MOST_FRAMES: u64 = 1 << 13;

/// The PC under the image. There is one.
///
/// Whoever needs several of its locks takes them in the order `configuration`, `map`, `frames`.
#[derive(Debug)]
pub struct Pc {
    boot: Boot<'static>,
    /// The memory of the image.
    image: Range<u64>,
    clock: Clock,
    memory_bytes: u64,
    usable_top: PhysAddr,
    frames: SpinMutex<Frames>,
    /// The driver's.
    own_frames: SpinMutex<Frames>,
    /// What no cell gets: the image, and where the driver's frames are.
    own: [PhysRange; 2],
    map: IdentityMap,
    root: Result<Root, AcpiError>,
    ecam: Ecam,
    /// Held while configuration registers are read, changed and written.
    configuration: SpinMutex<()>,
}

static PC: Once<Pc> = Once::new();

impl Pc {
    /// Takes the machine over as the loader left it. `image` is the memory of the image, its guard page first.
    ///
    /// After a failure the machine can only be told good-bye: some of its memory is mapped, some is in no allocator.
    pub(crate) fn boot(loader: Loader, info_at: u64, image: Range<u64>) -> Result<&'static Self, BootError> {
        let low = |at: u64, bytes: usize| {
            let end = at.checked_add(bytes as u64).filter(|&end| end <= LOW)?;
            let is_outside = end <= image.start || image.end <= at;
            // SAFETY: the entry maps everything below 4 GiB but the guard, and only the image is written yet.
            (at != 0 && is_outside).then(|| unsafe { bytes_at(at, bytes) })
        };
        let boot = Boot::read(loader, info_at, &low)?;
        let picture = boot.picture.filter(|picture| is_apart(boot.map, picture));
        // One that is mapped already shows what goes wrong from here on.
        if let Some(picture) = picture.filter(|picture| picture.at + picture.bytes() <= LOW) {
            // SAFETY: the entry maps it, it is the screen's, and no memory is there.
            unsafe { show_on(picture, NonNull::new(ptr::with_exposed_provenance_mut(picture.at as usize))) };
        }
        if let Some(at) = first_in_use(boot.map, &image) {
            return Err(BootError::ImageInUse { at });
        }

        let limit = address_limit();
        let (map, frames) = (IdentityMap::new(limit), SpinMutex::new(Frames::new()));
        map.uncache_devices(boot.map);
        let structures = boot.structures.map(|(start, end)| start..end);
        let [info, entries, line] = structures;
        let taken = [image.clone(), info, entries, line, limit..u64::MAX];
        let (mut bytes, mut top) = (0, 0);
        carve(boot.map, &taken, |range| {
            (bytes, top) = (bytes + (range.end - range.start), top.max(range.end));
            // SAFETY: the range is memory that the loader calls free, and outside of the image; `add` leaves out what
            // is not mapped yet.
            unsafe { frames.lock().add(range.start..range.end.min(LOW)) };
        });
        if bytes < NEEDED {
            return Err(BootError::ShortOfMemory { bytes, needed: NEEDED });
        }
        for entry in boot.map.iter().filter(|entry| entry.is_memory()) {
            map.map_memory(entry.start()..entry.end().min(limit), &frames)
                .map_err(|at| BootError::Unmappable { at })?;
        }
        carve(boot.map, &taken, |range| {
            // SAFETY: as above, and all memory is mapped now.
            unsafe { frames.lock().add(range.start.max(LOW)..range.end) };
        });
        if let Some(picture) = picture {
            // SAFETY: it is mapped uncached, it is the screen's, and no memory is there.
            unsafe { show_on(picture, map.devices(picture.at, picture.bytes(), &frames)) };
        }
        let (own_frames, pool) =
            own_frames(&frames, bytes).ok_or(BootError::ShortOfMemory { bytes, needed: NEEDED })?;

        let memory = |at, bytes| firmware(boot.map, at, bytes);
        let root = Root::read(boot.rsdp, &memory);
        let registers = |at| {
            let first = if is_memory(boot.map, at) { None } else { map.device(at, &frames) };
            // SAFETY: the firmware says that the timer is there, in no memory, and its registers fill a KiB; it is mapped uncached.
            first.map(|first| unsafe { Mmio::new(first, 0x400) })
        };
        let clock = Clock::calibrate(&Timers::of(root, &memory, &registers))?;
        let mcfg = root.ok().and_then(|root| root.table::<Mcfg>(&memory).ok().flatten());
        let ecam = mcfg.map(Ecam::read).unwrap_or_default();

        let pc = PC.call_once(|| Self {
            boot,
            image: image.clone(),
            clock,
            memory_bytes: bytes,
            usable_top: PhysAddr::new_truncate(top),
            frames,
            own_frames,
            own: [phys_range(&image).unwrap_or(pool), pool],
            map,
            root,
            ecam,
            configuration: SpinMutex::new(()),
        });
        pc.take_serial();
        Ok(pc)
    }

    /// What was given to the image, as `-append` of QEMU does; empty if it is not UTF-8.
    pub fn command_line(&self) -> &'static str {
        self.boot.command_line
    }

    /// Where other CPUs start; `None` if that is no free memory, or something of the loader's.
    pub(crate) fn cpu_page(&self) -> Option<*mut u8> {
        let page = u64::from(CPU_PAGE)..u64::from(CPU_PAGE) + PAGE as u64;
        let is_free = is_free(self.boot.map, &self.boot.structures, &page);
        is_free.then(|| ptr::with_exposed_provenance_mut(page.start as usize))
    }

    /// The memory of the image, its guard page first.
    pub(crate) fn image(&self) -> Range<u64> {
        self.image.clone()
    }

    /// Memory that was free when the image started, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The end of the highest memory that was free when the image started.
    pub fn usable_top(&self) -> PhysAddr {
        self.usable_top
    }

    /// The loader's memory map: maybe not in order, and entries may overlap.
    pub fn memory_map(&self) -> impl Iterator<Item = MappedRange> + Clone {
        self.boot.map.iter().map(MappedRange::of)
    }

    /// Memory that is free for blocks now, in bytes; not all of it in one piece.
    pub fn free_bytes(&self) -> u64 {
        self.frames.lock().free_bytes()
    }

    /// Memory that is free for the driver's frames now, in bytes.
    pub fn free_own_bytes(&self) -> u64 {
        self.own_frames.lock().free_bytes()
    }

    /// Frequency of the time-stamp counter, in Hz.
    pub fn tsc_hz(&self) -> u64 {
        self.clock.hz()
    }

    /// Why the clock may be trusted, or not.
    pub fn clock_trust(&self) -> ClockTrust {
        self.clock.trust()
    }

    /// True if the CPU says that the time-stamp counter counts alike in all of its states.
    pub fn tsc_is_invariant(&self) -> bool {
        is_invariant()
    }

    /// Waits for at least `ns` nanoseconds.
    pub fn delay_ns(&self, ns: u64) {
        let end = self.now_ns().saturating_add(ns);
        while self.now_ns() < end {
            self.pause();
        }
    }

    /// The ACPI table of this type, header included; `None` if the firmware has none. Its length and checksum are right,
    /// and nothing behind the header was checked.
    ///
    /// # Errors
    ///
    /// The root table cannot be read, or every table of that type is broken.
    pub fn table<T: AcpiTable>(&self) -> Result<Option<&'static [u8]>, AcpiError> {
        self.root?.table::<T>(&|at, bytes| firmware(self.boot.map, at, bytes))
    }

    /// Contiguous memory of at least `bytes` bytes, aligned to `align`; it holds whatever was there. `None` if there is
    /// none in one piece. It lies above 4 GiB if there is some.
    ///
    /// The larger of both numbers is rounded up to a power of two, and both size and alignment are that.
    pub fn allocate_block(&self, bytes: u64, align: u64) -> Option<Block> {
        let frames = bytes.max(align).div_ceil(PAGE as u64).checked_next_power_of_two()?;
        let order = frames.trailing_zeros() as u8;
        let first = self.frames.lock().allocate(order)?;
        // SAFETY: the memory is of that size, aligned to a frame, mapped one to one, and nobody else's.
        Some(unsafe { Block::new(first.cast(), order) })
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block came from [`allocate_block`](Self::allocate_block), and no device reaches it any more.
    pub unsafe fn free_block(&self, block: Block) {
        // SAFETY: the block came from the allocator with this order; on the CPU's side nobody else had it.
        unsafe { self.frames.lock().free(block.first().cast(), block.order()) };
    }
}

/// Sets memory aside for the driver's frames, as much as a machine with so many bytes can spare.
fn own_frames(frames: &SpinMutex<Frames>, bytes: u64) -> Option<(SpinMutex<Frames>, PhysRange)> {
    let most = (bytes / FRAMES_PART / PAGE as u64).min(MOST_FRAMES).checked_ilog2()? as u8;
    let (first, order) = (0..=most).rev().find_map(|order| Some((frames.lock().allocate(order)?, order)))?;
    let start = first.addr().get() as u64;
    let memory = start..start + ((PAGE as u64) << order);
    let mut own = Frames::new();
    // SAFETY: the memory was just allocated, so it is mapped, and nobody else's.
    unsafe { own.add(memory.clone()) };
    Some((SpinMutex::new(own), phys_range(&memory)?))
}

fn phys_range(range: &Range<u64>) -> Option<PhysRange> {
    PhysRange::new(PhysAddr::try_new(range.start).ok()?, range.end.checked_sub(range.start)?)
}

/// Has pages shown there from now on, unless others are already.
///
/// # Safety
///
/// The picture is at `first`, mapped uncached, and no memory is there.
unsafe fn show_on(picture: Picture, first: Option<NonNull<u8>>) {
    let Some(first) = first else { return };
    // SAFETY: as the caller says; what is written there is shown, and touches no memory.
    let memory = unsafe { Mmio::new(first, picture.bytes()) };
    screen::take(picture, memory);
}

/// True if a picture is where no memory is.
fn is_apart(map: &[MapEntry], picture: &Picture) -> bool {
    let end = picture.at.checked_add(picture.bytes()).filter(|end| *end > picture.at && *end <= address_limit());
    let is_in = |end| map.iter().any(|it| it.is_memory() && it.start() < end && picture.at < it.end());
    picture.at.is_multiple_of(8) && end.is_some_and(|end| !is_in(end))
}

/// The first physical address that does not exist or that no canonical address of the lower half equals: CPUID leaf
/// 8000_0008h, EAX 7:0, tells the width.
fn address_limit() -> u64 {
    let width = if __cpuid(0x8000_0000).eax >= 0x8000_0008 { __cpuid(0x8000_0008).eax & 0xff } else { 36 };
    1 << width.clamp(32, 47)
}

/// Bytes that the firmware's tables may be in.
fn firmware(map: &[MapEntry], at: u64, bytes: usize) -> Option<&'static [u8]> {
    let range = at..at.checked_add(bytes as u64)?;
    // SAFETY: they are mapped, and in no memory that is ever written.
    is_for_tables(map, &range).then(|| unsafe { bytes_at(at, bytes) })
}

/// # Safety
///
/// The bytes are mapped one to one, `at` is not 0, and nobody ever writes them.
unsafe fn bytes_at(at: u64, bytes: usize) -> &'static [u8] {
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(at as usize), bytes) }
}
