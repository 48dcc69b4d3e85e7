//! What the driver offers and no program of `tests-qemu/no-panic` calls: nothing would be shown of it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use walkdir::WalkDir;

/// The public functions of a module of `src` (of all if it is empty), and its types with a `Display`, that do not occur in
/// the programs, as one calls them.
///
/// Goes by the name alone, so a second function of the same name is not missed.
///
/// # Errors
///
/// There are no sources to read.
pub fn uncalled(src: &Path, module: &str, programs: &Path) -> Result<Vec<String>> {
    let (driver, programs) = (text(src, module)?, text(programs, "")?);
    let mut missing = Vec::new();
    for (offered, as_called) in offers(&driver) {
        let mut renamed = renamed(&driver, offered).map(|name| format!("::{name}("));
        if !as_called.iter().any(|call| programs.contains(call)) && !renamed.any(|call| programs.contains(&call)) {
            missing.push(offered.to_owned());
        }
    }
    Ok(missing)
}

/// The names under which `pub use` has a function elsewhere.
fn renamed<'a>(driver: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let other = format!(" {name} as ");
    let lines = driver.lines().filter(|line| line.trim_start().starts_with("pub use "));
    lines.filter_map(move |line| line.split_once(&other)?.1.split([',', '}', ';']).next())
}

/// Each function and each type, with the ways in which it may be called.
fn offers(driver: &str) -> impl Iterator<Item = (&str, [String; 2])> {
    driver.lines().map(str::trim_start).filter_map(|line| {
        let name = |rest: &'_ str| rest.find(|it: char| !it.is_alphanumeric() && it != '_');
        let function = ["pub fn ", "pub const fn ", "pub unsafe fn "].iter().find_map(|words| line.strip_prefix(words));
        if let Some(rest) = function {
            let name = rest.get(..name(rest)?)?;
            return Some((name, [format!(".{name}("), format!("::{name}(")]));
        }
        let (_, rest) = line.split_once("Display for ").filter(|_| line.starts_with("impl "))?;
        let name = rest.get(..name(rest)?)?;
        Some((name, [format!("say::<{name}>"), format!("::{name}>")]))
    })
}

/// All Rust below a folder that belongs to a module.
fn text(folder: &Path, module: &str) -> Result<String> {
    let mut all = String::new();
    for file in WalkDir::new(folder).sort_by_file_name() {
        let file = file?;
        let first = file.path().strip_prefix(folder).ok().and_then(|path| path.components().next());
        let first = first.and_then(|first| Path::new(first.as_os_str()).file_stem()?.to_str());
        if file.path().extension().is_some_and(|it| it == "rs") && (module.is_empty() || first == Some(module)) {
            let path = file.path();
            all += &std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    if all.is_empty() {
        bail!("{} holds no Rust", folder.join(module).display());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_called_is_named() {
        let root = tempfile::TempDir::new().unwrap();
        let (src, programs) = (root.path().join("src"), root.path().join("tests-qemu/no-panic/src"));
        for (folder, text) in [
            (
                src.clone(),
                "pub fn a(&self) {}\n    pub const fn b<T>() {}\npub fn c() {}\npub(crate) fn d() {}\n\
                 pub fn f() {}\npub use it::{E, f as g};\npub fn h() {}\nuse it::h as i;\n\
                 impl fmt::Display for E {\nimpl fmt::Display for F {\nimpl Debug for G {",
            ),
            (programs.clone(), "it.a();\nIt::b();\ncc();\nit::g();\nit::i();\nsay::<E>();"),
        ] {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("lib.rs"), text).unwrap();
        }
        std::fs::write(src.join("other.rs"), "\npub fn e() {}").unwrap();
        assert_eq!(uncalled(&src, "", &programs).unwrap(), ["c", "h", "F", "e"]);
        assert_eq!(uncalled(&src, "other", &programs).unwrap(), ["e"]);
    }
}
