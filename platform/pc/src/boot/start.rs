//! From the loader to `main`: the entry, and where the image lies.

use core::arch::global_asm;
use core::fmt::Write;
use core::ops::Range;
use core::panic::PanicInfo;

use cofferdam_report::{EXIT_CRASHED, EXIT_FAILED, Record};

use crate::boot::Loader;
use crate::{Pc, Serial, exceptions, exit, println, screen, serial, show};

global_asm!(include_str!("entry.s"), options(att_syntax));

unsafe extern "C" {
    static image_start: u8;
    static stack_bottom: u8;
    static image_end: u8;
}

unsafe extern "Rust" {
    /// What [`entry!`](crate::entry) makes of the scenario's `main`.
    safe fn cofferdam_main(pc: &'static Pc) -> u32;
}

/// The physical memory of the image: guard, stack, code and data. Only the addresses of the linker's symbols count.
fn image() -> Range<u64> {
    (&raw const image_start).addr() as u64..(&raw const image_end).addr() as u64
}

/// The part of the image that is not mapped.
fn guard() -> Range<u64> {
    image().start..stack_bottom_address() as u64
}

/// The lowest address of the boot stack.
pub(crate) fn stack_bottom_address() -> usize {
    (&raw const stack_bottom).addr()
}

/// Called on the boot stack, with the physical address of what the loader tells, by PVH or else by multiboot2.
#[unsafe(no_mangle)]
extern "C" fn pc_start(info_at: u32, is_multiboot2: u32) -> ! {
    serial::init();
    // What the loader had under way on the port may have left a byte.
    println!();
    exceptions::init(guard());
    let loader = if is_multiboot2 == 0 { Loader::Pvh } else { Loader::Multiboot2 };
    match Pc::boot(loader, u64::from(info_at), image()) {
        Ok(pc) => exit(cofferdam_main(pc)),
        Err(error) => {
            let mut text = heapless::String::<256>::new();
            // What does not fit is cut off.
            let _ = write!(text, "{error}");
            let _ = Record::Refused { error: text.as_str() }.write(&mut Serial);
            show(format_args!("This machine cannot be used: {text}\n\nDone. It can be switched off."));
            exit(EXIT_FAILED)
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    serial::break_lock();
    println!("\n{info}");
    screen::break_lock();
    show(format_args!("{info}\n\nIt crashed. The machine can be switched off."));
    exit(EXIT_CRASHED)
}
