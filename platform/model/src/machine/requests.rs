//! What a test has devices do: read, write and interrupt, now or later.
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, SourceId};

use crate::devices::late::{Late, LateWrite};
use crate::devices::peers;
use crate::fault::Fault;
use crate::machine::assembly::Machine;
use crate::unit::INTERRUPTS;

impl Machine {
    /// A device reads memory. Nothing is read if a page of it is refused.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.dma(source, at, false))
    }

    /// A device writes memory. Nothing is written if a page of it is refused. A write of 4 bytes to the interrupt range
    /// (0xFEEx_xxxx) is an interrupt request and not translated (section 3.15): see [`interrupt`](Self::interrupt).
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn dma_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        let state = &mut *self.state();
        match <[u8; 4]>::try_from(bytes) {
            Ok(data) if INTERRUPTS.contains(&address.as_u64()) => {
                state.interrupt(source, address.as_u64(), u32::from_le_bytes(data)).map(drop)
            }
            _ => state.transfer_out(address, bytes, |state, at| state.dma(source, at, true)),
        }
    }

    /// A device, an IOAPIC or an HPET sends an interrupt request. Returns the message that the interrupt controllers get,
    /// in compatibility format, with bits 31:8 of the destination in bits 63:40 of the address: for one that is posted, the one
    /// that says so, or (0, 0) if that says nothing.
    ///
    /// # Errors
    ///
    /// Interrupt remapping blocks it, and why.
    pub fn interrupt(&self, source: SourceId, address: u32, data: u32) -> Result<(u64, u32), Fault> {
        self.state().interrupt(source, address.into(), data)
    }

    /// A device with a device-TLB reads memory: at the physical address that it has cached, or else requests.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_read(&self, source: SourceId, address: Iova, buffer: &mut [u8]) -> Result<(), Fault> {
        self.state().transfer_in(address, buffer, |state, at| state.ats(source, at, false))
    }

    /// A device with a device-TLB writes memory.
    ///
    /// # Errors
    ///
    /// The first address that is refused, and why.
    pub fn ats_write(&self, source: SourceId, address: Iova, bytes: &[u8]) -> Result<(), Fault> {
        self.state().transfer_out(address, bytes, |state, at| state.ats(source, at, true))
    }

    /// Has a device write so many nanoseconds later; `late` says where the write is until then. The device is one with
    /// the PCI Express capability.
    pub fn write_late(&self, source: SourceId, address: Iova, bytes: &[u8], after_ns: u64, late: Late) {
        let state = &mut *self.state();
        let due = state.board.journal.now + after_ns;
        let write = LateWrite { due, late, address: address.as_u64(), bytes: bytes.to_vec() };
        state.board.devices.of(source).write_late(write);
        state.plan();
    }

    /// True if a request of `from` to memory of `to` is passed on there, as configuration space is now, before it comes to a
    /// unit. ([`dma_write`](Self::dma_write) does not look at this: it puts each request to a unit.)
    pub fn reaches(&self, from: SourceId, to: SourceId) -> bool {
        peers::reaches(&self.state().board.devices, from, to)
    }

    /// The bridge that takes a request of a device to this address for what is behind it, so that it reaches no unit.
    pub fn taken_by(&self, from: SourceId, address: u64) -> Option<SourceId> {
        peers::taken_by(&self.state().board.devices, from, address)
    }
}
