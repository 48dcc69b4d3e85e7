//! What devices reach, and what is in memory.
#![forbid(unsafe_code)]

use cofferdam::addr::{Iova, PhysAddr, SourceId};
use cofferdam_model::Machine;

/// What a device finds at an address, if it reaches it.
pub fn read(machine: &Machine, device: SourceId, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    machine.dma_read(device, Iova::new(at), &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Has a device write; true if it reaches memory.
pub fn write(machine: &Machine, device: SourceId, at: u64, value: u64) -> bool {
    machine.dma_write(device, Iova::new(at), &value.to_le_bytes()).is_ok()
}

/// What a device with a device-TLB finds at an address, if it reaches it.
pub fn ats_read(machine: &Machine, device: SourceId, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    machine.ats_read(device, Iova::new(at), &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Has a device with a device-TLB write; true if it reaches memory.
pub fn ats_write(machine: &Machine, device: SourceId, at: u64, value: u64) -> bool {
    machine.ats_write(device, Iova::new(at), &value.to_le_bytes()).is_ok()
}

/// A word of memory, as the CPU sees it.
pub fn peek(machine: &Machine, at: u64) -> u64 {
    let mut bytes = [0; 8];
    machine.peek(PhysAddr::new(at), &mut bytes);
    u64::from_le_bytes(bytes)
}

/// Sets a word of memory, as the CPU does.
pub fn poke(machine: &Machine, at: u64, value: u64) {
    machine.poke(PhysAddr::new(at), &value.to_le_bytes());
}
