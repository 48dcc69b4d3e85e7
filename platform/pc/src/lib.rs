//! A bare x86-64 PC under the driver: what a scenario needs to run on it, and no more.
//!
//! - `boot`: the entries for PVH and for multiboot2, and what the loader tells
//! - `exceptions`, `serial`, `screen`, `exit`: how a run speaks and ends
//! - `clock`: nanoseconds
//! - `memory`: frames, blocks, and how the CPU sees them
//! - `acpi`, `pci`, `mmio`: the firmware's tables, configuration space, registers
//! - `apic`, `cpus`: interrupt controllers; the other CPUs, and which interrupts each has taken
//! - `sleep`: suspend to RAM, until the real-time clock wakes the machine
//! - `stack`: how much of it something takes
//! - `pc`: all of it as one value, with the driver's `Hal` over it
//!
//! ```no_run
//! # #![cfg_attr(target_os = "none", no_std, no_main)]
//! use cofferdam_pc::{Pc, entry, println};
//!
//! fn run(pc: &'static Pc) -> u32 {
//!     println!("{} MiB", pc.memory_bytes() >> 20);
//!     0x10
//! }
//!
//! entry!(run);
//! ```
#![cfg_attr(not(test), no_std)]
// On the host only the logic is built and tested: nothing starts there, so nothing calls it.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

mod acpi;
mod apic;
mod boot;
mod clock;
mod cpus;
mod error;
mod exceptions;
mod exit;
#[cfg(not(target_os = "none"))]
#[doc(hidden)]
pub mod fuzz;
mod memory;
mod mmio;
mod pc;
mod pci;
mod screen;
mod serial;
mod sleep;
mod stack;

pub use acpi::{AcpiError, Dmar, Fadt, Hpet, Ivrs, Madt, Mcfg, Spcr};
pub use apic::IoApic;
pub use boot::{MappedRange, MemoryKind};
pub use clock::ClockTrust;
pub use cpus::{Cpus, TscSkew};
pub use error::BootError;
pub use exit::exit;
pub use memory::Block;
pub use mmio::Mmio;
pub use pc::Pc;
pub use pci::Bar;
pub use screen::show;
pub use serial::{Serial, SerialPort};
pub use stack::stack_depth;

/// Makes a function `fn(&'static Pc) -> u32` what runs on the PC; what it returns is the status that the run ends with.
///
/// On the host it makes a program that does nothing, so that scenarios can be checked there.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn cofferdam_main(pc: &'static $crate::Pc) -> u32 {
            let run: fn(&'static $crate::Pc) -> u32 = $run;
            run(pc)
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn(&'static $crate::Pc) -> u32 = $run;
        }
    };
}
