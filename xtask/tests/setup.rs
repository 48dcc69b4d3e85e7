//! `setup` on a system that only pretends: its PATH holds nothing but fakes.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

struct System {
    bin: TempDir,
    libdir: TempDir,
}

fn fake(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

impl System {
    /// A system that has these programs, and neither QEMU nor the target's libraries.
    fn with(programs: &[&str]) -> System {
        let system = System { bin: TempDir::new().unwrap(), libdir: TempDir::new().unwrap() };
        for program in programs {
            symlink(fake("fake-system.sh"), system.bin.path().join(program)).unwrap();
        }
        for real in ["env", "ln"] {
            symlink(Path::new("/usr/bin").join(real), system.bin.path().join(real)).unwrap();
        }
        system
    }

    /// Status, stdout and stderr of `setup`.
    fn setup(&self, apt: &str) -> (Option<i32>, String, String) {
        self.setup_on_rust(apt, "1.999.0")
    }

    fn setup_on_rust(&self, apt: &str, version: &str) -> (Option<i32>, String, String) {
        self.verb("setup", apt, version)
    }

    fn verb(&self, verb: &str, apt: &str, version: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg(verb).env_clear().env("PATH", self.bin.path()).env("FAKE_BIN", self.bin.path());
        command.env("FAKE_LIBDIR", self.libdir.path()).env("FAKE_QEMU", fake("fake-qemu.sh")).env("FAKE_APT", apt);
        command.env("FAKE_VERSION", version);
        let cargo = fake("fake-cargo.sh");
        let output = command.env("CARGO", &cargo).env("RUSTC", &cargo).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The commands that apt-get got.
    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.bin.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

const ALL: [&str; 4] = ["apt-get", "apt-cache", "sudo", "rustup"];

#[test]
fn what_is_missing_is_announced_and_installed_once() {
    let system = System::with(&ALL);
    let (code, out, err) = system.setup("good");
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("rustup could not fetch x86_64-unknown-none (error: could not download), so"), "{out}");
    assert!(
        out.contains(
            "Installing the packages qemu-system-x86 acpica-tools gcc binutils grub-common grub-pc-bin grub-efi-amd64-bin xorriso \
             mtools "
        ),
        "{out}"
    );
    assert!(out.contains(" rustc-web cargo-web rust-web-src lld"), "{out}");
    assert!(out.ends_with("Everything is there.\n"), "{out}");
    let installs = || system.log().into_iter().filter(|line| !line.starts_with("indextargets")).collect::<Vec<_>>();
    let log = installs();
    assert!(log.len() == 2 && log.first().is_some_and(|first| first.ends_with("update")), "{log:?}");

    let (code, out, err) = system.setup("broken");
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(installs(), log);
}

#[test]
fn without_rustup_nothing_is_said_of_it() {
    let (code, out, _) = System::with(&["apt-get", "apt-cache", "sudo"]).setup("good");
    assert_eq!(code, Some(0));
    assert!(!out.contains("rustup"), "{out}");
}

#[test]
fn who_only_builds_needs_no_qemu() {
    let system = System::with(&ALL);
    std::fs::write(system.libdir.path().join("libcore-0123.rlib"), "").unwrap();
    let (_, out, err) = system.verb("build", "broken", "1.999.0");
    assert!(out.contains("Rust for bare metal: "), "{out}{err}");
    assert_eq!(system.log(), [""; 0]);
}

#[test]
fn what_goes_wrong_is_shown_and_ends_with_2() {
    for (programs, apt, says) in [
        (&ALL[..], "broken", "E: the disk is full"),
        (&ALL, "empty", "still no Rust that builds for x86_64-unknown-none"),
        (&["apt-get", "sudo"], "good", "offers no Rust"),
        (&["rustup"], "good", "no apt-get"),
    ] {
        let (code, out, err) = System::with(programs).setup(apt);
        assert_eq!(code, Some(2), "{out}");
        assert!(err.contains(says), "{says}: {err}");
    }
}

#[test]
fn a_rust_that_is_too_old_is_not_used() {
    let system = System::with(&ALL);
    let (code, _, err) = system.setup_on_rust("good", "1.94.1");
    assert_eq!(code, Some(2));
    assert!(err.contains("still no Rust that builds"), "{err}");
    assert_eq!(system.setup_on_rust("good", "1.95.0").0, Some(0));
}
