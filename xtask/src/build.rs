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

/// Where the client outside of the workspace is.
pub const OUTSIDE: &str = "tests/outside";

pub fn verb() -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let rust = setup::ensure_rust()?;
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
    let (apart, in_rust): (Vec<&Scenario>, Vec<_>) = scenarios.into_iter().partition(|it| it.c || it.outside);
    let bins = Vec::from_iter(in_rust.into_iter().map(Scenario::bin).collect::<BTreeSet<_>>());
    let mut images = if bins.is_empty() { BTreeMap::new() } else { rust.images(&bins)? };
    for scenario in apart {
        if !images.contains_key(scenario.bin()) {
            let image = if scenario.c { c::kernel(&c::library(rust)?)? } else { outside(rust)? };
            images.insert(scenario.bin().to_owned(), image);
        }
    }
    Ok(images)
}

/// Builds the image of the client outside of the workspace, by the default release profile.
///
/// # Errors
///
/// It does not build.
pub fn outside(rust: &Toolchain) -> Result<PathBuf> {
    rust.outside(OUTSIDE, "release", "cofferdam-outside-boot", "boot")
}
