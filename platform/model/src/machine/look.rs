//! What a test sees and does that neither the driver nor a device does: memory, messages, time.
#![forbid(unsafe_code)]

use cofferdam::addr::PhysAddr;

use crate::machine::assembly::Machine;

impl Machine {
    /// Reads the memory of cells, or of the driver, as the CPU sees it.
    pub fn peek(&self, address: PhysAddr, buffer: &mut [u8]) {
        self.state().board.fetch(address.as_u64(), buffer);
    }

    /// Writes the memory of cells.
    pub fn poke(&self, address: PhysAddr, bytes: &[u8]) {
        self.state().board.ram.write(address.as_u64(), bytes);
    }

    /// Frames that the driver holds.
    pub fn frames_in_use(&self) -> usize {
        self.state().board.memory.in_use()
    }

    /// The address of each frame that the driver holds, and the words in it, as the CPU sees them.
    pub fn snapshot(&self) -> Vec<(u64, Vec<u64>)> {
        self.state().board.memory.snapshot(self.arena.address(0))
    }

    /// Messages that units and devices have sent so far and that got through: address and data.
    pub fn messages(&self) -> Vec<(u64, u32)> {
        self.state().board.journal.messages.clone()
    }

    /// Lets time pass.
    pub fn pass(&self, ns: u64) {
        self.state().tick(ns);
    }
}
