//! Packages of Debian and Ubuntu.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{
    bare_metal::{RUST_VERSION, Version},
    process,
};

/// Another package manager may be at work; after this it counts as stuck.
const LOCK: &str = "DPkg::Lock::Timeout=600";
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What makes an image that boots.
const GRUB: [&str; 5] = ["grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "xorriso", "mtools"];

/// What a machine still lacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Missing {
    pub qemu: bool,
    pub rust: bool,
    /// ACPICA's disassembler, against which the decoding of the firmware's tables is tested.
    pub iasl: bool,
    /// What counts instructions.
    pub valgrind: bool,
    /// What compiles, links and archives C.
    pub cc: bool,
    /// GRUB for BIOS and UEFI, with what makes an image of it.
    pub grub: bool,
    /// UEFI for QEMU.
    pub ovmf: bool,
}

impl Missing {
    /// What to install where there is no apt-get.
    fn by_hand(self) -> String {
        let all = [
            (self.qemu, "qemu-system-x86_64"),
            (self.rust, "`rustup target add x86_64-unknown-none`"),
            (self.iasl, "iasl"),
            (self.valgrind, "valgrind"),
            (self.cc, "gcc and binutils"),
            (self.grub, "grub-mkrescue with GRUB for i386-pc and x86_64-efi, xorriso and mtools"),
            (self.ovmf, "OVMF"),
        ];
        let missing: Vec<_> = all.into_iter().filter_map(|(missing, name)| missing.then_some(name)).collect();
        missing.join(" and ")
    }
}

/// How commands are run that need the rights of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    Root,
    Sudo,
    None,
}

/// Installs the packages that hold what is missing, and says before which these are.
///
/// # Errors
///
/// There is no apt-get, no new enough Rust among its packages, no right to install (the error holds the command to
/// run instead), or the installation failed.
pub fn install(missing: Missing) -> Result<()> {
    if which::which("apt-get").is_err() {
        bail!("this system has no apt-get; install {} by its own means, then try again", missing.by_hand());
    }
    let rights = rights();
    let update = as_root(rights, &["update"]);
    if rights != Rights::None {
        process::quietly("Fetching the lists of packages", &mut root(&update), LIMIT)?;
    }
    let packages = match packages(missing, &offered()) {
        Err(_) if rights == Rights::None => bail!(
            "installing needs root, and sudo does not work without a password here; as root run\n  {}\n\
             and then `cargo xtask setup` again, as this system's lists of packages know no Rust that is new enough",
            process::words(&root(&update)),
        ),
        packages => packages?,
    };
    let install = [&["install", "--yes", "--no-install-recommends"][..], &as_strs(&packages)].concat();
    let install = as_root(rights, &install);
    if rights == Rights::None {
        bail!(
            "installing needs root, and sudo does not work without a password here; as root run\n  {} && {}",
            process::words(&root(&update)),
            process::words(&root(&install)),
        );
    }
    println!("Installing the packages {}", packages.join(" "));
    process::quietly("Installing", &mut root(&install), LIMIT)
}

fn rights() -> Rights {
    if rustix::process::geteuid().is_root() {
        Rights::Root
    } else if process::answer(Command::new("sudo").args(["-n", "true"])).is_some() {
        Rights::Sudo
    } else {
        Rights::None
    }
}

fn as_root(rights: Rights, args: &[&str]) -> Vec<String> {
    let sudo = if rights == Rights::Sudo { &["sudo", "-n"][..] } else { &[] };
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", LOCK];
    [sudo, &apt, args].concat().into_iter().map(str::to_owned).collect()
}

fn root(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().map_or("env", String::as_str));
    command.args(words);
    command
}

fn as_strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// What `apt-cache policy` says about every compiler that the distribution has.
fn offered() -> String {
    let mut search = Command::new("apt-cache");
    let found = process::answer(search.args(["search", "--names-only", r"^rustc-1\.[0-9]+$"])).unwrap_or_default();
    let names = found.lines().filter_map(|line| line.split_whitespace().next());
    let mut policy = Command::new("apt-cache");
    policy.env("LC_ALL", "C").args(["policy", "rustc", "rustc-web"]).args(names);
    process::answer(&mut policy).unwrap_or_default()
}

/// The packages to install; the compiler is the lowest of those offered that is new enough.
fn packages(missing: Missing, offered: &str) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    if missing.qemu {
        packages.push("qemu-system-x86".to_owned());
    }
    if missing.iasl {
        packages.push("acpica-tools".to_owned());
    }
    if missing.valgrind {
        packages.push("valgrind".to_owned());
    }
    if missing.cc {
        packages.extend(["gcc".to_owned(), "binutils".to_owned()]);
    }
    if missing.grub {
        packages.extend(GRUB.map(str::to_owned));
    }
    if missing.ovmf {
        packages.push("ovmf".to_owned());
    }
    if missing.rust {
        let Some(rustc) = compiler(offered) else {
            bail!(
                "this distribution offers no Rust {}.{} or newer that could build for bare metal; \
                 run `rustup target add x86_64-unknown-none` where rustup can reach its server",
                RUST_VERSION.major,
                RUST_VERSION.minor
            );
        };
        // rustc, rustc-web, rustc-1.95: their cargo and sources are cargo-1.95 and rust-1.95-src.
        let flavour = rustc.strip_prefix("rustc").unwrap_or_default();
        packages.extend([rustc.to_owned(), format!("cargo{flavour}"), format!("rust{flavour}-src"), "lld".to_owned()]);
    }
    Ok(packages)
}

fn compiler(offered: &str) -> Option<&str> {
    let mut name = None;
    let candidates = offered.lines().filter_map(|line| {
        if !line.starts_with(' ') {
            name = line.strip_suffix(':');
        }
        Some((Version::parse(line.trim_start().strip_prefix("Candidate: ")?), name?))
    });
    candidates.filter(|(version, _)| *version >= RUST_VERSION).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Missing =
        Missing { qemu: true, rust: true, iasl: true, valgrind: false, cc: false, grub: false, ovmf: false };

    fn policy(offers: &[(&str, &str)]) -> String {
        let one = |(name, version): &(&str, &str)| {
            format!("{name}:\n  Installed: (none)\n  Candidate: {version}\n  Version table:\n     {version} 500\n")
        };
        offers.iter().map(one).collect()
    }

    #[test]
    fn the_compiler_is_one_that_is_new_enough() {
        let debian_12 = policy(&[("rustc", "1.63.0+dfsg1-2"), ("rustc-web", "1.96.0+dfsg1-1~deb12u2")]);
        assert_eq!(
            packages(ALL, &debian_12).unwrap(),
            ["qemu-system-x86", "acpica-tools", "rustc-web", "cargo-web", "rust-web-src", "lld"]
        );
        let ubuntu =
            policy(&[("rustc", "1.75.0+dfsg0"), ("rustc-1.101", "1.101.0"), ("rustc-1.95", "1.95.0+dfsg0ubuntu1")]);
        assert_eq!(
            packages(Missing { rust: true, ..Missing::default() }, &ubuntu).unwrap(),
            ["rustc-1.95", "cargo-1.95", "rust-1.95-src", "lld"]
        );
        let newer = policy(&[("rustc", "1.99.0+dfsg1-1")]);
        assert_eq!(packages(ALL, &newer).unwrap()[2..5], ["rustc", "cargo", "rust-src"]);
    }

    #[test]
    fn an_old_distribution_is_refused_only_if_rust_is_missing() {
        for old in [policy(&[("rustc", "1.63.0"), ("rustc-web", "(none)")]), String::new()] {
            assert!(packages(ALL, &old).unwrap_err().to_string().contains("rustup target add"));
            assert_eq!(packages(Missing { qemu: true, ..Missing::default() }, &old).unwrap(), ["qemu-system-x86"]);
        }
    }

    #[test]
    fn the_command_takes_the_rights_that_there_are() {
        let words = |rights| process::words(&root(&as_root(rights, &["update"])));
        let apt = "env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 update";
        assert_eq!(words(Rights::Root), apt);
        assert_eq!(words(Rights::Sudo), format!("sudo -n {apt}"));
    }
}
