//! What the README shows is what runs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let (readme, example) = (include_str!("../README.md"), include_str!("../examples/partitioning.rs"));
    let (_, part) = example.split_once("// The README shows this part.\n").unwrap();
    let (part, _) = part.split_once("// Up to here.\n").unwrap();
    assert!(readme.contains(part.trim_end()), "copy the part of the example between its two marks");
}
