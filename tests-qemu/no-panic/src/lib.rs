//! What the programs of this package have in common: values that the optimiser knows nothing about, a platform made of
//! such values, the driver's calls with such values, and a panic handler that leaves a trace.
//!
//! The programs are linked and never run. If any instruction of one can lead to a panic, the image holds
//! `cofferdam_has_a_panic_path`; if none can, the linker has left that symbol out. `cargo xtask panics` looks for it.
#![no_std]

mod anything;
pub mod calls;
mod platform;

pub use anything::{any, any_memory, any_mut, any_number, show};
pub use platform::Platform;

#[cfg(target_os = "none")]
mod trace {
    // Assembly, in a section of its own: the optimiser cannot look inside, the linker can leave it out.
    core::arch::global_asm!(
        ".pushsection .text.cofferdam_has_a_panic_path, \"ax\", @progbits",
        ".globl cofferdam_has_a_panic_path",
        ".type cofferdam_has_a_panic_path, @function",
        "cofferdam_has_a_panic_path:",
        "ud2",
        ".size cofferdam_has_a_panic_path, . - cofferdam_has_a_panic_path",
        ".popsection",
    );

    unsafe extern "C" {
        safe fn cofferdam_has_a_panic_path() -> !;
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        cofferdam_has_a_panic_path()
    }
}

/// Makes a function `fn()` the whole of a program.
///
/// On the host it makes a program that does nothing, so that the programs can be checked there.
#[macro_export]
macro_rules! program {
    ($run:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn _start() -> ! {
            loop {
                $run();
            }
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn() = $run;
        }
    };
}
