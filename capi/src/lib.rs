//! The C interface of `cofferdam`: a static library, and the header `include/cofferdam.h`, which documents every call.
//!
//! One front an image, in a static. What the driver needs from the machine are C functions that the client defines
//! (`platform`). A call is a few lines here: it takes C's arguments, makes the driver's own types of them, and makes a code
//! and a flat struct of what came of it.
//!
//! - `calls`: every call, a file a subject
//! - `flat`: what crosses the interface, and how it becomes the driver's types
//! - `front`, `edits`, `platform`, `failure`: the front, room for edits, the client's functions, and what goes wrong
//!
//! `cargo xtask header` compares the header with these files.
#![cfg_attr(target_os = "none", no_std)]
#![allow(unreachable_pub, reason = "what the header declares is reached by its symbol, not by its path")]
#![allow(
    clippy::result_large_err,
    reason = "a failure is reported where the call ends, and there is no heap to put it on"
)]

mod calls;
mod edits;
mod failure;
mod flat;
mod front;
#[cfg(target_os = "none")]
mod memcmp;
mod platform;
#[cfg(test)]
mod tests;

/// Nothing in the library panics (`cargo xtask panics`), so a linker that leaves out what nobody calls leaves this out.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
