//! The one entry of the project: `cargo xtask <verb>`. One file a verb; the rest is what they share.
#![allow(unreachable_pub, reason = "a binary has no outside")]

#[macro_use]
mod out;

mod apt;
mod backports;
mod bare_metal;
mod bench;
mod bss;
mod build;
mod c;
mod cargo;
mod check;
mod header;
mod host;
mod image;
mod inspect;
mod judge;
mod layers;
mod matrix;
mod medium;
mod miri;
mod oldest;
mod panics;
mod plain;
mod planted;
mod process;
mod qemu;
mod report;
mod rules;
mod run;
mod setup;
mod show;
mod size;
mod spcr;
mod stack;
mod test;
mod trace;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

/// The machines and scenarios, from the root of the repository.
const MATRIX: &str = "tests-qemu/matrix.toml";

/// Builds, boots and tests cofferdam.
///
/// Exit status: 0 if all held, 1 if something failed, 2 if it could not run.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what is missing: QEMU, a Rust for bare metal, a C compiler, the disassembler that the tests compare with, and what
    /// makes the image for a stick and boots it.
    ///
    /// Rust comes from rustup (`rustup target add x86_64-unknown-none`) where its server can be reached, else from
    /// the distribution's packages. Packages are installed by apt-get, as root or by a sudo that asks nothing. On Debian 12
    /// the QEMU of its backports is fetched as well, into the target folder, for scenarios that need a newer one.
    Setup,
    /// Builds the driver alone, and every image, for bare metal.
    Build,
    /// Builds the library for C, and the example's kernel with it.
    ///
    /// The library is one object in `target/c/libcofferdam.a`, built with fat LTO at -Os. It is looked at for bitcode, for
    /// symbols that a client would have to define beside the platform's functions, and for a way to panic.
    ///
    /// Exit status: 0 if there is nothing of that kind, 1 if there is, with its name.
    C,
    /// Boots the main job on two machines and shows what happened; or, as `run c`, the example in C on the first of them.
    Run(run::Options),
    /// Makes one file for a USB stick or a disc, which boots on BIOS and on UEFI: the board report, and the scenarios.
    ///
    /// Written to a whole stick (`dd if=target/cofferdam.img of=/dev/sdX bs=4M conv=fsync`) or burnt, it starts the board report
    /// after three seconds. That reads and changes nothing, tells what it found on the first serial port, at 115200 baud, and shows its
    /// verdict on the screen.
    /// Secure Boot has to be off. Installs GRUB's tools by apt-get where they are missing.
    ///
    /// Exit status: 0 if the file was made, and boots in each way if that was asked for; 1 if it does not in some.
    Image(medium::Options),
    /// Shows what a machine's firmware says about its IOMMU: units, what they serve, and what is wrong.
    ///
    /// With `--report`, what a saved board report says, in short, and as a page of HTML with `-o`; docs/report.md describes both.
    ///
    /// Exit status: 0 if nothing is lost, 1 if there is a finding of severity error, 2 if there is no table to read. With
    /// `--report`: 0 if the report is whole, the board fit and nothing of its table lost, 1 if not, 2 if there is no report to read.
    Inspect(inspect::Options),
    /// Makes a board report in QEMU, or takes a saved one, and opens it as a page.
    ///
    /// Writes the serial log and the page into `target/report`. Without a desktop it says where they are.
    ///
    /// Exit status: as of `inspect --report`.
    Report(report::Options),
    /// Checks a configuration of cells against a board's table, before anything boots: memory, devices, reserved memory.
    ///
    /// With `--report`, also against what a saved board report says: devices, widths, groups, interrupts.
    ///
    /// docs/check.md describes the file. Exit status: 0 if nothing is wrong, 1 if something is, each with its place and what to do,
    /// 2 if a file cannot be read.
    Check(check::Options),
    /// Shows each rule of a correct driver: where the model checks it, which tests prove that, where the driver names it.
    ///
    /// A test of the model breaks a rule by hand and names its number in quotes, or keeps it, names it in a comment or
    /// in quotes, and expects that nothing is reported.
    ///
    /// docs/rules.md has each rule in words, with its section of the specification and where it is checked.
    ///
    /// Exit status: 0 if each rule that is checked has a place in the model and tests of both kinds, no number and no test
    /// is named that does not exist, docs/rules.md has each rule once and says where it is checked, and the driver's public
    /// documentation cites no rule without a link to it; 1 if not.
    Rules(rules::Options),
    /// Shows whether the driver keeps its layers: whether each part uses only what lies below it.
    ///
    /// Reads the sources without their tests. Three things are looked for: a vendor that is named where none may be (there
    /// in comments and tests as well), a file that uses what a higher layer defines, and files that use each other in a
    /// circle, in `src` and in `platform/model/src`. A module that exports what a module below it defines does not use it.
    ///
    /// Exit status: 0 if there is nothing of that kind, 1 if there is, with its lines.
    Layers,
    /// Shows that no call of the driver can panic, whatever it is called with.
    ///
    /// Links programs that make every call of the driver with values that the optimiser knows nothing about, and looks
    /// whether anything that is left of them leads to the panic handler. Each `Display` is among them. A derived `Debug`
    /// is not, nor that of `Iommu`, which shows derived ones: the standard library's part of those can panic.
    ///
    /// Exit status: 0 if nothing leads there, 1 if something does, with its lines.
    Panics,
    /// Shows how large each module of the driver is, and that it touches no vector, x87 or MMX register.
    ///
    /// Measured in a program that makes every call with the default capacities and says nothing in words. An instruction
    /// counts for the module whose line it comes from, wherever it was inlined.
    ///
    /// Then the same of two clients in C, with fat LTO at -Os and all left out that no call leads to: one makes every call, the
    /// other all but those that say something in words.
    ///
    /// Then whether the front and its memory lie in `.bss`, in the kernel in C and in the client that `stack` boots.
    ///
    /// Exit status: 0 if no such register is touched, no client is above its bound and nothing of the front is elsewhere, 1 if
    /// not.
    Size,
    /// Shows whether the header for C says what the library for C is.
    ///
    /// Compares each function, each field of a struct and each constant of `capi/include/cofferdam.h` with the sources of
    /// `capi` and the driver's numbers of errors: that both have it, and, by a C compiler, that it has the same type, place
    /// and value. Compiles the header as C99, C11 and C++ without a warning.
    ///
    /// Exit status: 0 if so, 1 if something differs, with its name.
    Header,
    /// Shows how much stack each call takes at most, in clients as users build them.
    ///
    /// Builds `tests/outside`, which is no member of the workspace, in three profiles: the default release profile, and fat
    /// LTO at -O3 and at -Os. Follows the stack pointer through each function of the linked program, and sums what is taken
    /// along the deepest chain of calls and tail jumps, return addresses included. The driver's own closures that it calls
    /// through `dyn` are in the sums. Not in them is what somebody else's function takes: the platform's behind `Hal`, a
    /// function that the caller hands in, and a formatter's (`fmt`); how many calls are not followed is told. A function
    /// that calls itself counts as often as a table says that it can.
    ///
    /// Then the same of each call of the library for C. Then an image of the first client is booted, with a heap, memory that is
    /// seen at an offset and frames that free themselves: it makes each call on a painted stack, and is seen to write to no more of
    /// it than was summed.
    ///
    /// Exit status: 0 if no call is above its bar or takes more than its sum, 1 if one does, or a client lacks a call.
    Stack(stack::Options),
    /// Runs host tests under Miri, which finds undefined behaviour and data races.
    ///
    /// Takes those that need no foreign code and end in a few minutes. Where rustup has no nightly toolchain with Miri, that is
    /// said, and nothing is run.
    ///
    /// Exit status: 0 if nothing is found or nothing is run, 1 if something is found.
    Miri,
    /// Builds the driver with the oldest Rust that its manifest promises.
    ///
    /// rustup fetches that where it can. Where it cannot, that is said, and nothing is built.
    ///
    /// Exit status: 0 if the driver builds or nothing is built, 1 if it does not.
    Oldest,
    /// Measures how fast the driver is, beside other page-table crates in one run, and which bars it holds.
    ///
    /// Times are medians on one CPU, so the machine should have nothing else to do; instructions are counted by Callgrind.
    /// Installs valgrind by apt-get and gungraun-runner by cargo, the latter within the target folder.
    ///
    /// Exit status: 0 if each bar holds, 1 if one does not.
    Bench(bench::Options),
    /// Plants bugs in a copy of the driver, one at a time, and boots a scenario with each, which has to find it.
    ///
    /// tests-qemu/planted.toml says which bugs, and what has to fail. Nothing in the tree is changed: the copy is in the target folder.
    ///
    /// Exit status: 0 if each bug is found by what it does, and nothing fails without one; 1 if not.
    Planted(planted::Options),
    /// Runs the host tests and every scenario on every machine; ends with the line `N passed, N failed`.
    Test(test::Options),
}

/// How scenarios are booted.
#[derive(Args)]
struct Booting {
    /// The QEMU to use instead of the one in PATH.
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// What the guest's instructions run on.
    #[arg(long, value_enum, default_value_t = qemu::Accel::Tcg)]
    accel: qemu::Accel,
    /// How long a guest may run, instead of the time that the matrix gives.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: Option<u64>,
}

/// Whether everything held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Held,
    Failed,
}

fn main() -> ExitCode {
    let verdict = match Cli::parse().verb {
        Verb::Setup => setup::verb(),
        Verb::Build => build::verb(),
        Verb::C => c::verb(),
        Verb::Run(options) => run::verb(&options),
        Verb::Image(options) => medium::verb(&options),
        Verb::Inspect(options) => inspect::verb(&options),
        Verb::Report(options) => report::verb(&options),
        Verb::Check(options) => check::verb(&options),
        Verb::Rules(options) => rules::verb(&options),
        Verb::Layers => layers::verb(),
        Verb::Panics => panics::verb(),
        Verb::Size => size::verb(),
        Verb::Header => header::verb(),
        Verb::Stack(options) => stack::verb(&options),
        Verb::Miri => miri::verb(),
        Verb::Oldest => oldest::verb(),
        Verb::Bench(options) => bench::verb(&options),
        Verb::Planted(options) => planted::verb(&options),
        Verb::Test(options) => test::verb(&options),
    };
    match verdict.and_then(|verdict| out::check().map(|()| verdict)) {
        Ok(Verdict::Held) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{} {error:#}", console::style("error:").for_stderr().red().bold());
            ExitCode::from(2)
        }
    }
}

/// The root of the repository, as cargo says it now: a built xtask may have been moved with its checkout.
fn root() -> PathBuf {
    let xtask = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().unwrap_or(Path::new(".")).to_owned()
}

fn matrix() -> Result<matrix::Matrix> {
    matrix::Matrix::read(&root().join(MATRIX))
}
