//! `cargo xtask panics`: shows that no call of the driver can panic.

mod uncalled;

pub use uncalled::uncalled;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use anyhow::{Result, bail};
use iced_x86::{FlowControl, Instruction};

use crate::{
    Verdict,
    image::{Image, Place, Symbol},
    setup, show,
};

/// What the panic handler of `tests-qemu/no-panic` leads to: in an image only if something leads there.
const TRACE: &str = "cofferdam_has_a_panic_path";

/// The programs, and what each makes sure of.
const PROGRAMS: [(&str, &str); 3] = [
    ("driver", "every call, with any capacities"),
    ("by_reference", "every call, on a platform by reference"),
    ("words", "whatever the driver says in words"),
];
/// The program with one panic path, and what that path is.
const PLANTED: (&str, &str, &str) = ("planted", "tests-qemu/no-panic/src/bin/planted.rs", "panic_bounds_check");

/// An instruction that leads to a panic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PanicPath {
    /// Its line: the innermost of the driver, else of this repository, else of all.
    place: Place,
    /// The function of the standard library that panics.
    calls: String,
}

impl fmt::Display for PanicPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls {}", self.place, self.calls)
    }
}

pub fn verb() -> Result<Verdict> {
    let rust = setup::ensure_rust()?;
    println!("Rust for bare metal: {rust}");
    let (planted, file, calls) = PLANTED;
    let names: Vec<_> = PROGRAMS.iter().map(|(name, _)| *name).chain([planted]).collect();
    let mut found = BTreeMap::new();
    for (name, path) in rust.never_run(&names)? {
        found.insert(name, panic_paths(&path)?);
    }
    // Who does not see the one that is there has not shown that there are none elsewhere.
    match found.remove(planted).as_deref() {
        Some([only]) if only.place.file == crate::root().join(file) && only.calls.ends_with(calls) => {}
        other => bail!("{file} has one panic path, {calls}, but this was seen: {other:?}"),
    }
    let mut verdict = Verdict::Held;
    for (name, what) in PROGRAMS {
        let Some(paths) = found.get(name) else { bail!("cargo built no program {name}") };
        println!("{} {name}: {what}", show::mark(paths.is_empty()));
        for path in paths {
            println!("       {path}");
            verdict = Verdict::Failed;
        }
    }
    let root = crate::root();
    let uncalled = uncalled(&root.join("src"), "", &root.join("tests-qemu/no-panic/src"))?;
    println!("{} each public function is called, and each Display is used", show::mark(uncalled.is_empty()));
    for name in &uncalled {
        println!("       nothing in tests-qemu/no-panic calls {name}");
        verdict = Verdict::Failed;
    }
    println!("The panic path that is planted in {file} was found.");
    Ok(verdict)
}

fn panic_paths(path: &Path) -> Result<Vec<PanicPath>> {
    let image = Image::read(path)?;
    let symbols = image.symbols()?;
    if !symbols.values().any(|symbol| symbol.name == TRACE) {
        return Ok(Vec::new());
    }
    let instructions = image.instructions()?;
    let mut paths = BTreeSet::new();
    for (address, callee) in calls_into_panicking(&instructions, &symbols) {
        // Where the optimiser made one call of several it has lost their lines, but not those of the branches to it.
        let mut sites = vec![image.places(address)?];
        for branch in branches_to(&instructions, address) {
            sites.push(image.places(branch)?);
        }
        for place in worth_telling(&sites, &crate::root()) {
            paths.insert(PanicPath { place: place.clone(), calls: callee.to_owned() });
        }
    }
    if paths.is_empty() {
        bail!("{} holds {TRACE}, but no call leads there", path.display());
    }
    Ok(Vec::from_iter(paths))
}

/// Of each site the innermost line of the driver; if no site has any, the first line of the repository, or else of all.
fn worth_telling<'a>(sites: &'a [Vec<Place>], root: &Path) -> Vec<&'a Place> {
    let of_driver = |places: &'a Vec<Place>| places.iter().find(|place| place.file.starts_with(root.join("src")));
    let found: Vec<_> = sites.iter().filter_map(of_driver).collect();
    if !found.is_empty() {
        return found;
    }
    let ours = sites.iter().flatten().find(|place| place.file.starts_with(root));
    Vec::from_iter(ours.or(sites.iter().flatten().next()))
}

/// The calls and jumps from functions that do something else to functions that only panic.
fn calls_into_panicking<'a>(instructions: &[Instruction], symbols: &'a BTreeMap<u64, Symbol>) -> Vec<(u64, &'a str)> {
    let at = |address| symbols.range(..=address).next_back().map(|(_, symbol)| symbol.name.as_str());
    let leads = instructions.iter().filter(|it| {
        use FlowControl::{Call, ConditionalBranch, UnconditionalBranch};
        matches!(it.flow_control(), Call | ConditionalBranch | UnconditionalBranch)
    });
    let named = leads.filter_map(|it| Some((it.ip(), at(it.ip())?, at(it.near_branch_target())?)));
    named.filter(|(_, from, to)| only_panics(to) && !only_panics(from)).map(|(ip, _, to)| (ip, to)).collect()
}

/// The branches to the instructions that end in this one.
fn branches_to(instructions: &[Instruction], address: u64) -> impl Iterator<Item = u64> {
    let before = instructions.iter().rev().skip_while(move |it| it.ip() >= address);
    let block = before.take_while(|it| it.flow_control() == FlowControl::Next).last();
    let block = block.map_or(address, Instruction::ip)..=address;
    instructions.iter().filter(move |it| block.contains(&it.near_branch_target())).map(Instruction::ip)
}

/// True for the functions of the standard library that do nothing but panic, as they are named there.
pub fn only_panics(name: &str) -> bool {
    let plain = name.split("::<").next().unwrap_or(name);
    let last = plain.rsplit("::").next().unwrap_or(plain);
    name == TRACE
        || last == "rust_begin_unwind"
        || name.starts_with("core::panicking::")
        || name.starts_with("core::") && (last.contains("fail") || last.contains("panic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_panics_is_known_by_its_name() {
        for name in [
            TRACE,
            "__rustc::rust_begin_unwind",
            "core::panicking::panic_const::panic_const_div_by_zero",
            "core::panicking::assert_failed::<usize, usize>",
            "core::slice::index::slice_index_fail",
            "core::str::slice_error_fail_rt",
            "core::option::unwrap_failed",
            "core::result::unwrap_failed",
            "core::option::expect_failed",
            "core::cell::panic_already_borrowed",
        ] {
            assert!(only_panics(name), "{name}");
        }
        for name in [
            "<str as core::fmt::Debug>::fmt",
            "cofferdam::vtd::unit::Unit::fail",
            "<core::fmt::Formatter>::debug_struct_fields_finish",
            "cofferdam_no_panic::anything::any_number",
        ] {
            assert!(!only_panics(name), "{name}");
        }
    }

    #[test]
    fn the_innermost_line_of_the_driver_is_shown() {
        let place = |file: &str| Place { function: "f".into(), file: file.into(), line: 1 };
        let core = || place("/rustc/core/src/slice.rs");
        let told = |sites: &[Vec<Place>]| {
            let told = worth_telling(sites, Path::new("/here"));
            told.iter().map(|place| place.file.display().to_string()).collect::<Vec<_>>()
        };
        let driver = vec![core(), place("/here/src/vtd/unit.rs"), place("/here/src/iommu.rs")];
        let program = vec![core(), place("/here/tests-qemu/no-panic/src/calls.rs")];
        assert_eq!(told(&[program.clone(), driver]), ["/here/src/vtd/unit.rs"]);
        assert_eq!(told(&[vec![core()], program]), ["/here/tests-qemu/no-panic/src/calls.rs"]);
        assert_eq!(told(&[vec![core()]]), ["/rustc/core/src/slice.rs"]);
        assert!(told(&[Vec::new()]).is_empty());
    }

    #[test]
    fn only_the_call_that_leaves_ordinary_code_counts() {
        use iced_x86::{Decoder, DecoderOptions};
        // 0x1000 f: call g, jmp h; 0x100a core's g: jmp h; 0x100f h: ud2
        let code = b"\xe8\x05\0\0\0\xe9\x05\0\0\0\xe9\0\0\0\0\x0f\x0b";
        let instructions: Vec<_> = Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).iter().collect();
        let kind = object::SectionKind::Text;
        let symbol = |address, name: &str| (address, Symbol { name: name.into(), bytes: 0, kind });
        let symbols = BTreeMap::from([
            symbol(0x1000, "cofferdam::f"),
            symbol(0x100a, "core::option::unwrap_failed"),
            symbol(0x100f, "core::panicking::panic_fmt"),
        ]);
        let seen = calls_into_panicking(&instructions, &symbols);
        assert_eq!(Vec::from_iter(branches_to(&instructions, 0x100f)), [0x1005, 0x100a]);
        assert_eq!(seen, [(0x1000, "core::option::unwrap_failed"), (0x1005, "core::panicking::panic_fmt")]);
    }
}
