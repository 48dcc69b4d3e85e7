//! Links the scenarios for a bare PC.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../linker/pc.ld");
    // On the host the scenarios are only checked, and link like any program.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{}/../linker/pc.ld", env!("CARGO_MANIFEST_DIR"));
    }
}
