//! `cargo xtask layers`: no part of the driver uses what lies above it, no two use each other, no two types of it share a
//! name, and only some files name a vendor.

mod arrow;
pub mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};
use walkdir::WalkDir;

use crate::{Verdict, show};
use arrow::{Arrow, circles};
use tree::Tree;

/// The layers of the driver, from the highest to the lowest. A module uses those of its own layer and those below.
const LAYERS: [&[&str]; 11] = [
    &["iommu", "guide"],
    &["audit", "live"],
    &["cell"],
    &["domain"],
    &["unit"],
    &["vtd", "amd"],
    &["interrupt", "contract", "fault", "invalidation"],
    &["paging"],
    &["topology", "firmware"],
    &["pci"],
    &["hal", "addr", "error", "limits"],
];
/// Modules of one layer that do not know each other.
const STRANGERS: [[&str; 2]; 2] = [["vtd", "amd"], ["amd", "vtd"]];
/// Arrows that run up all the same: from, to, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// The vendors, as they are named in the code.
const VENDORS: [&str; 2] = ["vtd", "amd"];
/// Where they may be named: files, folders, and beginnings of both.
const VENDORS_PLACES: [&str; 9] = [
    "src/lib.rs",
    "src/unit.rs",
    "src/vtd.rs",
    "src/vtd/",
    "src/amd.rs",
    "src/amd/",
    "src/domain/table.rs",
    "src/audit/vtd",
    "src/audit/amd",
];

/// The root modules of the crates whose files may not use each other in a circle. The first is the driver.
const CRATES: [&str; 2] = ["src/lib.rs", "platform/model/src/lib.rs"];

pub fn verb() -> Result<Verdict> {
    let root = crate::root();
    let mut verdict = Verdict::Held;
    let mut part = |what: &str, wrong: &[String]| {
        println!("{} {what}: {} wrong", show::mark(wrong.is_empty()), wrong.len());
        wrong.iter().for_each(|wrong| println!("       {wrong}"));
        if !wrong.is_empty() {
            verdict = Verdict::Failed;
        }
    };
    part("only what may do so names a vendor", &vendors(&root)?);
    for (index, file) in CRATES.iter().enumerate() {
        let tree = Tree::read(&root, Path::new(file))?;
        let arrows = tree.arrows();
        if index == 0 {
            part("no two types share a name", &shared_names(&tree));
            part("no arrow runs up", &runs_up(&arrows, &LAYERS, &EXCEPTIONS));
        }
        let folder = Path::new(file).parent().unwrap_or(Path::new("")).display();
        let circles: Vec<String> = circles(&arrows).iter().map(|circle| in_words(circle)).collect();
        part(&format!("no files of {folder} use each other in a circle"), &circles);
    }
    Ok(verdict)
}

/// The lines that name a vendor where none may be named, comments and tests among them.
fn vendors(root: &Path) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for file in WalkDir::new(root.join("src")).sort_by_file_name() {
        let file = file?;
        let path = file.path().strip_prefix(root).unwrap_or(file.path()).display().to_string();
        if !file.file_type().is_file() || VENDORS_PLACES.iter().any(|place| path.starts_with(place)) {
            continue;
        }
        let text = fs::read_to_string(file.path()).with_context(|| format!("cannot read {path}"))?;
        let lines = text.lines().enumerate().filter(|(_, line)| VENDORS.iter().any(|vendor| line.contains(vendor)));
        wrong.extend(lines.map(|(number, line)| format!("{path}:{}: {}", number + 1, line.trim())));
    }
    Ok(wrong)
}

/// The names that several modules have for a type of their own.
fn shared_names(tree: &Tree) -> Vec<String> {
    let mut places = BTreeMap::<&str, Vec<String>>::new();
    for module in &tree.modules {
        let is_type = |name: &&String| name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase);
        for name in module.items.iter().filter(is_type) {
            places.entry(name).or_default().push(module.file.display().to_string());
        }
    }
    let shared = places.iter().filter(|(_, places)| places.len() > 1);
    shared.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

/// The arrows that run up, or between strangers; modules that have no layer; exceptions that nothing needs.
fn runs_up(arrows: &BTreeSet<Arrow>, layers: &[&[&str]], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let layer = |module: &str| layers.iter().position(|layer| layer.contains(&first(module)));
    let is = |module: &str, prefix: &str| {
        module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let (mut wrong, mut used, mut unknown) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for arrow in arrows {
        let [from, to] = &arrow.modules;
        // The root of the crate is no layer: it declares them, and what it exports is theirs.
        if [&arrow.from, &arrow.to].iter().any(|file| file.ends_with("lib.rs")) {
            continue;
        }
        let (above, below) = match (layer(from), layer(to)) {
            (Some(above), Some(below)) => (above, below),
            (None, _) => {
                unknown.entry(first(from)).or_insert(arrow);
                continue;
            }
            (_, None) => {
                unknown.entry(first(to)).or_insert(arrow);
                continue;
            }
        };
        let strangers = STRANGERS.contains(&[first(from), first(to)]);
        if above > below || strangers {
            match exceptions.iter().position(|(exempt, target, _)| is(from, exempt) && is(to, target)) {
                Some(exception) => drop(used.insert(exception)),
                None => wrong.push(format!(
                    "{arrow}: {} is {} {}",
                    first(from),
                    if strangers { "a stranger to" } else { "below" },
                    first(to)
                )),
            }
        }
    }
    wrong.extend(unknown.iter().map(|(module, arrow)| format!("{arrow}: {module} has no layer")));
    let unused = exceptions.iter().enumerate().filter(|(index, _)| !used.contains(index));
    wrong.extend(unused.map(|(_, (from, to, _))| format!("the exception from {from} to {to} is not needed")));
    wrong
}

/// The first part of a module's path.
fn first(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// A circle: how many files, and the first line of each that uses each other one.
fn in_words(circle: &[&Arrow]) -> String {
    let files: BTreeSet<_> = circle.iter().map(|arrow| &arrow.from).collect();
    let arrows: String = circle.iter().map(|arrow| format!("\n         {arrow}")).collect();
    format!("{} files in a circle:{arrows}", files.len())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn repository(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn arrows(files: &[(&str, &str)]) -> BTreeSet<Arrow> {
        Tree::read(repository(files).path(), Path::new("src/lib.rs")).unwrap().arrows()
    }

    fn told(arrows: &BTreeSet<Arrow>) -> Vec<String> {
        arrows.iter().map(ToString::to_string).collect()
    }

    fn up(files: &[(&str, &str)]) -> Vec<String> {
        runs_up(&arrows(files), &LAYERS, &EXCEPTIONS)
    }

    #[test]
    fn a_vendor_is_named_only_where_it_may_be() {
        let root = repository(&[
            ("src/lib.rs", "mod vtd;"),
            ("src/vtd/unit.rs", "// vtd"),
            ("src/audit/vtd.rs", "use crate::vtd;"),
            ("src/domain/table.rs", "use crate::vtd;"),
            ("src/domain.rs", "mod table;\n\n/// As amd has it.\nuse crate::vtd::A;\n// VT-d, AMD\n"),
        ]);
        let wrong = vendors(root.path()).unwrap();
        assert_eq!(wrong, ["src/domain.rs:3: /// As amd has it.", "src/domain.rs:4: use crate::vtd::A;"]);
    }

    #[test]
    fn an_arrow_leads_to_where_a_name_is_defined() {
        let arrows = arrows(&[
            ("src/lib.rs", "mod hal; mod pci; pub use hal::Frame;"),
            ("src/hal.rs", "mod frame;\npub use frame::{Frame, Page as Sheet};\npub struct Own;"),
            ("src/hal/frame.rs", "pub struct Frame; pub struct Page;"),
            (
                "src/pci.rs",
                "use crate::hal::Own;\nuse crate::Frame;\nfn f() -> crate::hal::Sheet { x(|| hal::no()) }\nuse core::fmt;",
            ),
        ]);
        let frame = "uses src/hal/frame.rs";
        let wanted = ["1 uses src/hal.rs".to_owned(), format!("2 {frame}"), format!("3 {frame}")];
        assert_eq!(told(&arrows), wanted.map(|it| format!("src/pci.rs:{it}")));
    }

    #[test]
    fn an_inline_module_may_name_the_folder_of_its_files() {
        let files = [
            ("src/lib.rs", "mod pci;\n#[path = \"pci\"]\nmod live { mod a; pub use a::A; }"),
            ("src/pci.rs", "use crate::live::A;"),
            ("src/pci/a.rs", "mod b;\npub struct A;"),
            ("src/pci/a/b.rs", "use crate::pci;"),
        ];
        let told = told(&arrows(&files));
        assert_eq!(told, ["src/pci/a/b.rs:1 uses src/pci.rs", "src/pci.rs:1 uses src/pci/a.rs"]);
    }

    #[test]
    fn what_is_imported_inline_by_glob_or_in_a_macro_is_seen() {
        let arrows = arrows(&[
            ("src/lib.rs", "mod hal; mod pci; mod addr;"),
            ("src/hal.rs", "pub struct Frame; pub mod inner { pub use crate::addr::*; }"),
            ("src/addr.rs", "pub struct Iova; pub fn zero() {}"),
            (
                "src/pci.rs",
                "use crate::hal::inner::*;\nfn f() { let x = Iova;\nmatches!(x, crate::hal::Frame);\nassert!(zero()); }",
            ),
        ]);
        let told = told(&arrows);
        let wanted = ["src/hal.rs:1 uses src/addr.rs", "src/pci.rs:1 uses src/hal.rs", "src/pci.rs:2 uses src/addr.rs"];
        assert_eq!(told.iter().take(3).collect::<Vec<_>>(), wanted.iter().collect::<Vec<_>>());
        assert_eq!(told.get(3).map(String::as_str), Some("src/pci.rs:3 uses src/hal.rs"));
    }

    #[test]
    fn an_arrow_that_runs_up_is_named() {
        let wrong = up(&[
            ("src/lib.rs", "mod paging; mod vtd; mod hal; pub mod internals { pub use crate::vtd::Unit; }"),
            ("src/hal.rs", "pub fn f() {}"),
            (
                "src/paging.rs",
                "use crate::hal::f;\n\nuse crate::vtd::Unit;\n#[cfg(test)]\nmod tests { use crate::vtd; }",
            ),
            ("src/vtd.rs", "mod unit;\npub use unit::Unit;\nuse crate::paging;"),
            ("src/vtd/unit.rs", "pub struct Unit;"),
        ]);
        assert_eq!(wrong, ["src/paging.rs:3 uses src/vtd/unit.rs: paging is below vtd"]);
    }

    #[test]
    fn an_export_that_runs_up_is_named() {
        let wrong = up(&[
            ("src/lib.rs", "mod paging; mod vtd;"),
            ("src/paging.rs", "pub use crate::vtd::Unit;"),
            ("src/vtd.rs", "pub struct Unit;"),
        ]);
        assert_eq!(wrong, ["src/paging.rs:1 uses src/vtd.rs: paging is below vtd"]);
    }

    #[test]
    fn vendors_that_know_each_other_are_named() {
        let wrong = up(&[
            ("src/lib.rs", "mod amd; mod vtd;"),
            ("src/amd.rs", "pub struct A;"),
            ("src/vtd.rs", "fn f(a: crate::amd::A) {}"),
        ]);
        assert_eq!(wrong, ["src/vtd.rs:1 uses src/amd.rs: vtd is a stranger to amd"]);
    }

    #[test]
    fn a_module_without_a_layer_is_named() {
        let wrong = up(&[
            ("src/lib.rs", "mod new; mod hal;"),
            ("src/hal.rs", "pub struct A;"),
            ("src/new.rs", "use crate::hal::A;"),
        ]);
        assert_eq!(wrong, ["src/new.rs:1 uses src/hal.rs: new has no layer"]);
    }

    #[test]
    fn an_exception_counts_only_where_it_is_needed() {
        let files = [
            ("src/lib.rs", "mod paging; mod vtd;"),
            ("src/paging.rs", "use crate::vtd::Unit;"),
            ("src/vtd.rs", "pub struct Unit;"),
        ];
        let exceptions = [("paging", "vtd", "it has to"), ("paging::map", "vtd", "it had to")];
        let wrong = runs_up(&arrows(&files), &LAYERS, &exceptions);
        assert_eq!(wrong, ["the exception from paging::map to vtd is not needed"]);
    }

    #[test]
    fn a_circle_is_named_with_each_arrow_of_it() {
        let arrows = arrows(&[
            ("src/lib.rs", "mod hal;"),
            ("src/hal.rs", "mod a; mod b;\npub use a::A;\npub struct Own;"),
            ("src/hal/a.rs", "use super::b;\npub(crate) struct A(pub(super) u8);"),
            ("src/hal/b.rs", "use super::A;\nuse super::Own;"),
        ]);
        let circles: Vec<String> = circles(&arrows).iter().map(|circle| in_words(circle)).collect();
        let arrows = "\n         src/hal/a.rs:1 uses src/hal/b.rs\n         src/hal/b.rs:1 uses src/hal/a.rs";
        assert_eq!(circles, [format!("2 files in a circle:{arrows}")]);
    }

    #[test]
    fn a_child_that_uses_its_parent_is_in_a_circle_if_that_uses_it() {
        let files = |parent: &'static str| {
            [
                ("src/lib.rs", "mod hal;"),
                ("src/hal.rs", parent),
                ("src/hal/a.rs", "use super::Own;\npub struct A;\n#[cfg(test)] use super::b;"),
            ]
        };
        let circles = |parent| circles(&arrows(&files(parent))).len();
        assert_eq!(circles("mod a;\npub use a::A;\npub struct Own;"), 0);
        assert_eq!(circles("mod a;\npub use a::A;\npub struct Own(A);"), 1);
        assert_eq!(circles("mod a;\nuse a::A;\npub struct Own;"), 1);
        assert_eq!(circles("mod a;\npub struct Own;\nfn f() { a::f() }"), 1);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (files, says) in [
            (&[("src/lib.rs", "mod a;")][..], "src/lib.rs declares the module a, whose file is missing"),
            (&[("src/lib.rs", "mod a;"), ("src/a.rs", "fn {")], "src/a.rs is no Rust"),
            (
                &[("src/lib.rs", "#[path = \"b.rs\"] mod a;")],
                "src/lib.rs declares the module a with another file than its own",
            ),
        ] {
            let error = Tree::read(repository(files).path(), Path::new("src/lib.rs")).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
    }
}
