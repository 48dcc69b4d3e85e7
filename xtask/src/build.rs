//! `cargo xtask build`: the driver alone and every image, for the bare machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Result;

use crate::{
    Verdict,
    bare_metal::{BUILD_LIMIT, Toolchain},
    c,
    matrix::Scenario,
    process, setup,
};

pub fn verb() -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let rust = setup::ensure(None)?.rust;
    println!("Rust for bare metal: {rust}");
    // By itself, as a hypervisor links it: among the images other packages would add to its features.
    let mut driver = rust.build();
    driver.args(["--package", "cofferdam"]);
    process::quietly("Building the driver", &mut driver, BUILD_LIMIT)?;
    println!("The driver builds.");
    for (name, path) in images(&rust, &matrix.scenarios)? {
        println!("{name}: {}", path.display());
    }
    Ok(Verdict::Held)
}

/// Builds the images of some scenarios, and says where each is.
///
/// # Errors
///
/// One does not build.
pub fn images<'a>(
    rust: &Toolchain,
    scenarios: impl IntoIterator<Item = &'a Scenario>,
) -> Result<BTreeMap<String, PathBuf>> {
    let (in_c, in_rust): (BTreeSet<_>, BTreeSet<_>) =
        scenarios.into_iter().map(|scenario| (scenario.c, scenario.bin())).partition(|(c, _)| *c);
    let bins: Vec<_> = in_rust.into_iter().map(|(_, bin)| bin).collect();
    let mut images = if bins.is_empty() { BTreeMap::new() } else { rust.images(&bins)? };
    if !in_c.is_empty() {
        let kernel = c::kernel(&c::library(rust)?)?;
        images.extend(in_c.into_iter().map(|(_, bin)| (bin.to_owned(), kernel.clone())));
    }
    Ok(images)
}
