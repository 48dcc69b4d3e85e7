//! Links the scenarios for a bare PC.

use std::env;

/// The physical address where images are linked, if not at the usual one.
const BASE: &str = "COFFERDAM_IMAGE_BASE";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../linker/pc.ld");
    println!("cargo:rerun-if-env-changed={BASE}");
    // On the host the scenarios are only checked, and link like any program.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{}/../linker/pc.ld", env!("CARGO_MANIFEST_DIR"));
        if let Ok(base) = env::var(BASE) {
            println!("cargo:rustc-link-arg-bins=--defsym=image_base={base}");
        }
    }
}
