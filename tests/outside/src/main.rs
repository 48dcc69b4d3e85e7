//! A hypervisor as it links the driver: one C function for each call of the front, over a platform written in C.
//!
//! It is linked and never run. Whoever calls such a function is unknown, and so is what the platform answers, so the
//! optimiser can leave nothing out; and what each takes of the stack can be summed over its instructions.
#![no_std]
#![no_main]

mod calls;
mod platform;

#[unsafe(no_mangle)]
extern "C" fn _start() {
    calls::keep();
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
