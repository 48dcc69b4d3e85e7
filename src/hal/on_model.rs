//! The hardware model as a platform for unit tests.

use core::ptr::NonNull;

use cofferdam_model::Machine;
use cofferdam_model::hal::Hal as Seam;

use super::{Hal, MappedRegisters, RegisterWindow};
use crate::addr::{PhysAddr, PhysRange, SourceId};

/// The model's machine. It is built on another instance of this crate than the one that is under test here.
pub(crate) struct OnModel(pub(crate) Machine);

fn theirs(MappedRegisters { window, first }: MappedRegisters) -> cofferdam_model::hal::MappedRegisters {
    cofferdam_model::hal::MappedRegisters { window: window_of(window), first }
}

fn window_of(RegisterWindow { base, bytes }: RegisterWindow) -> cofferdam_model::hal::RegisterWindow {
    cofferdam_model::hal::RegisterWindow { base: their_address(base), bytes }
}

fn their_address(address: PhysAddr) -> cofferdam_model::addr::PhysAddr {
    cofferdam_model::addr::PhysAddr::new(address.as_u64())
}

fn our_address(address: cofferdam_model::addr::PhysAddr) -> PhysAddr {
    PhysAddr::new(address.as_u64())
}

/// A function, as the model's instance has it.
pub(crate) fn source(function: SourceId) -> cofferdam_model::addr::SourceId {
    cofferdam_model::addr::SourceId::from_requester(function.segment(), function.requester())
}

// SAFETY: each method is the machine's, which keeps the same contract.
unsafe impl Hal for OnModel {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        Seam::allocate(&self.0, order).map(our_address)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller, as in all that follow.
        unsafe { Seam::free(&self.0, their_address(frames), order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        let bytes = memory.last() - memory.first() + 1;
        let own =
            Seam::own_memory(&self.0, cofferdam_model::addr::PhysRange::new(their_address(memory.first()), bytes)?)?;
        PhysRange::new(our_address(own.first()), own.last() - own.first() + 1)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: as above.
        unsafe { Seam::phys_to_virt(&self.0, their_address(frame)) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: as above.
        unsafe { Seam::store(&self.0, entry, value) }
    }

    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        // SAFETY: as above.
        unsafe { Seam::store_pair(&self.0, entry, value) }
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: as above.
        unsafe { Seam::load(&self.0, entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        Seam::word_at(&self.0, their_address(at))
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: as above.
        unsafe { Seam::write_back(&self.0, first, bytes) }
    }

    fn fence(&self) {
        Seam::fence(&self.0);
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        Seam::map_registers(&self.0, window_of(window))
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { Seam::read32(&self.0, theirs(registers), offset) }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        // SAFETY: as above.
        unsafe { Seam::write32(&self.0, theirs(registers), offset, value) }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: as above.
        unsafe { Seam::read64(&self.0, theirs(registers), offset) }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        // SAFETY: as above.
        unsafe { Seam::write64(&self.0, theirs(registers), offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        Seam::config_read(&self.0, source(function), offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: as above.
        unsafe { Seam::config_write(&self.0, source(function), offset, value) }
    }

    fn now_ns(&self) -> u64 {
        Seam::now_ns(&self.0)
    }

    fn pause(&self) {
        Seam::pause(&self.0);
    }
}
