//! What the README shows is what runs, and what the guide lists is complete.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn the_readme_shows_the_example_as_it_is() {
    let (readme, example) = (include_str!("../README.md"), include_str!("../examples/partitioning.rs"));
    let (_, part) = example.split_once("// The README shows this part.\n").unwrap();
    let (part, _) = part.split_once("// Up to here.\n").unwrap();
    assert!(readme.contains(part.trim_end()), "copy the part of the example between its two marks");
}

/// The names of the front's public calls, as its sources have them.
fn calls_of_the_front(folder: &Path, into: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            calls_of_the_front(&path, into);
            continue;
        }
        let (text, mut of_front) = (fs::read_to_string(&path).unwrap(), false);
        for line in text.lines() {
            of_front = if line.starts_with("impl") { line.contains("> Iommu<") } else { of_front };
            let head = line.strip_prefix("    pub ").filter(|_| of_front).and_then(|rest| rest.split_once("fn "));
            if let Some((_, rest)) = head.filter(|(words, _)| ["", "const ", "unsafe "].contains(words)) {
                into.insert(rest.split('(').next().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn the_guide_says_of_every_call_what_it_waits_for() {
    let mut calls = BTreeSet::new();
    calls_of_the_front(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/iommu"), &mut calls);
    assert!(calls.len() > 50 && calls.contains("hand_back") && calls.contains("forget_unit"), "{calls:?}");
    let guide = include_str!("../docs/guide/concurrency.md");
    let (_, table) = guide.split_once("\n| call | waits for |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for call in calls {
        let named = table.matches(&format!("[`{call}`](crate::Iommu::{call})")).count();
        assert_eq!(named, 1, "how often the table of contexts names {call}");
    }
}
