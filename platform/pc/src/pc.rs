//! The machine as one value.

use core::alloc::Layout;
use core::arch::x86_64::__cpuid;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::slice;

use cofferdam::addr::{PhysAddr, SourceId};
use cofferdam::hal::{Hal, Window};
use spin::Once;
use spin::mutex::SpinMutex;
use volatile::VolatilePtr;

use crate::acpi::{AcpiError, Root};
use crate::boot::{Boot, MapEntry};
use crate::clock::Clock;
use crate::error::BootError;
use crate::memory::{Block, Frames, IdentityMap, LOW, allocate_zeroed, carve, layout};
use crate::mmio::Mmio;
use crate::pci::{self, Bar, Ecam};

/// Free memory below which nothing useful can be done.
const NEEDED: u64 = 16 << 20;
/// Bytes of a frame.
const PAGE: u64 = 4096;

/// The PC under the image. There is one.
#[derive(Debug)]
pub struct Pc {
    boot: Boot<'static>,
    clock: Clock,
    memory_bytes: u64,
    usable_top: PhysAddr,
    frames: SpinMutex<Frames>,
    map: IdentityMap,
    root: Result<Root<'static>, AcpiError>,
    ecam: Ecam,
    /// Held while configuration registers are read, changed and written.
    configuration: SpinMutex<()>,
}

/// What the driver reads its registers and writes its tables through.
static PC: Once<Pc> = Once::new();

impl Pc {
    /// Takes the machine over as the loader left it. `image` is the memory of the image, its guard page first.
    pub(crate) fn boot(start_info: u64, image: Range<u64>) -> Result<&'static Self, BootError> {
        let low = |at: u64, bytes: usize| {
            let end = at.checked_add(bytes as u64).filter(|&end| end <= LOW)?;
            let is_outside = end <= image.start || image.end <= at;
            // SAFETY: the entry maps everything below 4 GiB but the guard, and only the image is written yet.
            (at != 0 && is_outside).then(|| unsafe { bytes_at(at, bytes) })
        };
        let boot = Boot::read(start_info, &low)?;

        let limit = address_limit();
        let (map, frames) = (IdentityMap::new(limit), SpinMutex::new(Frames::new()));
        map.uncache_devices(boot.map);
        let structures = boot.structures.map(|(start, end)| start..end);
        let [info, entries, line] = structures;
        let taken = [image, info, entries, line, limit..u64::MAX];
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

        let clock = Clock::calibrate()?;
        let memory = |at, bytes| firmware(boot.map, at, bytes);
        let root = Root::read(boot.rsdp, &memory);
        let mcfg = root.ok().and_then(|root| root.table(*b"MCFG", &memory).ok().flatten());
        let is_memory =
            |start, end| boot.map.iter().any(|entry| entry.is_ram() && entry.start() < end && start < entry.end());
        let ecam = mcfg.map(|mcfg| Ecam::read(mcfg, is_memory)).unwrap_or_default();

        Ok(PC.call_once(|| Self {
            boot,
            clock,
            memory_bytes: bytes,
            usable_top: PhysAddr::new_truncate(top),
            frames,
            map,
            root,
            ecam,
            configuration: SpinMutex::new(()),
        }))
    }

    /// What was given to the image, as `-append` of QEMU does; empty if it is not UTF-8.
    pub fn command_line(&self) -> &'static str {
        self.boot.command_line
    }

    /// Memory that was free when the image started, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The end of the highest memory that was free when the image started.
    pub fn usable_top(&self) -> PhysAddr {
        self.usable_top
    }

    /// Memory that is free now, in bytes; not all of it in one piece.
    pub fn free_bytes(&self) -> u64 {
        self.frames.lock().free_bytes()
    }

    /// Frequency of the time-stamp counter, in Hz.
    pub fn tsc_hz(&self) -> u64 {
        self.clock.hz()
    }

    /// Waits for at least `ns` nanoseconds.
    pub fn delay_ns(&self, ns: u64) {
        let end = self.now_ns().saturating_add(ns);
        while self.now_ns() < end {
            self.pause();
        }
    }

    /// The ACPI table with this signature, header included; `None` if the firmware has none. Its length and checksum
    /// are right, and nothing else was checked.
    ///
    /// # Errors
    ///
    /// The root table cannot be read, or every table of that signature is broken.
    pub fn table(&self, signature: [u8; 4]) -> Result<Option<&'static [u8]>, AcpiError> {
        self.root?.table(signature, &|at, bytes| firmware(self.boot.map, at, bytes))
    }

    /// All PCI functions that the MCFG table leads to. Each call looks anew, which takes some milliseconds.
    pub fn functions(&self) -> impl Iterator<Item = SourceId> {
        pci::functions(self.ecam.buses(), |function, offset| self.config_read(function, offset))
    }

    /// The memory behind the base address register `index` of a function; `None` if there is no such register, if it is
    /// for ports or the upper half of another, or if the firmware gave it no address. The function answers to no address
    /// for a moment.
    pub fn bar(&self, function: SourceId, index: u8) -> Option<Bar> {
        let _guard = self.configuration.lock();
        pci::bar(
            |offset| self.config_read(function, offset),
            // SAFETY: what is written to size a register is undone before anybody uses the function.
            |offset, value| unsafe { self.config_write(function, offset, value) },
            index,
        )
    }

    /// Lets a function answer to its memory, and read and write memory itself.
    pub fn enable(&self, function: SourceId) {
        self.change_command(function, |command| command | pci::MEMORY_SPACE | pci::BUS_MASTER);
    }

    /// Keeps a function from reading and writing memory. What it has begun may still be on its way.
    pub fn disable_bus_master(&self, function: SourceId) {
        self.change_command(function, |command| command & !pci::BUS_MASTER);
    }

    fn change_command(&self, function: SourceId, change: impl FnOnce(u32) -> u32) {
        let _guard = self.configuration.lock();
        // The upper half is status, where a 1 would clear.
        let command = self.config_read(function, pci::COMMAND) & 0xffff;
        // SAFETY: the function knows no address to read or write that its user has not told it.
        unsafe { self.config_write(function, pci::COMMAND, change(command) & 0xffff) };
    }

    /// Writes the 32-bit configuration register at `offset`, a multiple of 4 below 4096. Nothing happens if there is no
    /// way to reach it.
    ///
    /// # Safety
    ///
    /// What the function does then touches no memory that is Rust's.
    pub unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        if let Some(register) = self.config_register(function, offset) {
            register.write(value);
        }
    }

    fn config_register(&self, function: SourceId, offset: u16) -> Option<VolatilePtr<'_, u32>> {
        let register = self.map.device(self.ecam.address(function, offset)?, &self.frames)?;
        // SAFETY: the firmware says that configuration space is there, and no memory is; the offset is a multiple of 4.
        Some(unsafe { VolatilePtr::new(register.cast()) })
    }

    /// The registers behind a base address register; `None` if they are out of the CPU's reach.
    ///
    /// # Safety
    ///
    /// `bar` came from [`bar`](Self::bar). Whatever is written to the registers makes the device touch no memory that is
    /// Rust's, other than a [`Block`].
    pub unsafe fn registers(&self, bar: Bar) -> Option<Mmio> {
        let first = bar.base.as_u64();
        let last = first.checked_add(bar.bytes.checked_sub(1)?)?;
        for page in (first..=last).step_by(PAGE as usize) {
            self.map.device(page, &self.frames)?;
        }
        let first = self.map.device(first, &self.frames)?;
        // SAFETY: all of it is mapped; what the device does is the caller's promise.
        Some(unsafe { Mmio::new(first, bar.bytes) })
    }

    /// Contiguous memory of at least `bytes` bytes, aligned to `align` (a power of two) and to 4 KiB; it holds whatever
    /// was there. `None` if there is none, or the numbers make no sense.
    ///
    /// Sizes that are no power of two take as much as the next one.
    pub fn allocate_block(&self, bytes: u64, align: u64) -> Option<Block> {
        let layout = block_layout(bytes, align)?;
        let first = self.frames.lock().allocate(layout)?;
        // SAFETY: the memory is of that size, aligned to a frame, mapped one to one, and nobody else's.
        Some(unsafe { Block::new(first.cast(), layout.size() as u64) })
    }
}

fn block_layout(bytes: u64, align: u64) -> Option<Layout> {
    let bytes = bytes.max(1).checked_next_power_of_two()?.max(PAGE);
    Layout::from_size_align(usize::try_from(bytes).ok()?, usize::try_from(align.max(PAGE)).ok()?).ok()
}

/// The first physical address that does not exist or that no canonical address of the lower half equals: CPUID leaf
/// 8000_0008h, EAX 7:0, tells the width.
fn address_limit() -> u64 {
    let width = if __cpuid(0x8000_0000).eax >= 0x8000_0008 { __cpuid(0x8000_0008).eax & 0xff } else { 36 };
    1 << width.clamp(32, 47)
}

/// Bytes that firmware's structures may be in: below 4 GiB in nobody's memory or the first MiB, or in memory that `map`
/// says is not free.
fn firmware(map: &[MapEntry], at: u64, bytes: usize) -> Option<&'static [u8]> {
    let end = at.checked_add(bytes as u64)?;
    let overlaps = |entry: &&MapEntry| entry.start() < end && at < entry.end();
    let is_free = end > 1 << 20 && map.iter().filter(overlaps).any(MapEntry::is_ram);
    let is_mapped =
        end <= LOW || map.iter().any(|entry| entry.is_memory() && entry.start() <= at && end <= entry.end());
    // SAFETY: it is mapped, and in no memory that is ever written.
    (at != 0 && !is_free && is_mapped).then(|| unsafe { bytes_at(at, bytes) })
}

/// # Safety
///
/// The bytes are mapped one to one, `at` is not 0, and nobody ever writes them.
unsafe fn bytes_at(at: u64, bytes: usize) -> &'static [u8] {
    // SAFETY: as the caller says.
    unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(at as usize), bytes) }
}

// SAFETY: frames come from an allocator that hands each out once, zeroed and aligned to their size, and cells get their
// memory from the same one. Memory is mapped one to one and cached, devices uncached, and each access is a volatile one
// of its width. The clock counts the time-stamp counter of the only CPU.
unsafe impl Hal for Pc {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        allocate_zeroed(&self.frames, order).map(|first| PhysAddr::new_truncate(first.addr().get() as u64))
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        let memory = NonNull::new(ptr::with_exposed_provenance_mut(frames.as_u64() as usize));
        if let (Some(memory), Some(layout)) = (memory, layout(order)) {
            // SAFETY: the caller says that the frames were allocated with that order, so with that layout.
            unsafe { self.frames.lock().free(memory, layout) };
        }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        let frame: *mut u64 = ptr::with_exposed_provenance_mut(frame.as_u64() as usize);
        // SAFETY: frames that were allocated lie above the first MiB.
        unsafe { NonNull::new_unchecked(frame) }
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        // SAFETY: the caller says that the register is there.
        unsafe { self.register(window, offset) }.map_or(u32::MAX, VolatilePtr::read)
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        // SAFETY: the caller says that the register is there.
        if let Some(register) = unsafe { self.register(window, offset) } {
            register.write(value);
        }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        // SAFETY: the caller says that the register is there.
        unsafe { self.register(window, offset) }.map_or(u64::MAX, VolatilePtr::read)
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        // SAFETY: the caller says that the register is there.
        if let Some(register) = unsafe { self.register(window, offset) } {
            register.write(value);
        }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.config_register(function, offset).map_or(u32::MAX, VolatilePtr::read)
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }
}

impl Pc {
    /// # Safety
    ///
    /// A register of type `T` is at that offset of the window.
    unsafe fn register<T>(&self, window: Window, offset: u32) -> Option<VolatilePtr<'_, T>> {
        let at = window.base.as_u64().checked_add(u64::from(offset))?;
        let register = self.map.device(at, &self.frames)?;
        // SAFETY: the register is mapped uncached, and aligned as the caller says.
        Some(unsafe { VolatilePtr::new(register.cast()) })
    }
}
