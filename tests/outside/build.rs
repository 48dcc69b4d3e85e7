//! Links the image that boots: where it runs, so that nothing is relocated when it is loaded. Its linker keeps what it has filled
//! in, so that each address in it is known.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../../linker/pc.ld");
    let script = format!("-T{}/../../linker/pc.ld", env!("CARGO_MANIFEST_DIR"));
    for arg in [&script, "-no-pie", "--emit-relocs"] {
        println!("cargo:rustc-link-arg-bin=cofferdam-outside-boot={arg}");
    }
}
