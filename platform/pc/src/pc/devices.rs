//! PCI functions and their registers.

use core::ptr::NonNull;

use cofferdam::addr::SourceId;
use cofferdam::hal::Hal;
use volatile::VolatilePtr;

use super::Pc;
use crate::memory::{PAGE, is_memory};
use crate::mmio::Mmio;
use crate::pci::{self, Bar};

impl Pc {
    /// All PCI functions that the MCFG table leads to. Each call looks again, which takes some milliseconds.
    pub fn functions(&self) -> impl Iterator<Item = SourceId> {
        pci::functions(self.ecam.buses(), |function, offset| self.config_read(function, offset))
    }

    /// All PCI functions that answer on buses which the MCFG table leads to: also one whose device has no function 0, which software that
    /// goes by the rules does not find. Each call looks 256 times on each bus, which takes a tenth of a second or more.
    pub fn functions_that_answer(&self) -> impl Iterator<Item = SourceId> {
        let all = self.buses().flat_map(|(segment, bus)| {
            (0..=u8::MAX).map(move |devfn| SourceId::from_requester(segment, u16::from_be_bytes([bus, devfn])))
        });
        all.filter(|function| self.config_read(*function, 0) as u16 != 0xffff)
    }

    /// The buses that the MCFG table leads to, with their segments.
    pub fn buses(&self) -> impl Iterator<Item = (u16, u8)> {
        self.ecam.buses()
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

    /// Lets a function answer to its memory alone.
    pub(crate) fn answer(&self, function: SourceId) {
        self.change_command(function, |command| command | pci::MEMORY_SPACE);
    }

    /// Keeps a function from reading and writing memory. What it has begun may still be on its way.
    pub fn disable_bus_master(&self, function: SourceId) {
        self.change_command(function, |command| command & !pci::BUS_MASTER);
    }

    /// Writes a configuration register that says which interrupts a function sends, and no other.
    pub fn config_write_to(&self, function: SourceId, offset: u16, value: u32) {
        let _guard = self.configuration.lock();
        // SAFETY: an interrupt makes the function touch no memory.
        unsafe { self.config_write(function, offset, value) };
    }

    pub(super) fn change_command(&self, function: SourceId, change: impl FnOnce(u32) -> u32) {
        let _guard = self.configuration.lock();
        // The upper half is status, where a 1 would clear.
        let command = self.config_read(function, pci::COMMAND) & 0xffff;
        // SAFETY: the function knows no address to read or write that its user has not told it.
        unsafe { self.config_write(function, pci::COMMAND, change(command) & 0xffff) };
    }

    /// Where the CPU sees a configuration register; `None` if there is no way to it.
    pub(super) fn config_register(&self, function: SourceId, offset: u16) -> Option<VolatilePtr<'_, u32>> {
        let register = self.device_at(self.ecam.address(function, offset)?)?;
        // SAFETY: no memory is there, it is mapped uncached, and the address is a multiple of 4.
        Some(unsafe { VolatilePtr::new(register.cast()) })
    }

    /// The registers behind a base address register; `None` if they are out of the CPU's reach.
    ///
    /// # Safety
    ///
    /// `bar` came from [`bar`](Self::bar), or is where a virtual function answers. Whatever is written to the registers makes the device touch no memory that is
    /// Rust's, other than a [`Block`](crate::Block).
    pub unsafe fn registers(&self, bar: Bar) -> Option<Mmio> {
        let first = bar.base.as_u64();
        let last = first.checked_add(bar.bytes.checked_sub(1)?)?;
        for page in (first..=last).step_by(PAGE) {
            self.device_at(page)?;
        }
        let first = self.device_at(first)?;
        // SAFETY: all of it is mapped; what the device does is the caller's promise.
        Some(unsafe { Mmio::new(first, bar.bytes) })
    }

    /// Where the CPU sees the device register at `at`. `None` if that is memory, whatever the firmware says, or out of
    /// the CPU's reach.
    pub(super) fn device_at(&self, at: u64) -> Option<NonNull<u8>> {
        if is_memory(self.boot.map, at) { None } else { self.map.device(at, &self.frames) }
    }
}
