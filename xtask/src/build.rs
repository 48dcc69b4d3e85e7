//! `cargo xtask build`: the driver alone and every image, for the bare machine.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::{Verdict, bare_metal::BUILD_LIMIT, process, setup};

pub fn verb() -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let rust = setup::ensure(None)?.rust;
    println!("Rust for bare metal: {rust}");
    // By itself, as a hypervisor links it: among the images other packages would add to its features.
    let mut driver = rust.build();
    driver.args(["--package", "cofferdam"]);
    process::quietly("Building the driver", &mut driver, BUILD_LIMIT)?;
    println!("The driver builds.");
    let bins: BTreeSet<_> = matrix.scenarios.iter().map(|scenario| scenario.bin()).collect();
    for (name, path) in rust.images(&Vec::from_iter(bins))? {
        println!("{name}: {}", path.display());
    }
    Ok(Verdict::Held)
}
