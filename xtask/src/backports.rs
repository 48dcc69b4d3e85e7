//! A QEMU that is newer than Debian 12's: of its backports, unpacked beside what is built, since apt installs only one of both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, process};

const RELEASE: &str = "bookworm";
const SUITE: &str = "bookworm-backports";
const PACKAGE: &str = "qemu-system-x86";
/// The lists and the packages are 25 MB; a server that takes longer is taken as out of reach.
const LIMIT: Duration = Duration::from_secs(300);

/// The folder with QEMU's `usr` in it, fetched if it is not there.
///
/// # Errors
///
/// This is not Debian 12, or its server cannot be reached.
pub fn qemu() -> Result<PathBuf> {
    let home = cargo::target()?.join(SUITE);
    let root = home.join("root");
    if !root.exists() {
        fetch(&home, &root).with_context(|| format!("the package {PACKAGE} of {SUITE} cannot be had"))?;
    }
    Ok(root)
}

/// Has apt fetch what the machine lacks for the package, with lists of its own: nothing of the machine's is changed, and no
/// right of root is needed. apt checks the signatures as it always does.
fn fetch(home: &Path, root: &Path) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(is_debian_12(&release), "this is not Debian 12");
    let (sources, archives, unpacked) = (home.join("sources.list"), home.join("archives"), home.join("unpacked"));
    for folder in [home.join("lists/partial"), archives.join("partial")] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&sources, list(&mirror()?)).with_context(|| format!("cannot write {}", sources.display()))?;
    let install =
        ["install", "--yes", "--download-only", "--no-install-recommends", "--target-release", SUITE, PACKAGE];
    process::quietly(&format!("Fetching the lists of {SUITE}"), apt(home).arg("update"), LIMIT)?;
    process::quietly(&format!("Fetching {PACKAGE} of {SUITE}"), apt(home).args(install), LIMIT)?;
    for file in fs::read_dir(&archives)? {
        let package = file?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            let mut unpack = Command::new("dpkg");
            process::quietly("Unpacking", unpack.arg("--extract").arg(&package).arg(&unpacked), LIMIT)?;
        }
    }
    // What is there under its name is whole.
    fs::rename(&unpacked, root).with_context(|| format!("no package came to {}", archives.display()))
}

fn is_debian_12(release: &str) -> bool {
    let has = |wanted: &str| release.lines().any(|line| line == wanted);
    has("ID=debian") && has(&format!("VERSION_CODENAME={RELEASE}"))
}

/// Where the machine has its packages from.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", &format!("Codename: {RELEASE}"), "Created-By: Packages"]);
    let first = process::answer(&mut targets).and_then(|all| all.lines().next().map(str::to_owned));
    first.with_context(|| format!("apt has no source of {RELEASE}"))
}

/// Both suites, since the package may need libraries of either.
fn list(mirror: &str) -> String {
    let options = "arch=amd64 lang=none target=Packages signed-by=/usr/share/keyrings/debian-archive-keyring.gpg";
    let suite = |suite| format!("deb [{options}] {mirror} {suite} main\n");
    [RELEASE, SUITE].map(suite).concat()
}

fn apt(home: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    for (name, value) in [
        ("Dir::Etc::SourceList", home.join("sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::State::Lists", home.join("lists")),
        ("Dir::Cache::Archives", home.join("archives")),
        ("Dir::Cache::pkgcache", PathBuf::new()),
        ("Dir::Cache::srcpkgcache", PathBuf::new()),
        // The folders are the user's own, so there is nobody to lock out, and nobody else may enter them.
        ("Debug::NoLocking", "1".into()),
        ("APT::Sandbox::User", "root".into()),
        ("APT::Update::Error-Mode", "any".into()),
        ("Acquire::Retries", "1".into()),
        ("Acquire::http::Timeout", "20".into()),
    ] {
        apt.arg("-o").arg(format!("{name}={}", value.display()));
    }
    apt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_12_has_these_packages() {
        assert!(is_debian_12("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n"));
        for other in ["", "ID=debian\nVERSION_CODENAME=trixie\n", "ID=raspbian\nVERSION_CODENAME=bookworm\n"] {
            assert!(!is_debian_12(other), "{other}");
        }
    }

    #[test]
    fn apt_gets_its_lists_from_nowhere_else() {
        let words = process::words(apt(Path::new("/x")).arg("update"));
        for part in
            ["Dir::Etc::SourceList=/x/sources.list", "SourceParts=/dev/null", "Lists=/x/lists", "Archives=/x/archives"]
        {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(list("file:/m").lines().filter(|line| line.contains("signed-by=")).count(), 2);
    }
}
