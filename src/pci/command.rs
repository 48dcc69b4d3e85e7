//! The command register (PCI 3.0, section 6.2.2).

use super::header;
use crate::addr::SourceId;
use crate::hal::Hal;

/// Command in bits 15:0, Status in bits 31:16.
const COMMAND: u16 = 0x04;
/// Bus Master.
const MASTER: u32 = 1 << 2;

/// Takes from a function the right to send requests of its own. What it has sent before may still be under way.
///
/// A bridge keeps it: those of other devices pass there.
pub(crate) fn stop_bus_master(hal: &impl Hal, function: SourceId) {
    if header::is_bridge(hal, function) {
        return;
    }
    let command = hal.config_read(function, COMMAND);
    if command != u32::MAX {
        // Bits of Status are cleared by writing 1: none is.
        let command = command & 0xffff & !MASTER;
        // SAFETY: without the bit the function sends less. The other bits of Command stay as they are.
        unsafe { hal.config_write(function, COMMAND, command) };
        // A read comes back only when the write has arrived.
        let _ = hal.config_read(function, COMMAND);
    }
}
