//! `cargo xtask stack` as a user meets it, on a cargo that only pretends and a client of a few instructions.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

fn fake(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The library for C, with a call that takes 24 bytes and one that leads to nothing but the client.
const LIBRARY: &str = ".globl cofferdam_commit, cofferdam_words
.section .text.commit, \"ax\"
.type cofferdam_commit, @function
cofferdam_commit: push %rbx; call cofferdam_platform_pause; pop %rbx; ret
.size cofferdam_commit, . - cofferdam_commit
.section .text.words, \"ax\"
.type cofferdam_words, @function
cofferdam_words: jmp memset
.size cofferdam_words, . - cofferdam_words
";
const HEADER: &str =
    "int32_t cofferdam_commit(void);\nsize_t cofferdam_words(void);\nvoid cofferdam_platform_pause(void);\n";
const MACHINE: &str = "\n[[scenario]]\nname = \"outside\"\noutside = true\n";

/// Archives the library where cargo would.
fn archive(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("library.s"), LIBRARY).unwrap();
    let object = path("cofferdam_c.o");
    assert!(Command::new("cc").arg("-c").arg(path("library.s")).arg("-o").arg(&object).status().unwrap().success());
    let archived = Command::new("ar").arg("rcs").args([path("libcofferdam_c.a"), object]).output().unwrap();
    assert!(archived.status.success());
}

/// Status, stdout and stderr of `stack` on the client with these `cfg`s, in a repository whose front has these functions.
fn stack(args: &[&str], cfg: &[&str], front: &str, cargo: &str) -> (Option<i32>, String, String) {
    seen(args, cfg, front, cargo, "656")
}

/// The same, where the deepest call is seen to take so many bytes when it is booted.
fn seen(args: &[&str], cfg: &[&str], front: &str, cargo: &str, depth: &str) -> (Option<i32>, String, String) {
    let root = TempDir::new().unwrap();
    let path = |name: &str| root.path().join(name);
    for folder in ["src", "tests/outside/src", "bin", "capi/include", "tests-qemu"] {
        std::fs::create_dir_all(path(folder)).unwrap();
    }
    archive(&path("target/x86_64-unknown-none/c"));
    std::fs::write(path("capi/include/cofferdam.h"), HEADER).unwrap();
    let matrix = std::fs::read_to_string(fake("fake-matrix.toml")).unwrap();
    std::fs::write(path("tests-qemu/matrix.toml"), matrix + MACHINE).unwrap();
    std::fs::write(path("src/iommu.rs"), front).unwrap();
    std::fs::write(path("tests/outside/src/main.rs"), "iommu.commit()").unwrap();
    std::fs::write(path("libcore-0123.rlib"), []).unwrap();
    symlink(fake("fake-qemu.sh"), path("bin/qemu-system-x86_64")).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "cdylib",
        "-Copt-level=2",
        "-Cpanic=abort",
        "-Clink-arg=-nostdlib",
        "-Clink-dead-code",
    ]);
    rustc
        .args(cfg.iter().flat_map(|cfg| ["--cfg", cfg]))
        .arg("-o")
        .arg(path("client"))
        .arg(fake("fake-client/client.rs"));
    let built = rustc.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("stack").args(args).env("CARGO", fake("fake-cargo.sh")).env("RUSTC", fake("fake-cargo.sh"));
    command
        .env("FAKE_DEPTHS", depth)
        .env("FAKE_CARGO", cargo)
        .env("FAKE_CLIENT", path("client"))
        .env("FAKE_BENCH", root.path());
    command.env("FAKE_LIBDIR", root.path()).env("CARGO_MANIFEST_DIR", path("xtask")).env("NO_COLOR", "1");
    let search = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{search}", path("bin").display()));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const FRONT: &str = "pub fn commit(&self) {}\n";

#[test]
fn what_is_within_the_bar_holds() {
    let (code, out, error) = stack(&[], &[], FRONT, "good");
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(out.contains(" commit              656           656           656  2048\n"), "{out}");
    assert!(out.contains("commit, fat LTO, -Os: 656 bytes\n      24  call_commit\n      80  x::cheapest\n"), "{out}");
    assert_eq!(out.matches("80  x::cheapest\n").count(), 3 * 7, "{out}");
}

#[test]
fn what_a_call_takes_from_c_is_told() {
    let (_, out, error) = stack(&[], &[], FRONT, "good");
    assert!(out.contains(" commit               24  2048\n words                 8  2048\n"), "{out}{error}");
}

#[test]
fn what_is_seen_to_take_more_than_was_summed_fails() {
    let (code, out, _) = seen(&[], &[], FRONT, "good", "673");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("commit took 673 bytes, more than the 656 that were summed\n"), "{out}");
}

#[test]
fn what_is_called_through_a_table_counts() {
    let (_, out, error) = stack(&["faults"], &[], FRONT, "good");
    assert!(
        out.contains("faults, fat LTO, -Os: 56 bytes\n      32  call_faults\n       0  x::by_table\n"),
        "{out}{error}"
    );
    assert!(out.contains("      24  x::closure\n"), "{out}");
    assert!(out.contains(" units                56            56            56  2048\n"), "{out}");
}

#[test]
fn what_is_above_the_bar_fails_and_is_marked() {
    let (code, out, _) = stack(&[], &["large"], FRONT, "good");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains(" commit           ! 2056"), "{out}");
}

#[test]
fn a_call_that_the_client_lacks_fails() {
    let (code, out, _) = stack(&[], &[], "pub fn commit(&self) {}\n    pub fn audit(&self) {}\n", "good");
    assert_eq!(code, Some(1));
    assert!(out.contains("nothing in tests/outside calls audit\n"), "{out}");
}

#[test]
fn what_cannot_be_summed_ends_with_2() {
    for (args, cfg, cargo, says) in [
        (&[][..], &["unbounded"][..], "good", "how often these call themselves is not known: x::all"),
        (&["unmap"], &[], "good", "there is no call unmap; there are commit, faults, units, words"),
        (&[], &[], "no_build", "error: expected one of these"),
    ] {
        let (code, _, error) = stack(args, cfg, FRONT, cargo);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(says), "{error}");
    }
}
