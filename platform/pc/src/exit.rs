//! The end of a run.

use x86_64::instructions::{hlt, interrupts, port::Port};

/// QEMU's `isa-debug-exit`, as `-device isa-debug-exit,iobase=0xf4,iosize=4` places it.
const DEBUG_EXIT: u16 = 0xf4;

/// Ends the run with `status`, which QEMU turns into its own exit status 2 `status` + 1. Where there is no such device,
/// the CPU halts until a reset.
pub fn exit(status: u32) -> ! {
    // SAFETY: the port belongs to that device, or to none.
    unsafe { Port::new(DEBUG_EXIT).write(status) };
    loop {
        interrupts::disable();
        hlt();
    }
}
