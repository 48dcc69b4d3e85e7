//! Stands in for the client of `cargo xtask stack`: a function for each that is bounded there, and one call.
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

macro_rules! functions {
    ($($name:literal: $($line:literal),*;)*) => {
        $(core::arch::global_asm!(
            concat!(".globl \"", $name, "\""),
            concat!(".hidden \"", $name, "\""),
            concat!(".type \"", $name, "\", @function"),
            concat!("\"", $name, "\":"),
            $($line,)*
            concat!(".size \"", $name, "\", . - \"", $name, "\""),
        );)*
    };
}

functions! {
    "x::parts": "call \"x::parts\"", "ret";
    "x::cheapest": "sub rsp, 72", "call \"x::cheapest\"", "add rsp, 72", "ret";
}

#[cfg(not(unbounded))]
functions! { "x::all": "jmp \"x::each\""; }
#[cfg(unbounded)]
functions! { "x::all": "call \"x::all\"", "jmp \"x::each\""; }
functions! {
    "x::each": "jmp \"x::parts\"";
}

// With two return addresses 24 bytes, and 8 times 80 for what it calls, less one return address.
#[cfg(not(large))]
functions! { "call_commit": "push rbx", "call \"x::cheapest\"", "call \"x::all\"", "pop rbx", "ret"; }
#[cfg(large)]
functions! { "call_commit": "sub rsp, 1408", "call \"x::cheapest\"", "call \"x::all\"", "add rsp, 1408", "ret"; }
