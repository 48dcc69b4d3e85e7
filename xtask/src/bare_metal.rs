//! A Rust that builds for the bare machine, and the images built with it.
//!
//! Either a toolchain has the target's libraries (rustup's way), or it has the sources of the standard library and
//! builds them along (the way of a distribution, whose compiler knows the target but does not ship its libraries).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    cargo,
    process::{self, Line, Stream, Streams},
};

pub const TARGET: &str = "x86_64-unknown-none";
/// A first build with the standard library takes a minute on a slow machine.
pub const BUILD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The lowest Rust that builds the workspace.
pub const RUST_VERSION: Version = Version::parse(env!("CARGO_PKG_RUST_VERSION"));

/// A release of Rust, without its patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl Version {
    /// Reads the first two numbers of `1.95.0 (...)` or `1.96.0+dfsg1-1`; 0 stands for what is no number.
    pub const fn parse(text: &str) -> Version {
        let (mut numbers, mut which, mut rest) = ([0; 2], 0, text.as_bytes());
        while let [byte, after @ ..] = rest {
            match byte {
                b'0'..=b'9' if which == 0 => numbers = [numbers[0] * 10 + (*byte - b'0') as u32, 0],
                b'0'..=b'9' => numbers = [numbers[0], numbers[1] * 10 + (*byte - b'0') as u32],
                b'.' if which == 0 => which = 1,
                _ => break,
            }
            rest = after;
        }
        let [major, minor] = numbers;
        Version { major, minor }
    }
}

/// A toolchain that builds for [`TARGET`].
#[derive(Debug)]
pub struct Toolchain {
    cargo: OsString,
    rustc: OsString,
    version: String,
    core: Core,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    Shipped,
    FromSource,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Shipped => "with the target's own core",
            Core::FromSource => "which builds core from its sources",
        };
        write!(f, "{} of {}, {core}", self.version, self.rustc.display())
    }
}

/// Finds a toolchain that builds for [`TARGET`]: the one in use, else one of the distribution.
pub fn find() -> Option<Toolchain> {
    let var = |name, or: &str| std::env::var_os(name).unwrap_or_else(|| or.into());
    let in_use = (var("CARGO", "cargo"), var("RUSTC", "rustc"));
    std::iter::once(in_use).chain(of_distribution()).find_map(|(cargo, rustc)| usable(cargo, rustc))
}

/// `/usr/bin/rustc` and, as Ubuntu names its newer ones, `/usr/bin/rustc-1.95`.
fn of_distribution() -> Vec<(OsString, OsString)> {
    let bin = Path::new("/usr/bin");
    let files = std::fs::read_dir(bin).into_iter().flatten().flatten();
    let suffixes = files.filter_map(|file| file.file_name().to_str()?.strip_prefix("rustc").map(str::to_owned));
    let path = |name: &str, suffix: &str| bin.join(format!("{name}{suffix}")).into_os_string();
    let known = |suffix: &String| suffix.is_empty() || suffix.starts_with("-1.");
    suffixes.filter(known).map(|suffix| (path("cargo", &suffix), path("rustc", &suffix))).collect()
}

fn usable(cargo: OsString, rustc: OsString) -> Option<Toolchain> {
    let ask = |args: &[&str]| Some(PathBuf::from(process::answer(clean(&rustc).args(args))?.trim_end()));
    let version = process::answer(clean(&rustc).arg("--version"))?.trim().to_owned();
    let number = Version::parse(version.strip_prefix("rustc ")?);
    if number < RUST_VERSION || process::answer(clean(&cargo).arg("--version")).is_none() {
        return None;
    }
    let libraries = std::fs::read_dir(ask(&["--print", "target-libdir", "--target", TARGET])?).into_iter().flatten();
    let has_core = libraries.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"));
    let sources = ask(&["--print", "sysroot"])?.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let core = match (has_core, sources.exists() && which::which("ld.lld").is_ok()) {
        (true, _) => Core::Shipped,
        (false, true) => Core::FromSource,
        (false, false) => return None,
    };
    Some(Toolchain { cargo, rustc, version, core })
}

/// A command free of what `cargo run` and the caller's shell say about another toolchain.
fn clean(program: &OsString) -> Command {
    let mut command = Command::new(program);
    // RUSTFLAGS would replace the flags of .cargo/config.toml, without which the image does not boot.
    for name in ["LD_LIBRARY_PATH", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    command
}

/// What cargo says of one step, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

/// What a build came to.
#[derive(Debug, Default)]
struct Build {
    executables: BTreeMap<String, PathBuf>,
    /// What the compiler and cargo call an error; warnings are the linter's matter.
    errors: String,
}

impl Build {
    fn hear(&mut self, line: &Line) {
        match serde_json::from_str(&line.text) {
            Ok(Message { executable: Some(path), target: Some(target), .. }) => {
                self.executables.insert(target.name, path);
            }
            Ok(Message { message: Some(Diagnostic { level, rendered: Some(text) }), .. }) if level == "error" => {
                self.errors += &text;
            }
            Ok(_) => {}
            Err(_) if PROGRESS.iter().any(|step| line.text.trim_start().starts_with(step)) => {}
            Err(_) => self.errors += &format!("{}\n", line.text),
        }
    }
}

/// What cargo prints while all goes well.
const PROGRESS: [&str; 8] =
    ["Compiling", "Finished", "Blocking", "Updating", "Locking", "Downloading", "Downloaded", "warning: "];

impl Toolchain {
    /// `cargo build` for the bare machine, release profile; what to build is to be added.
    pub fn build(&self) -> Command {
        self.build_as("release")
    }

    fn build_as(&self, profile: &str) -> Command {
        let mut command = clean(&self.cargo);
        command.args(["build", "--profile", profile, "--target", TARGET]).current_dir(crate::root());
        if self.core == Core::FromSource {
            command.arg("-Zbuild-std=core,compiler_builtins");
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", &self.rustc);
            command.env("CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER", "ld.lld");
        }
        command
    }

    /// Builds bins of `tests-qemu`, and says where each is.
    ///
    /// # Errors
    ///
    /// One does not exist or does not build; the error holds the compiler's output.
    pub fn images(&self, bins: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
        self.bins("cofferdam-tests-qemu", "release", bins)
    }

    /// Builds a bin of `tests-qemu` that is linked at this physical address, and says where it is: where the usual one is, which
    /// has to be built again.
    ///
    /// # Errors
    ///
    /// As for [`images`](Self::images).
    pub fn image_at(&self, bin: &str, base: u64) -> Result<PathBuf> {
        let mut command = self.build();
        command.args(["--package", "cofferdam-tests-qemu"]).env("COFFERDAM_IMAGE_BASE", base.to_string());
        self.run(command, &[bin])?.remove(bin).with_context(|| format!("cargo built no {bin}"))
    }

    /// Builds a bin of `tests-qemu` as a copy of the repository has it, into a target folder of its own, and says where it is.
    ///
    /// # Errors
    ///
    /// As for [`images`](Self::images).
    pub fn image_of(&self, tree: &Path, target: &Path, bin: &str) -> Result<PathBuf> {
        let mut command = self.build();
        command.current_dir(tree).args(["--package", "cofferdam-tests-qemu", "--locked", "--target-dir"]).arg(target);
        self.run(command, &[bin])?.remove(bin).with_context(|| format!("cargo built no {bin}"))
    }

    /// Builds bins of `tests-qemu/no-panic`, and says where each is. They are not to be run.
    ///
    /// # Errors
    ///
    /// As for [`images`](Self::images).
    pub fn never_run(&self, bins: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
        self.bins("cofferdam-no-panic", "no-panic", bins)
    }

    /// Builds the bin of a package outside of the workspace, with these features, as its user does: with nothing of what the
    /// workspace's configuration and profiles say.
    ///
    /// # Errors
    ///
    /// As for [`images`](Self::images).
    pub fn outside(&self, folder: &str, profile: &str, bin: &str, features: &str) -> Result<PathBuf> {
        let mut command = self.build_as(profile);
        // Empty, this replaces the flags of .cargo/config.toml.
        command.env("CARGO_ENCODED_RUSTFLAGS", "").args(["--locked", "--manifest-path"]);
        command.arg(crate::root().join(folder).join("Cargo.toml")).args(["--features", features]);
        // Without it the package would have a target folder of its own.
        command.arg("--target-dir").arg(cargo::target()?.join("outside"));
        self.run(command, &[bin])?.remove(bin).with_context(|| format!("cargo built no {bin}"))
    }

    /// Builds the static library of a package, and says where it is.
    ///
    /// # Errors
    ///
    /// As for [`images`](Self::images).
    pub fn library(&self, package: &str, profile: &str) -> Result<PathBuf> {
        let mut command = self.build_as(profile);
        command.args(["--package", package]);
        self.run(command, &[])?;
        let file = format!("lib{}.a", package.replace('-', "_"));
        Ok(cargo::target()?.join(TARGET).join(profile).join(file))
    }

    fn bins(&self, package: &str, profile: &str, bins: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
        let mut command = self.build_as(profile);
        command.args(["--package", package]);
        self.run(command, bins)
    }

    fn run(&self, mut command: Command, bins: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
        command.args(["--message-format", "json"]).args(bins.iter().flat_map(|bin| ["--bin", bin]));
        let what = format!("Building for {TARGET}");
        let (spinner, mut build) = (process::spinner(&what), Build::default());
        let ending = process::watch(&mut command, Streams::Apart, BUILD_LIMIT, |line| {
            if line.stream == Stream::Err {
                spinner.set_message(format!("{what}: {}", line.text.trim()));
            }
            build.hear(&line);
        });
        spinner.finish_and_clear();
        if !ending?.success() {
            bail!("{}this failed: {}", build.errors, process::words(&command));
        }
        for bin in bins {
            build.executables.get(*bin).with_context(|| format!("cargo built no image {bin}"))?;
        }
        Ok(build.executables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared_as_numbers() {
        let version = |major, minor| Version { major, minor };
        assert_eq!(Version::parse("1.95.0 (59807616e 2026-04-14)"), version(1, 95));
        assert_eq!(Version::parse("1.96.0+dfsg1-1~deb12u2"), version(1, 96));
        assert_eq!(Version::parse("1.100"), version(1, 100));
        assert_eq!(Version::parse("(none)"), version(0, 0));
        assert!(Version::parse("1.100") > Version::parse("1.95") && Version::parse("2.0") > Version::parse("1.95"));
        assert!(RUST_VERSION >= version(1, 95));
    }

    #[test]
    fn images_and_errors_are_taken_from_what_cargo_says() {
        let mut build = Build::default();
        for text in [
            "   Compiling cofferdam v0.1.0",
            r#"{"reason":"compiler-artifact","target":{"name":"cofferdam"},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"main_job","kind":["bin"]},"executable":"/t/main_job"}"#,
            r#"{"reason":"compiler-message","target":{"name":"x"},"message":{"level":"warning","rendered":"unused\n"}}"#,
            r#"{"reason":"compiler-message","target":{"name":"x"},"message":{"level":"error","rendered":"E0061\n"}}"#,
            r#"{"reason":"build-finished","success":false}"#,
            "error: no bin target named `x`",
            "warning: build failed, waiting for other jobs to finish...",
        ] {
            build.hear(&Line { after: Duration::ZERO, stream: Stream::Err, text: text.into() });
        }
        assert_eq!(build.executables, BTreeMap::from([("main_job".into(), "/t/main_job".into())]));
        assert_eq!(build.errors, "E0061\nerror: no bin target named `x`\n");
    }
}
