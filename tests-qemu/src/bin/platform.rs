//! The platform itself: what the other scenarios stand on.
#![cfg_attr(target_os = "none", no_std, no_main)]

use cofferdam_pc::{Pc, entry, println};
use cofferdam_report::EXIT_OK;

entry!(run);

fn run(pc: &'static Pc) -> u32 {
    println!("{} MiB, {} MHz, {:?}", pc.memory_bytes() >> 20, pc.tsc_hz() / 1_000_000, pc.command_line());
    EXIT_OK
}
