//! Whether the front and its memory lie in `.bss` of clients, where they take no room in an image.

use anyhow::Result;
use object::SectionKind;

use crate::{Verdict, bare_metal::Toolchain, build, c, image::Image, show};

/// The front and its memory in the kernel in C, and in the client outside of the workspace.
const IN_C: [&str; 2] = ["cofferdam_c::front::PLACE", "memory"];
const IN_RUST: [&str; 2] = ["cofferdam_outside_boot::FRONT", "cofferdam_outside_boot::MEMORY"];

/// Looks at both clients.
///
/// # Errors
///
/// One does not build.
pub fn check(rust: &Toolchain) -> Result<Verdict> {
    let mut wrong = misplaced(&Image::read(&c::kernel(&c::library(rust)?)?)?, &IN_C)?;
    wrong.extend(misplaced(&Image::read(&build::outside(rust)?)?, &IN_RUST)?);
    println!("\n{} the front and its memory lie in .bss, from C and from Rust", show::mark(wrong.is_empty()));
    wrong.iter().for_each(|wrong| println!("       {wrong}"));
    Ok(if wrong.is_empty() { Verdict::Held } else { Verdict::Failed })
}

/// Those of these statics that are elsewhere, or not there; a line each.
fn misplaced(image: &Image, names: &[&str]) -> Result<Vec<String>> {
    let symbols = image.symbols()?;
    let mut wrong = Vec::new();
    for name in names {
        match symbols.values().find(|symbol| symbol.name == *name) {
            Some(symbol) if symbol.kind == SectionKind::UninitializedData && symbol.bytes != 0 => {}
            Some(symbol) => wrong.push(format!("{name} lies elsewhere, with all of its {} bytes", symbol.bytes)),
            None => wrong.push(format!("there is no static {name}")),
        }
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_has_a_byte_that_is_not_zero_is_found_in_the_image() {
        let folder = tempfile::TempDir::new().unwrap();
        let (source, image) = (folder.path().join("a.c"), folder.path().join("a"));
        std::fs::write(&source, "char memory[4096]; char front[64] = {1};").unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-nostdlib", "-static", "-Wl,-e,0"]).arg(&source).arg("-o").arg(&image);
        assert!(cc.status().unwrap().success());
        let image = Image::read(&image).unwrap();
        assert_eq!(misplaced(&image, &["memory"]).unwrap(), [""; 0]);
        let wrong = ["front lies elsewhere, with all of its 64 bytes", "there is no static place"];
        assert_eq!(misplaced(&image, &["memory", "front", "place"]).unwrap(), wrong);
    }
}
