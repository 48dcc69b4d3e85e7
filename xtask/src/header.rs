//! `cargo xtask header`: whether the header for C says what the library is.

mod assertions;
mod declared;
mod rust;

use std::{collections::BTreeSet, io::Write, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::{
    Verdict,
    process::{self, Streams},
    setup, show,
};
use rust::Interface;

/// The header, the library behind it, and the numbers of the driver's errors.
const HEADER: &str = "capi/include/cofferdam.h";
const LIBRARY: &str = "capi/src";
const CODES: &str = "src/iommu/error/code.rs";

/// How the names of the functions begin that a client defines.
const PLATFORM: &str = "cofferdam_platform_";
/// Where clients read how the library is used.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/guide/c.md"];

/// How what is behind it is compiled.
const C: [&str; 3] = ["-x", "c", "-std=gnu11"];
const LIMIT: Duration = Duration::from_secs(60);

/// How clients compile it, and that no warning is left.
const STANDARDS: [&[&str]; 4] = [
    &["-x", "c", "-std=c99", "-pedantic"],
    &["-x", "c", "-std=c11", "-pedantic"],
    &["-x", "c", "-std=gnu17"],
    &["-x", "c++", "-std=c++11", "-pedantic"],
];

pub fn verb() -> Result<Verdict> {
    setup::ensure_cc()?;
    let wrong = check(&crate::root())?;
    println!("{} the header says what the library is", show::mark(wrong.is_empty()));
    wrong.iter().for_each(|wrong| println!("       {wrong}"));
    if !has_cplusplus() {
        println!("{} the header as C++, for which there is no compiler (c++)", show::left_out());
    }
    Ok(if wrong.is_empty() { Verdict::Held } else { Verdict::Failed })
}

/// The functions that the header declares.
pub struct Functions {
    /// What the library has.
    pub calls: BTreeSet<String>,
    /// What a client defines.
    pub platform: BTreeSet<String>,
}

/// Reads them.
///
/// # Errors
///
/// There is no header.
pub fn functions(root: &Path) -> Result<Functions> {
    let all = declared::functions(&read(root, HEADER)?);
    let (platform, calls) = all.into_iter().partition(|name| name.starts_with(PLATFORM));
    Ok(Functions { calls, platform })
}

fn read(root: &Path, file: &str) -> Result<String> {
    std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))
}

/// What the header has and the library has not, or the other way; a line each.
fn check(root: &Path) -> Result<Vec<String>> {
    let header = read(root, HEADER)?;
    let interface = Interface::read(&root.join(LIBRARY), &root.join(CODES))?;
    let mut wrong = names(&header, &interface);
    if wrong.is_empty() {
        wrong = compiled(&root.join(HEADER), &assertions::of(&interface))?;
    }
    for document in DOCUMENTS {
        let found = snippets(&read(root, document)?);
        if found.is_empty() {
            wrong.push(format!("{document} has no C"));
        }
        for snippet in found {
            let wrong_there = errors(&C, &root.join(HEADER), &snippet)?;
            wrong.extend(wrong_there.iter().map(|why| format!("{document}: {why}")));
        }
    }
    Ok(wrong)
}

/// Names that only one of the two has.
fn names(header: &str, interface: &Interface) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, declared: BTreeSet<String>, known: BTreeSet<String>| {
        let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| Vec::from_iter(one.difference(other).cloned());
        wrong.extend(only(&declared, &known).iter().map(|name| format!("the library has no {what} {name}")));
        wrong.extend(only(&known, &declared).iter().map(|name| format!("the header has no {what} {name}")));
    };
    compare("function", declared::functions(header), interface.functions.keys().cloned().collect());
    compare("constant", declared::constants(header), interface.constants.keys().cloned().collect());
    let fields = interface
        .structs
        .iter()
        .flat_map(|(name, fields)| fields.iter().map(move |(field, _)| format!("{name}.{field}")));
    compare("field", declared::fields(header), fields.collect());
    wrong
}

/// What the compiler says of the header alone, and of the assertions about it.
fn compiled(header: &Path, assertions: &str) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for flags in STANDARDS.iter().filter(|flags| !flags.contains(&"c++") || has_cplusplus()) {
        wrong.extend(errors(flags, header, "")?);
    }
    wrong.extend(errors(&C, header, assertions)?);
    Ok(wrong)
}

fn has_cplusplus() -> bool {
    which::which("c++").is_ok()
}

/// What a compiler says of the header, and of what is behind it.
fn errors(flags: &[&str], header: &Path, behind: &str) -> Result<Vec<String>> {
    let mut source = NamedTempFile::new()?;
    write!(source, "#include \"{}\"\n{behind}", header.display())?;
    let mut cc = Command::new("cc");
    cc.args(flags).args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]).arg(source.path());
    let mut lines = Vec::new();
    let ending = process::watch(&mut cc, Streams::Merged, LIMIT, |line| lines.push(line.text))?;
    let errors = lines.iter().filter_map(|line| line.split_once("error: ").map(|(_, why)| why.to_owned()));
    let errors = Vec::from_iter(errors);
    if !ending.success() && errors.is_empty() {
        bail!("{}\nthis failed: {}", lines.join("\n"), process::words(&cc));
    }
    Ok(errors)
}

/// The pieces of C in a document.
fn snippets(document: &str) -> Vec<String> {
    let pieces = document.split("```c\n").skip(1);
    pieces.filter_map(|piece| Some(piece.split_once("```")?.0.replace("#include \"cofferdam.h\"", ""))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real() -> (String, Interface) {
        let root = crate::root();
        let interface = Interface::read(&root.join(LIBRARY), &root.join(CODES)).unwrap();
        (std::fs::read_to_string(root.join(HEADER)).unwrap(), interface)
    }

    #[test]
    fn the_header_says_what_the_library_is() {
        assert_eq!(check(&crate::root()).unwrap(), [""; 0]);
    }

    #[test]
    fn a_name_that_only_one_has_is_named() {
        let (header, interface) = real();
        for (from, to, reported) in [
            ("cofferdam_mute(", "cofferdam_muted(", "the library has no function cofferdam_muted"),
            ("COFFERDAM_READ = 1", "COFFERDAM_READS = 1", "the header has no constant COFFERDAM_READ"),
            ("uint32_t entry;", "uint32_t index;", "the header has no field cofferdam_edit.entry"),
            (
                "uint8_t posted;",
                "uint8_t posted;\n\tuint8_t more;",
                "the library has no field cofferdam_routed_interrupt.more",
            ),
        ] {
            assert!(header.contains(from), "{from}");
            let wrong = names(&header.replacen(from, to, 1), &interface);
            assert!(wrong.iter().any(|wrong| wrong == reported), "{reported}: {wrong:?}");
        }
    }

    #[test]
    fn what_differs_is_named_by_the_compiler() {
        let (header, interface) = real();
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("cofferdam.h");
        for (from, to, reported) in [
            ("COFFERDAM_WRITE = 2", "COFFERDAM_WRITE = 4", "COFFERDAM_WRITE is 2"),
            ("COFFERDAM_ERROR_BUSY = 16", "COFFERDAM_ERROR_BUSY = 17", "COFFERDAM_ERROR_BUSY is 16"),
            ("uint16_t queue_slots;", "uint32_t queue_slots;", "cofferdam_options.queue_slots"),
            (
                "\tuint64_t input;           /* the address that devices use */\n\tuint64_t output;",
                "\tuint64_t output;\n\tuint64_t input;",
                "cofferdam_edit.input",
            ),
            (
                "cofferdam_mute(cofferdam_device device, int32_t",
                "cofferdam_mute(cofferdam_device device, int16_t",
                "cofferdam_mute",
            ),
            ("uint8_t order);", "uint16_t order);", "cofferdam_platform_allocate"),
        ] {
            assert!(header.contains(from), "{from}");
            std::fs::write(&path, header.replacen(from, to, 1)).unwrap();
            let wrong = compiled(&path, &assertions::of(&interface)).unwrap();
            assert!(wrong.iter().any(|wrong| wrong.contains(reported)), "{reported}: {wrong:?}");
        }
    }
}
