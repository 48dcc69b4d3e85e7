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
    "x::closure": "sub rsp, 24", "add rsp, 24", "ret";
    // Whoever calls it hands it a table of what it is to call.
    "x::by_table": "jmp [rdi + 32]";
    "x::by_pointer": "jmp rdi";
    "core::ops::function::FnOnce::call_once{{{{vtable.shim}}}}": "sub rsp, 72", "add rsp, 72", "ret";
    // The client's own, which calls what its user gave it.
    "cofferdam_outside::each": "push rbx", "call [rdi + 32]", "pop rbx", "ret";
}

// As of a closure: it is called by its fifth entry. The fourth is never called.
core::arch::global_asm!(
    ".pushsection .data.rel.ro, \"aw\", @progbits",
    ".balign 8",
    ".quad 0, 0, 1, \"x::cheapest\", \"x::closure\"",
    ".quad 0, 0, 1, \"core::ops::function::FnOnce::call_once{{{{vtable.shim}}}}\", \"x::closure\"",
    "table:",
    ".popsection",
);

#[cfg(not(unbounded))]
functions! { "x::all": "jmp \"x::parts\""; }
#[cfg(unbounded)]
functions! { "x::all": "call \"x::all\"", "jmp \"x::parts\""; }

// With two return addresses 24 bytes, and 8 times 80 for what it calls, less one return address.
#[cfg(not(large))]
functions! { "call_commit": "push rbx", "call \"x::cheapest\"", "call \"x::all\"", "pop rbx", "ret"; }
#[cfg(large)]
functions! { "call_commit": "sub rsp, 1408", "call \"x::cheapest\"", "call \"x::all\"", "add rsp, 1408", "ret"; }
// Two return addresses, a frame of 16 bytes, and one of 24.
functions! { "call_faults": "sub rsp, 16", "lea rdi, [rip + table - 80]", "call \"x::by_table\"", "add rsp, 16", "ret"; }
// The same, for neither a function that takes a closure by value nor one of the client leads to more.
functions! {
    "call_units": "sub rsp, 16", "lea rdi, [rip + table - 40]", "call \"x::by_pointer\"", "call \"cofferdam_outside::each\"",
        "add rsp, 16", "ret";
}
