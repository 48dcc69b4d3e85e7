//! `cargo xtask c`: the library for C, and what is made of it: the example's kernel and clients that are only linked.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, read::archive::ArchiveFile};

use crate::{
    Verdict,
    bare_metal::Toolchain,
    cargo,
    header::{self, Functions},
    process, setup, show,
};

const EXAMPLE: &str = "capi/example";
const HEADERS: &str = "capi/include";
/// How the example is compiled: as hypervisors are.
const FLAGS: [&str; 15] = [
    "-std=gnu11",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-sse",
    "-mno-mmx",
    "-mno-avx",
    "-fno-pic",
    "-fno-pie",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
];
/// How whatever has the library is linked.
const LINK: [&str; 7] = [
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--gc-sections",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,-z,max-page-size=4096",
];
const LIMIT: Duration = Duration::from_secs(120);

/// What of C's library a client has to have.
const OF_CLIENT: [&str; 2] = ["memcpy", "memset"];

pub fn verb() -> Result<Verdict> {
    let rust = setup::ensure_rust()?;
    println!("Rust for bare metal: {rust}");
    let library = library(&rust)?;
    let wrong = flaws(&library, &header::functions(&crate::root())?.platform)?;
    println!("The library: {}", library.display());
    println!("Its header:  {}", crate::root().join(HEADERS).join("cofferdam.h").display());
    println!(
        "{} it has no bitcode, and lacks nothing but {} and the platform",
        show::mark(wrong.is_empty()),
        OF_CLIENT.join(", ")
    );
    wrong.iter().for_each(|wrong| println!("       {wrong}"));
    println!("The example: {}", kernel(&library)?.display());
    Ok(if wrong.is_empty() { Verdict::Held } else { Verdict::Failed })
}

/// Builds the library: one object, in which all of it is.
///
/// # Errors
///
/// It does not build, or what archives it is missing and cannot be installed.
pub fn library(rust: &Toolchain) -> Result<PathBuf> {
    setup::ensure_cc()?;
    let built = rust.library("cofferdam-c", "c")?;
    let folder = cargo::target()?.join("c");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (object, library) = (folder.join("cofferdam.o"), folder.join("libcofferdam.a"));
    let bytes = std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    // What cargo puts beside it are helpers of the compiler, with bitcode, of which it uses none.
    std::fs::write(&object, only_member(&bytes, "cofferdam_c")?)?;
    let _ = std::fs::remove_file(&library);
    let mut ar = Command::new("ar");
    ar.arg("rcs").args([&library, &object]);
    process::quietly("Archiving", &mut ar, LIMIT)?;
    Ok(library)
}

/// The member of an archive whose name begins so.
fn only_member<'a>(bytes: &'a [u8], name: &str) -> Result<&'a [u8]> {
    let archive = ArchiveFile::parse(bytes)?;
    let members = archive.members().collect::<Result<Vec<_>, _>>()?;
    let mut named = members.iter().filter(|it| it.name().starts_with(name.as_bytes()));
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only.data(bytes)?),
        _ => bail!("the library has no single member {name}: it was not optimised as a whole"),
    }
}

/// What a client could not link, or should not have; a line each.
fn flaws(library: &Path, platform: &BTreeSet<String>) -> Result<Vec<String>> {
    let bytes = std::fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
    let archive = ArchiveFile::parse(&*bytes)?;
    let mut wrong = Vec::new();
    for member in archive.members() {
        let member = member?;
        let name = String::from_utf8_lossy(member.name()).into_owned();
        let Ok(file) = object::File::parse(member.data(&*bytes)?) else {
            wrong.push(format!("{name} is no object"));
            continue;
        };
        if file.sections().any(|it| it.name().is_ok_and(|it| it.starts_with(".llvm"))) {
            wrong.push(format!("{name} has bitcode"));
        }
        for symbol in file.symbols().filter(|it| it.is_undefined()) {
            let lacks = symbol.name()?;
            if !lacks.is_empty() && !OF_CLIENT.contains(&lacks) && !platform.contains(lacks) {
                wrong.push(format!("{name} lacks {lacks}"));
            }
        }
        let panics =
            file.symbols().filter_map(|it| it.name().ok().map(|name| format!("{:#}", rustc_demangle::demangle(name))));
        let panics = panics.filter(|name| name.starts_with("core::panicking::"));
        wrong.extend(panics.map(|name| format!("something in it leads to {name}")));
    }
    Ok(wrong)
}

/// Builds the example's kernel with the library.
///
/// # Errors
///
/// It does not build.
pub fn kernel(library: &Path) -> Result<PathBuf> {
    let (root, folder) = (crate::root(), cargo::target()?.join("c"));
    let mut objects = Vec::new();
    let mut sources: Vec<_> = std::fs::read_dir(root.join(EXAMPLE))?.flatten().map(|it| it.path()).collect();
    sources.sort();
    for source in sources.iter().filter(|it| it.extension().is_some_and(|it| it == "c" || it == "S")) {
        let name = source.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let object = folder.join(format!("{name}.o"));
        let mut cc = Command::new("cc");
        cc.args(FLAGS).arg("-I").arg(root.join(HEADERS)).arg("-c").arg(source).arg("-o").arg(&object);
        process::quietly(&format!("Compiling {name}"), &mut cc, LIMIT)?;
        objects.push(object);
    }
    let kernel = folder.join("kernel.elf");
    let script = root.join(EXAMPLE).join("kernel.ld");
    let mut link = Command::new("cc");
    link.args(LINK).arg("-T").arg(script).arg("-o").arg(&kernel).args(&objects).arg(library);
    process::quietly("Linking", &mut link, LIMIT)?;
    Ok(kernel)
}

/// Links a client that makes these calls and no others. It is not to be run.
///
/// # Errors
///
/// The library lacks one of them.
pub fn client<'a>(library: &Path, name: &str, calls: impl IntoIterator<Item = &'a String>) -> Result<PathBuf> {
    link(library, name, calls, &["-Wl,--unresolved-symbols=ignore-all"])
}

/// Links a client that makes these calls, whose own functions do nothing, and in which each address that the linker has filled in
/// is known. It is not to be run.
///
/// # Errors
///
/// The library lacks a call, or asks for a function that the header does not have.
pub fn followed(library: &Path, functions: &Functions) -> Result<PathBuf> {
    let folder = cargo::target()?.join("c");
    let (source, object) = (folder.join("client.s"), folder.join("client.o"));
    let own = functions.platform.iter().map(String::as_str).chain(OF_CLIENT);
    let texts = own.map(|name| format!(".globl {name}\n.type {name}, @function\n{name}: ret\n.size {name}, 1\n"));
    std::fs::write(&source, texts.collect::<String>())?;
    process::quietly("Assembling", Command::new("cc").arg("-c").arg(&source).arg("-o").arg(&object), LIMIT)?;
    link(library, "followed", &functions.calls, &["-Wl,--emit-relocs", &object.to_string_lossy()])
}

fn link<'a>(library: &Path, name: &str, calls: impl IntoIterator<Item = &'a String>, more: &[&str]) -> Result<PathBuf> {
    let client = cargo::target()?.join("c").join(name);
    let mut link = Command::new("cc");
    link.args(LINK).arg("-Wl,-e,0").args(more);
    link.args(calls.into_iter().map(|call| format!("-Wl,--require-defined={call}")));
    link.arg("-o").arg(&client).arg(library);
    process::quietly("Linking", &mut link, LIMIT)?;
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_could_not_link_is_named() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let of = |text: &str| {
            std::fs::write(path("a.c"), text).unwrap();
            let mut cc = Command::new("cc");
            cc.args(["-ffreestanding", "-fno-pic", "-c"]).arg(path("a.c")).arg("-o").arg(path("a.o"));
            assert!(cc.status().unwrap().success());
            let _ = std::fs::remove_file(path("a.a"));
            let archived = Command::new("ar").arg("rcs").args([path("a.a"), path("a.o")]).output().unwrap();
            assert!(archived.status.success());
            flaws(&path("a.a"), &BTreeSet::from(["cofferdam_platform_pause".to_owned()])).unwrap()
        };
        assert_eq!(of("void cofferdam_platform_pause(void); void f(void) { cofferdam_platform_pause(); }"), [""; 0]);
        assert_eq!(of("void memmove(void); void f(void) { memmove(); }"), ["a.o lacks memmove"]);
        let bitcode = "__attribute__((section(\".llvmbc\"))) int x = 1;";
        assert_eq!(of(bitcode), ["a.o has bitcode"]);
    }
}
