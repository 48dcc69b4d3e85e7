//! The platform of a kernel that sees all of the machine at one offset.

use core::ptr::{self, NonNull};

use super::Hal;
use super::register_window::RegisterWindow;
use crate::addr::{PhysAddr, PhysRange, SourceId};

/// What is left to be written for a kernel that sees all physical addresses at one offset: [`OneToOne`] makes a [`Hal`] of it. Each
/// method is that of [`Hal`] with the same name, where its contract is.
///
/// # Safety
///
/// As for [`Hal`].
pub unsafe trait Kernel {
    /// [`Hal::allocate`].
    fn allocate(&self, order: u8) -> Option<PhysAddr>;

    /// [`Hal::free`].
    ///
    /// # Safety
    ///
    /// As for [`Hal::free`].
    unsafe fn free(&self, frames: PhysAddr, order: u8);

    /// [`Hal::own_memory`]. An [audit](crate::Iommu::audit) follows tables in that memory, and in no other.
    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange>;

    /// [`Hal::now_ns`].
    fn now_ns(&self) -> u64;
}

/// Where configuration space of some buses is in memory (PCIe 6.0, section 7.2.2): an entry of the MCFG table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Their PCI segment.
    pub segment: u16,
    /// Where that of bus 0 is, or would be.
    pub base: PhysAddr,
    /// The first bus.
    pub first_bus: u8,
    /// The last bus.
    pub last_bus: u8,
}

/// The platform of a kernel whose CPUs see each physical address at one offset: memory, registers and configuration space. With
/// offset 0 they see it at itself.
///
/// All other methods of [`Hal`] are the default ones.
///
/// ```
/// use cofferdam::Iommu;
/// use cofferdam::addr::{PhysAddr, PhysRange};
/// use cofferdam::hal::{Ecam, Kernel, OneToOne};
/// use cofferdam::iommu::Options;
///
/// # mod frames {
/// #     use cofferdam::addr::{PhysAddr, PhysRange};
/// #     pub fn take(_order: u8) -> Option<PhysAddr> { None }
/// #     pub fn give(_frames: PhysAddr, _order: u8) {}
/// #     pub const ALL: PhysRange = PhysRange::new(PhysAddr::new(32 << 20), 16 << 20).unwrap();
/// # }
/// # fn nanoseconds() -> u64 { 0 }
/// struct Hypervisor;
///
/// // SAFETY: frames are zeroed, aligned, and out of the hypervisor's own memory, which no guest has; the clock never goes back.
/// unsafe impl Kernel for Hypervisor {
///     fn allocate(&self, order: u8) -> Option<PhysAddr> {
///         frames::take(order)
///     }
///
///     unsafe fn free(&self, frames: PhysAddr, order: u8) {
///         frames::give(frames, order);
///     }
///
///     fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
///         frames::ALL.intersection(memory)
///     }
///
///     fn now_ns(&self) -> u64 {
///         nanoseconds()
///     }
/// }
///
/// static ECAM: [Ecam; 1] = [Ecam { segment: 0, base: PhysAddr::new(0xe000_0000), first_bus: 0, last_bus: 255 }];
/// // SAFETY: the boot code has mapped all physical addresses there, what is no memory uncached.
/// static IOMMU: Iommu<'static, OneToOne<Hypervisor>> =
///     Iommu::new(unsafe { OneToOne::new(Hypervisor, 0xffff_8000_0000_0000, &ECAM) }, Options::DEFAULT);
/// # assert!(IOMMU.enable().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OneToOne<K> {
    kernel: K,
    offset: u64,
    ecam: &'static [Ecam],
}

impl<K> OneToOne<K> {
    /// A kernel that sees the physical address `at` at `at` + `offset`, modulo 2^64. Functions of buses that `ecam` does not have are
    /// not there.
    ///
    /// # Safety
    ///
    /// The map is there on each CPU that calls the front, as long as the front lives. It has all memory that
    /// [`allocate`](Kernel::allocate) takes frames from and [`own_memory`](Kernel::own_memory) names, and the queue of each unit that is found
    /// with one, write-back; and uncached, the
    /// configuration space that `ecam` says, and the registers of each unit in the table that the front reads.
    pub const unsafe fn new(kernel: K, offset: u64, ecam: &'static [Ecam]) -> Self {
        Self { kernel, offset, ecam }
    }

    fn at<T>(&self, at: u64) -> *mut T {
        ptr::with_exposed_provenance_mut(at.wrapping_add(self.offset) as usize)
    }

    fn config_register(&self, function: SourceId, offset: u16) -> Option<*mut u32> {
        let ecam = self.ecam.iter().find(|ecam| {
            ecam.segment == function.segment() && (ecam.first_bus..=ecam.last_bus).contains(&function.bus())
        })?;
        let at = u64::from(function.requester()) << 12 | u64::from(offset & 0xffc);
        Some(self.at(ecam.base.as_u64() + at))
    }
}

// SAFETY: frames, own memory and the clock are the kernel's. All pointers are into the map that `new` says there is; registers and
// configuration space are accessed once each time, by the width of the register.
unsafe impl<K: Kernel> Hal for OneToOne<K> {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.kernel.allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.kernel.free(frames, order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.kernel.own_memory(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: a frame is mapped, and nothing is mapped at address 0 that a pointer of Rust's could reach.
        unsafe { NonNull::new_unchecked(self.at(frame.as_u64())) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        let word = PhysRange::new(at, 8).filter(|_| at.as_u64().is_multiple_of(8))?;
        if self.kernel.own_memory(word) != Some(word) {
            return None;
        }
        // SAFETY: that is memory of the kernel's, which the map has.
        Some(unsafe { self.at::<u64>(at.as_u64()).read_volatile() })
    }

    fn found_memory(&self, memory: PhysRange) -> Option<NonNull<u64>> {
        NonNull::new(self.at(memory.first().as_u64()))
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        NonNull::new(self.at(window.base.as_u64()))
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        // SAFETY: the map has configuration space of that bus, of which each function has 4 KiB.
        self.config_register(function, offset).map_or(u32::MAX, |register| unsafe { register.read_volatile() })
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        if let Some(register) = self.config_register(function, offset) {
            // SAFETY: as above, and the caller answers for what the write does.
            unsafe { register.write_volatile(value) };
        }
    }

    fn now_ns(&self) -> u64 {
        self.kernel.now_ns()
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;
    use crate::hal::MappedRegisters;

    /// 4 MiB of physical memory at 1 GiB, of which the kernel has the second half.
    struct Small;

    const FIRST: u64 = 1 << 30;
    const OWN: PhysRange = PhysRange::new(PhysAddr::new(FIRST + (2 << 20)), 2 << 20).unwrap();

    // SAFETY: it allocates nothing.
    unsafe impl Kernel for Small {
        fn allocate(&self, _: u8) -> Option<PhysAddr> {
            None
        }

        unsafe fn free(&self, _: PhysAddr, _: u8) {}

        fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
            OWN.intersection(memory)
        }

        fn now_ns(&self) -> u64 {
            7
        }
    }

    /// Bus 1 of segment 3 is where that memory begins.
    static ECAM: [Ecam; 1] = [Ecam { segment: 3, base: PhysAddr::new(FIRST - (1 << 20)), first_bus: 1, last_bus: 1 }];

    #[test]
    fn all_is_reached_at_the_offset() {
        let memory = Box::leak(Box::new([0_u64; (4 << 20) / 8]));
        memory.iter_mut().zip(0..).for_each(|(word, index)| *word = index);
        let first = memory.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: the offset leads to that memory.
        let hal = unsafe { OneToOne::new(Small, first.wrapping_sub(FIRST), &ECAM) };
        let own = OWN.first();
        assert_eq!(hal.word_at(own + 8), Some((2 << 20) / 8 + 1));
        assert_eq!(
            [own + 4, own - 8, own - 4, OWN.last() + 1].map(|at| hal.word_at(at)),
            [None; 4],
            "unaligned, or not the kernel's"
        );
        // SAFETY: the frame is there.
        let frame = unsafe { hal.phys_to_virt(own) };
        // SAFETY: as above.
        assert_eq!(unsafe { frame.read() }, (2 << 20) / 8);
        let window = RegisterWindow { base: PhysAddr::new(FIRST + 0x1000), bytes: 0x1000 };
        let registers = MappedRegisters { window, first: hal.map_registers(window).unwrap() };
        // SAFETY: as above, in all that follow.
        assert_eq!(unsafe { hal.read64(registers, 0x10) }, 0x1010 / 8);
        // SAFETY: as above.
        unsafe { hal.write32(registers, 0x14, 0xa5a5_5a5a) };
        // SAFETY: as above.
        assert_eq!(unsafe { hal.read64(registers, 0x10) }, 0xa5a5_5a5a_0000_0202);
        // SAFETY: as above.
        unsafe { hal.write64(registers, 0x18, 0x1_0000_0002) };
        // SAFETY: as above.
        assert_eq!((unsafe { hal.read32(registers, 0x18) }, unsafe { hal.read32(registers, 0x1c) }), (2, 1));
        let function = SourceId::new(3, 1, 2, 1).unwrap();
        assert_eq!(hal.config_read(function, 0x10), 0x1_1010 / 8);
        // SAFETY: as above.
        unsafe { hal.config_write(function, 0x14, 9) };
        assert_eq!(hal.config_read(function, 0x14), 9);
        for other in [(2, 1, 2, 1), (3, 0, 2, 1), (3, 2, 2, 1)] {
            let other = SourceId::new(other.0, other.1, other.2, other.3).unwrap();
            assert_eq!(hal.config_read(other, 0), u32::MAX, "{other}");
        }
        assert_eq!(hal.now_ns(), 7);
    }
}
