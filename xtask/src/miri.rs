//! `cargo xtask miri`: host tests under an interpreter that finds undefined behaviour and data races.

use std::time::Duration;

use anyhow::Result;

use crate::{Verdict, cargo, process, show};

const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The toolchain with the interpreter.
const TOOLCHAIN: &str = "nightly";
/// Names of tests begin with these: of memory that is handed over and shared between CPUs, and what it is filled with. They end
/// in a few minutes, and none of them runs foreign code or machine instructions.
const TESTS: &[&str] = &["addr::", "cell::", "iommu::unit_lock", "vtd::invalidation::tests::two_cpus"];

pub fn verb() -> Result<Verdict> {
    let mut miri = cargo::rustup(&["run", TOOLCHAIN, "cargo", "miri"]);
    let Some(version) = which::which("rustup").ok().and_then(|_| process::answer(miri.arg("--version"))) else {
        let how = format!("rustup component add --toolchain {TOOLCHAIN} miri rust-src");
        println!("{} the tests under Miri, which is not installed: {how}", show::left_out());
        return Ok(Verdict::Held);
    };
    println!("{}", version.trim());
    let mut tests =
        cargo::rustup(&["run", TOOLCHAIN, "cargo", "miri", "test", "--package", "cofferdam", "--lib", "--"]);
    // What the interpreter runs was built for it alone.
    tests.args(TESTS).env("CARGO_TARGET_DIR", cargo::target()?.join("miri"));
    // Tests hand over memory for as long as they run.
    tests.env("MIRIFLAGS", "-Zmiri-ignore-leaks");
    let ran = process::quietly("Tests under Miri", &mut tests, LIMIT);
    let words = "no undefined behaviour and no data race is found under Miri";
    println!("{} {words}", show::mark(ran.is_ok()));
    match ran {
        Ok(()) => Ok(Verdict::Held),
        Err(error) => {
            println!("{error:#}");
            Ok(Verdict::Failed)
        }
    }
}
