//! What a platform does for the driver.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::register_window::{MappedRegisters, RegisterWindow};
use super::{cache, pair};
use crate::addr::{PhysAddr, PhysRange, SourceId};

/// What the driver needs from the platform: frames for the hardware's tables, registers, configuration space, and a clock in
/// nanoseconds. The repository has one for a bare x86-64 PC (`platform/pc/src/pc.rs`).
///
/// Default methods are right for an x86 PC whose memory is ordinary write-back memory.
///
/// # Where its methods are called
///
/// Each method runs on the CPU that called the front, within that call; the driver has no thread and no timer of its own, and
/// leaves interrupts as they are. A front that several CPUs share calls the methods on all of them at the same time, except
/// those that it calls under the configuration's lock.
///
/// **No method may call the front**, not even for another purpose: most run while a lock of the front is held, which such a
/// call would wait for without end. The locks are spin locks: a method that sleeps or takes long holds up every CPU that
/// waits for the same lock.
///
/// An NMI handler may call [`Iommu::faults`](crate::Iommu::faults), also when the NMI interrupts any other method of this
/// trait. So [`read32`](Self::read32) and [`write32`](Self::write32), the two methods that `faults` calls, must not wait for a
/// lock.
///
/// | method | called by | locks of the front that are held | in an NMI |
/// |---|---|---|---|
/// | [`allocate`](Self::allocate), [`free`](Self::free) | `prepare`, `enable`, `disable`, changes, `mute` | configuration | no |
/// | [`own_memory`](Self::own_memory) | the same, and `audit` | the same | no |
/// | [`phys_to_virt`](Self::phys_to_virt), [`write_back`](Self::write_back) | the same | the same | no |
/// | [`store`](Self::store), [`load`](Self::load), [`fence`](Self::fence) | the same | configuration, or a unit's queue, or both; none while a change waits | no |
/// | [`store_pair`](Self::store_pair) | changes | configuration | no |
/// | [`has_pair_store`](Self::has_pair_store) | `remap_interrupts` | configuration | no |
/// | [`word_at`](Self::word_at) | `audit`, `reach` | configuration | no |
/// | [`map_registers`](Self::map_registers) | `probe_acpi` | configuration | no |
/// | [`found_memory`](Self::found_memory) | `hand_back` | configuration | no |
/// | [`read32`](Self::read32), [`write32`](Self::write32) | all calls that reach a unit, `faults` among them | any, or none | **yes** |
/// | [`read64`](Self::read64), [`write64`](Self::write64) | the same without `faults` | any, or none | no |
/// | [`config_read`](Self::config_read) | `probe_acpi`, `prepare`, `enable`, changes, `mute`, `audit`, `device_info`, `windows`, questions of the topology | configuration, or none | no |
/// | [`config_write`](Self::config_write) | `prepare`, `enable`, changes, `program_msi`, `program_msi_x` | configuration | no |
/// | [`now_ns`](Self::now_ns) | all calls that wait | configuration, or none; never a queue's | no |
/// | [`pause`](Self::pause) | the same | the configuration's in `prepare`, `enable` and `disable` alone; never a queue's | no |
///
/// A *change* is [`Iommu::commit`](crate::Iommu::commit) and each call that commits one edit. While it runs it also has one of
/// the front's slots for changes ([`Limits::changes`](crate::limits::Limits)), which no `Hal` can wait for. A wait for the
/// registers of a unit that has no queue, or has a write buffer, holds that unit's lock for commands.
///
/// The guide has the whole order of locks, in [concurrency and contexts](crate::guide::concurrency).
///
/// # Safety
///
/// The driver keeps devices out of memory only if the platform does what each method's *Implementation safety* says. An
/// implementation that does not can hand the same frame out twice, or lose a store before hardware sees it, and DMA goes
/// astray.
pub unsafe trait Hal {
    /// Allocates 2^`order` contiguous frames of 4 KiB. `None` if there are none; the driver then fails the call that
    /// needed them and changes nothing.
    ///
    /// All of them lie below 2^[host address width](crate::topology::Topology::host_address_width): the CPU may reach more,
    /// but a unit would look elsewhere for a table that is above. Frames that do not are given back at once, and the call
    /// fails as if there were none, with [`NoFrame::TooHigh`](super::NoFrame::TooHigh).
    ///
    /// `order` is 0, except for the queue of a unit and its table of interrupts. The queue is allocated by
    /// [`enable`](crate::Iommu::enable) alone, in two pieces of one frame for every 256 of its slots
    /// ([`Options::queue_slots`](crate::iommu::Options)): `order` is 7 at most. The table is allocated by
    /// [`prepare`](crate::Iommu::prepare) or `enable`, where interrupts are [remapped](crate::Iommu::remap_interrupts), as one frame for
    /// every 256 [interrupts](crate::limits::Limits): `order` is 8 at most.
    ///
    /// Called by one CPU at a time for one front, under the configuration's lock; never in an NMI. An allocator that the
    /// hypervisor uses elsewhere needs a lock of its own, which must not be held during a call of the front.
    ///
    /// # Implementation safety
    ///
    /// The frames are aligned to their total size, filled with zeros as the CPU reads them, used by nobody else until
    /// they come back through [`free`](Self::free), and part of the platform's [own memory](Self::own_memory). They need not
    /// be written back from the CPU's caches.
    fn allocate(&self, order: u8) -> Option<PhysAddr>;

    /// Takes frames back.
    ///
    /// Called as [`allocate`](Self::allocate) is.
    ///
    /// # Safety
    ///
    /// `frames` came from [`allocate`](Self::allocate) with the same `order`, and neither the driver nor hardware
    /// reaches them any more.
    unsafe fn free(&self, frames: PhysAddr, order: u8);

    /// The lowest part of `memory` that the platform keeps for itself, so that **no cell is granted it** and no device of any
    /// cell reaches it: at least all memory that [`allocate`](Self::allocate) takes frames from, and best also the
    /// hypervisor's code, data and stacks. `None` if none of it is.
    ///
    /// For a hypervisor that lives in one range, this is the intersection of two ranges. What is granted is refused by name
    /// ([`Owner::Platform`](crate::iommu::Owner)) if part of it is such memory. Frames from elsewhere are given back at once,
    /// and the call fails with [`NoFrame::NotOwn`](super::NoFrame::NotOwn). An [audit](crate::Iommu::audit) reports each
    /// source-id that reaches such memory.
    ///
    /// Called by one CPU at a time for one front, under the configuration's lock: once for each frame that is allocated, each
    /// region that is mapped, each interrupt that is posted, and each range that an audit finds to be reached; never in an NMI.
    ///
    /// # Implementation safety
    ///
    /// Memory that is the platform's own stays so while the driver has frames there, or interrupts are
    /// [posted](crate::interrupt::Posting) there, and is no memory that a cell has.
    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange>;

    /// Where the CPU sees a frame. Called often, so a fixed offset or a direct map suits it best.
    ///
    /// Called by one CPU at a time for one front, under the configuration's lock; never in an NMI. The pointer is used on
    /// other CPUs as well.
    ///
    /// # Safety
    ///
    /// `frame` is 4 KiB aligned and lies in frames that came from [`allocate`](Self::allocate) and are not freed.
    ///
    /// # Implementation safety
    ///
    /// The pointer is aligned to 4 KiB and valid for reads and writes of the frame, and of those that follow it in the
    /// same allocation, until they are freed. The memory is mapped write-back.
    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64>;

    /// Stores an entry of a structure that hardware reads. Every such store of the driver comes through here, in the
    /// order in which hardware may see them.
    ///
    /// Called under the configuration's lock for page, root and context tables, and under the lock of a unit's queue for
    /// descriptors; never in an NMI.
    ///
    /// # Safety
    ///
    /// `entry` is aligned and lies in a frame that [`phys_to_virt`](Self::phys_to_virt) gave and that is not freed.
    ///
    /// # Implementation safety
    ///
    /// One single **atomic** 64-bit store, not reordered with other stores of this trait: another CPU may load the entry at
    /// the same time, and hardware may read or write it.
    #[inline(always)]
    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: the caller says that the entry is aligned and in a live frame, so it is valid for a write. Whoever else
        // accesses it does so through this trait, so atomically.
        unsafe { AtomicU64::from_ptr(entry.as_ptr()) }.store(value, Ordering::Release);
    }

    /// Stores an entry of two words, such as one for interrupts, which hardware may read at any time and must not see half of.
    ///
    /// Called as [`store`](Self::store) is, for the tables of interrupts, where this CPU [can](Self::has_pair_store).
    ///
    /// # Safety
    ///
    /// `entry` is aligned to 16 bytes and lies in a frame that [`phys_to_virt`](Self::phys_to_virt) gave and that is not freed, and
    /// [`has_pair_store`](Self::has_pair_store) is true.
    ///
    /// # Implementation safety
    ///
    /// One single **atomic** 128-bit store, not reordered with other stores of this trait: the first word is the lower one. The
    /// default is `cmpxchg16b`, so the memory is mapped write-back.
    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        // SAFETY: the caller says that the entry is aligned and in a live frame, and that the CPU can do it. Whoever else accesses
        // it does so through this trait, so atomically.
        unsafe { pair::store(entry, value) }
    }

    /// True if each CPU that calls the front can do what the default of [`store_pair`](Self::store_pair) does. Where it is false,
    /// interrupts are not remapped ([`NotRemapped::NoPairStore`](crate::iommu::NotRemapped)).
    ///
    /// The default looks at the CPU that it runs on, so all of the machine have to be alike. Called by [`remap_interrupts`](crate::Iommu::remap_interrupts) alone, under the
    /// configuration's lock.
    ///
    /// # Implementation safety
    ///
    /// If it is true, [`store_pair`](Self::store_pair) keeps its contract on each of these CPUs, from then on.
    fn has_pair_store(&self) -> bool {
        pair::is_supported()
    }

    /// Loads an entry of a structure that hardware reads or writes.
    ///
    /// Called as [`store`](Self::store) is, and without any lock by a change that waits for its unit, where several CPUs may
    /// load the same word; never in an NMI.
    ///
    /// # Safety
    ///
    /// As for [`store`](Self::store).
    ///
    /// # Implementation safety
    ///
    /// One single **atomic** 64-bit load, made again at each call: another CPU may store the entry at the same time, and
    /// hardware may write it.
    #[inline(always)]
    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: the caller says that the entry is aligned and in a live frame, so it is valid for a read. Whoever else
        // accesses it does so through this trait, so atomically.
        unsafe { AtomicU64::from_ptr(entry.as_ptr()) }.load(Ordering::Relaxed)
    }

    /// Reads a 64-bit word of physical memory for an [audit](crate::Iommu::audit), which follows the live tables wherever
    /// they lead: for a pointer that went bad that may be anywhere. `None` if that is not in memory that frames are
    /// allocated from; an audit then says that it could not read a table. It may be that of no other frames than those
    /// that are allocated now, or all of the machine's ordinary memory.
    ///
    /// The default reads nothing, so every audit finds tables that it cannot read.
    ///
    /// Called under the configuration's lock, many thousand times in one audit; never in an NMI.
    ///
    /// # Implementation safety
    ///
    /// What is read is memory, so that reading does nothing else, and no reference of Rust's excludes it. It is what the CPU
    /// sees: one single 64-bit load, made again at each call.
    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        let _ = at;
        None
    }

    /// Where the CPU sees memory of a former owner's: the queue that a unit was found with, as far as that was used. The driver writes
    /// commands there that do nothing but write to that memory themselves, so that the unit counts up to where it was when it is
    /// [handed back](crate::Iommu::hand_back). `None`, as by default, if it may not be written: such a unit is not handed back.
    ///
    /// Called by [`hand_back`](crate::Iommu::hand_back) alone, under the configuration's lock.
    ///
    /// # Implementation safety
    ///
    /// The pointer is aligned to 4 KiB, and valid for writes of all of that memory until `hand_back` returns, and nobody else accesses
    /// it meanwhile. It is mapped write-back.
    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        let _ = memory;
        None
    }

    /// Writes the cache lines of `bytes` bytes from `first` on back to memory, for units that do not snoop the CPU's
    /// caches. Called before [`fence`](Self::fence), only for such units.
    ///
    /// Called by one CPU at a time for one front, under the configuration's lock; never in an NMI.
    ///
    /// # Safety
    ///
    /// The bytes lie in frames that [`phys_to_virt`](Self::phys_to_virt) gave and that are not freed.
    ///
    /// # Implementation safety
    ///
    /// After the next fence, memory holds what was stored there before this call.
    #[inline]
    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: the caller says that the bytes lie in live frames.
        unsafe { cache::write_back(first.cast(), bytes) }
    }

    /// Orders: stores and write-backs before it are done, as hardware sees them, before any store or register write
    /// after it.
    ///
    /// Called as [`store`](Self::store) is, on the CPU that stored.
    #[inline]
    fn fence(&self) {
        cache::store_fence();
    }

    /// Where the CPU sees the registers of a unit. `None` if it does not, as where they lie in what is memory: the unit has failed then
    /// by name ([`UnitError::NotMapped`](crate::error::UnitError)), and costs itself alone.
    ///
    /// Called by [`probe_acpi`](crate::Iommu::probe_acpi) alone, once for each unit, under the configuration's lock. What the firmware's
    /// table says of the place was checked for its alignment and for nothing else.
    ///
    /// # Implementation safety
    ///
    /// If [`read32`](Self::read32) and the three others are the default ones: the pointer is aligned to 4 KiB, and valid for uncached
    /// accesses of all [bytes](RegisterWindow::bytes) of the window, on each CPU that calls the front, in each context, as long as the
    /// front lives. Otherwise it may be any, and those four make of it what they want.
    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>>;

    /// Reads a 32-bit register.
    ///
    /// The default does so by the pointer that [`map_registers`](Self::map_registers) gave. Called under any lock of the front or
    /// under none, on several CPUs at the same time, and **in an NMI** by [`faults`](crate::Iommu::faults), which may have
    /// interrupted this very method. So it must not wait for a lock.
    ///
    /// # Safety
    ///
    /// `registers` are a unit's, as [`map_registers`](Self::map_registers) mapped them; `offset` is a multiple of 4, and the register
    /// ends within the window.
    ///
    /// # Implementation safety
    ///
    /// One single uncached access of that width; in program order with all other register accesses.
    #[inline]
    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        // SAFETY: the platform says that the pointer is valid for all of the window, and the caller that the register is there.
        unsafe { registers.at::<u32>(offset).read_volatile() }
    }

    /// Writes a 32-bit register.
    ///
    /// Called as [`read32`](Self::read32) is, **in an NMI** as well.
    ///
    /// # Safety
    ///
    /// As for [`read32`](Self::read32), and the write does to the unit what the specification allows.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    #[inline]
    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        // SAFETY: as in `read32`.
        unsafe { registers.at::<u32>(offset).write_volatile(value) }
    }

    /// Reads a 64-bit register: one access, or two aligned halves, the lower first (VT-d 5.10, section 11.2).
    ///
    /// Called under any lock of the front or under none, on several CPUs at the same time; never in an NMI.
    ///
    /// # Safety
    ///
    /// As for [`read32`](Self::read32), with `offset` a multiple of 8.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    #[inline]
    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: as in `read32`.
        unsafe { registers.at::<u64>(offset).read_volatile() }
    }

    /// Writes a 64-bit register: one access, or two aligned halves, the lower first.
    ///
    /// Called as [`read64`](Self::read64) is. The doorbell of a unit's queue is one such write, under the queue's lock.
    ///
    /// # Safety
    ///
    /// As for [`write32`](Self::write32), with `offset` a multiple of 8.
    ///
    /// # Implementation safety
    ///
    /// As for [`read32`](Self::read32).
    #[inline]
    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        // SAFETY: as in `read32`.
        unsafe { registers.at::<u64>(offset).write_volatile(value) }
    }

    /// Reads the 32-bit configuration register at `offset` (a multiple of 4, below 4096) of a PCI function. All ones if
    /// there is no such function, or no way to reach that offset.
    ///
    /// Called under the configuration's lock or under none, on several CPUs at the same time; never in an NMI, and never
    /// under a queue's lock. [`enable`](crate::Iommu::enable) looks for all functions of each segment that has a unit. Where an
    /// access takes two steps, as by the ports 0xCF8 and 0xCFC, the platform makes them one, against its own accesses too.
    fn config_read(&self, function: SourceId, offset: u16) -> u32;

    /// Writes the 32-bit configuration register at `offset` (a multiple of 4, below 4096) of a PCI function. Nothing
    /// happens if there is no such function, or no way to reach that offset.
    ///
    /// Called under the configuration's lock by [`prepare`](crate::Iommu::prepare), [`enable`](crate::Iommu::enable), changes,
    /// [`program_msi`](crate::Iommu::program_msi) and [`program_msi_x`](crate::Iommu::program_msi_x): one CPU at a time for one front; never in an NMI. The driver reads a register, changes a bit and writes it:
    /// Command, Device Control, and the control registers of ATS and Access Control Services. Whoever else writes those of an
    /// assigned device, as a hypervisor does for a guest, does so not while a change releases the device.
    ///
    /// # Safety
    ///
    /// The write has the function do nothing but what its specification says of that register, and the caller answers for
    /// that.
    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32);

    /// Nanoseconds from a fixed moment on.
    ///
    /// Called on every CPU that waits, under the configuration's lock or under none, never under a queue's; never in an NMI.
    ///
    /// # Implementation safety
    ///
    /// Never goes back, on any CPU, and does not stand still: every deadline hangs on it. If it shows nothing new for 2^24
    /// looks in a row, with a [`pause`](Self::pause) between any two, whatever is waited for is given up as if its time had
    /// passed.
    ///
    /// A counter of 32 bits wraps, so the platform counts its rounds and shows 64 bits. If it does not, a wait in which the counter wraps
    /// sees a clock that goes back: it ends by that same rule, earlier or later than it should, and no wait is without end.
    fn now_ns(&self) -> u64;

    /// What to do between two looks at a register that has not changed yet. It may take longer than the default, a spin-loop
    /// hint, but the wait goes on only when it returns. Here a hypervisor that masks interrupts around calls may let them in: what
    /// their handlers may call then is in [concurrency and contexts](crate::guide::concurrency#what-may-be-called-where).
    ///
    /// Called on every CPU that waits, never under a queue's lock, and under the configuration's only by calls that switch units; never in
    /// an NMI.
    #[inline]
    fn pause(&self) {
        core::hint::spin_loop();
    }
}

// SAFETY: each method is the same one of what is referred to, which keeps its contract.
unsafe impl<H: Hal + ?Sized> Hal for &H {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        (**self).allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).free(frames, order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        (**self).own_memory(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { (**self).phys_to_virt(frame) }
    }

    #[inline(always)]
    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).store(entry, value) }
    }

    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).store_pair(entry, value) }
    }

    fn has_pair_store(&self) -> bool {
        (**self).has_pair_store()
    }

    #[inline(always)]
    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        (**self).word_at(at)
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        (**self).found_memory(memory)
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write_back(first, bytes) }
    }

    fn fence(&self) {
        (**self).fence();
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        (**self).map_registers(window)
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).read32(registers, offset) }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write32(registers, offset, value) }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { (**self).read64(registers, offset) }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).write64(registers, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        (**self).config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { (**self).config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn pause(&self) {
        (**self).pause();
    }
}
