//! `cargo xtask image`: one file for a USB stick and for a disc, which boots by BIOS and by UEFI.
//!
//! GRUB's rescue image holds GRUB for both, and the images of `tests-qemu`, which it starts by multiboot2.

use std::{
    collections::BTreeSet,
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::{
    Booting, Verdict, apt,
    bare_metal::Toolchain,
    cargo,
    matrix::{Matrix, Scenario},
    process,
    qemu::Qemu,
    setup, show,
};

/// What is started if nobody chooses.
const DEFAULT: &str = "board";
/// Where it is linked, beside the usual address, for machines whose firmware has what is its own there: 64 MiB.
const ELSEWHERE: u64 = 64 << 20;
/// The menu waits so long, in seconds.
const MENU_S: u32 = 3;
/// What makes the file, and what that needs: GRUB for both kinds of firmware, which no program names.
const TOOLS: [&str; 3] = ["grub-mkrescue", "xorriso", "mformat"];
const GRUBS: [&str; 2] = ["/usr/lib/grub/i386-pc/moddep.lst", "/usr/lib/grub/x86_64-efi/moddep.lst"];
/// UEFI for QEMU.
const OVMF: &str = "/usr/share/ovmf/OVMF.fd";
/// Some seconds are enough.
const LIMIT: Duration = Duration::from_secs(120);
/// UEFI takes half a minute on a busy host, and the menu its time.
const BOOT_LIMIT: Duration = Duration::from_secs(240);

#[derive(clap::Args)]
pub struct Options {
    /// The file; `target/cofferdam.img` if left out.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Boots it in QEMU as well: under SeaBIOS and OVMF, as a disk, a USB stick and a disc.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    booting: Booting,
}

/// Firmware, and what it boots from.
const WAYS: [(&str, Option<&str>); 2] = [("SeaBIOS", None), ("OVMF", Some(OVMF))];
const MEDIA: [(&str, &[&str]); 3] = [
    ("disk", &["ide-hd,drive=medium,bus=ide.0,bootindex=0"]),
    ("USB stick", &["qemu-xhci", "usb-storage,drive=medium,bootindex=0"]),
    ("disc", &["ide-cd,drive=medium,bus=ide.0,bootindex=0"]),
];

pub fn verb(options: &Options) -> Result<Verdict> {
    let matrix = crate::matrix()?;
    let rust = setup::ensure_rust()?;
    ensure_tools(options.verify)?;
    let output = match &options.output {
        Some(output) => output.clone(),
        None => cargo::target()?.join("cofferdam.img"),
    };
    println!("Rust for bare metal: {rust}");
    let folder = collect(&rust, &matrix)?;
    make(&folder, &matrix, 0, &output)?;
    let bytes = std::fs::metadata(&output).with_context(|| format!("no {}", output.display()))?.len();
    println!("{}: {:.1} MiB, for a USB stick or a disc", output.display(), bytes as f64 / f64::from(1 << 20));
    if options.verify { verify(options, &matrix, &folder, &output) } else { Ok(Verdict::Held) }
}

/// Installs what makes the file, and what boots it if that is wanted.
fn ensure_tools(verify: bool) -> Result<()> {
    setup::ensure_cc()?;
    let missing = lacking();
    let missing = apt::Missing { ovmf: verify && missing.ovmf, ..missing };
    if missing.grub || missing.ovmf { apt::install(missing) } else { Ok(()) }
}

/// What the machine lacks of what makes the file and boots it.
pub fn lacking() -> apt::Missing {
    let is_there = |path: &str| Path::new(path).exists();
    missing(&|tool| which::which(tool).is_ok(), &is_there)
}

fn missing(has_tool: &dyn Fn(&str) -> bool, has_file: &dyn Fn(&str) -> bool) -> apt::Missing {
    let grub = !TOOLS.iter().all(|tool| has_tool(tool)) || !GRUBS.iter().all(|file| has_file(file));
    apt::Missing { grub, ovmf: !has_file(OVMF), ..apt::Missing::default() }
}

/// What the menu has: its words, the file, and the command line.
struct Entry {
    words: String,
    file: String,
    cmdline: String,
}

/// Builds the images, and collects them as GRUB is to find them.
fn collect(rust: &Toolchain, matrix: &Matrix) -> Result<TempDir> {
    let folder = TempDir::new().context("no temporary folder")?;
    let boot = folder.path().join("boot");
    std::fs::create_dir_all(boot.join("grub"))?;
    // The other one first: cargo has both in the same place, and the usual one is to stay there.
    let elsewhere = rust.image_at(DEFAULT, ELSEWHERE)?;
    strip(&elsewhere, &boot.join(format!("{DEFAULT}-elsewhere")))?;
    let bins: BTreeSet<&str> = on_board(matrix).map(Scenario::bin).chain([DEFAULT]).collect();
    for (bin, path) in rust.images(&Vec::from_iter(bins))? {
        strip(&path, &boot.join(bin))?;
    }
    Ok(folder)
}

/// Makes the file of what was collected, with one of the first entries as what is started if nobody chooses.
fn make(folder: &TempDir, matrix: &Matrix, default: usize, output: &Path) -> Result<()> {
    let scenarios = Vec::from_iter(on_board(matrix));
    let menu = menu(default, &first(), &others(&scenarios));
    std::fs::write(folder.path().join("boot/grub/grub.cfg"), menu)?;
    let mut grub = Command::new("grub-mkrescue");
    grub.args(["--fonts=", "--locales=", "--themes=", "-o"]).arg(output).arg(folder.path());
    process::quietly("Making the image", &mut grub, LIMIT)
}

fn strip(from: &Path, to: &Path) -> Result<()> {
    process::quietly("Stripping", Command::new("strip").arg("-o").arg(to).arg(from), LIMIT)
}

/// What can be started on a board: what is in Rust, is to crash or be refused nowhere, and expects no table of ours.
fn on_board(matrix: &Matrix) -> impl Iterator<Item = &Scenario> {
    matrix
        .scenarios
        .iter()
        .filter(|it| !it.c && !it.outside && it.is_to_succeed() && it.serial.is_none() && it.bin() != DEFAULT)
}

fn first() -> [Entry; 3] {
    let entry = |words: &str, file: &str, cmdline: &str| Entry {
        words: words.into(),
        file: file.into(),
        cmdline: cmdline.into(),
    };
    let elsewhere = format!("{DEFAULT}-elsewhere");
    [
        entry("Board report", DEFAULT, ""),
        entry("Board report, where the first does not start (linked at 64 MiB)", &elsewhere, ""),
        entry("Board report, with units switched on and measured while no device has memory", DEFAULT, "measure"),
    ]
}

/// One for each image and command line.
fn others(scenarios: &[&Scenario]) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    let is_new = |it: &&&Scenario| seen.insert((it.bin().to_owned(), it.cmdline.clone()));
    let entry = |it: &&Scenario| Entry {
        words: it.name.clone(),
        file: it.bin().into(),
        cmdline: it.cmdline.clone().unwrap_or_default(),
    };
    scenarios.iter().filter(is_new).map(entry).collect()
}

/// GRUB's configuration: what is told on the screen is told on the first serial port, too.
fn menu(default: usize, first: &[Entry], others: &[Entry]) -> String {
    let mut text = format!(
        "set timeout={MENU_S}\nset default={default}\ninsmod all_video\nserial --unit=0 --speed=115200\n\
         terminal_input console serial\nterminal_output console serial\n"
    );
    for entry in first {
        text.push_str(&entry.text(""));
    }
    let _ = writeln!(text, "submenu 'Scenarios, most of which need devices of QEMU' {{");
    others.iter().for_each(|entry| text.push_str(&entry.text("  ")));
    text + "}\n"
}

impl Entry {
    fn text(&self, indent: &str) -> String {
        let Self { words, file, cmdline } = self;
        let load = format!("multiboot2 /boot/{file} {cmdline}");
        format!("{indent}menuentry '{words}' {{\n{indent}  {}\n{indent}  boot\n{indent}}}\n", load.trim_end())
    }
}

/// Boots the file in each way, and the second of its first entries from a stick.
fn verify(options: &Options, matrix: &Matrix, folder: &TempDir, file: &Path) -> Result<Verdict> {
    let qemu = Qemu::new(setup::ensure(options.booting.qemu.clone())?.qemu, options.booting.accel)?;
    println!("{}", qemu.version);
    let other = folder.path().join("other.img");
    make(folder, matrix, 1, &other)?;
    let stick = MEDIA.into_iter().filter(|(medium, _)| medium.contains("stick"));
    let boots = MEDIA.map(|medium| (medium, file, "")).into_iter();
    let boots = Vec::from_iter(boots.chain(stick.map(|medium| (medium, &*other, ", linked elsewhere"))));

    let scenario = matrix.scenario(DEFAULT)?;
    let machine = matrix.machines_of(scenario)?.into_iter().next().context("the board report has no machine")?;
    let limit = options.booting.timeout.map_or(BOOT_LIMIT, Duration::from_secs);
    let (mut passed, mut failed) = (0, 0);
    for (firmware, bios) in WAYS {
        for ((medium, devices), file, entry) in &boots {
            let file = file.to_str().filter(|file| !file.contains(','));
            let file = file.context("QEMU takes no file with a comma in its name, or that is not UTF-8")?;
            let mut command = qemu.machine(scenario, machine);
            bios.iter().for_each(|bios| _ = command.args(["-bios", bios]));
            command.args(["-drive", &format!("if=none,id=medium,format=raw,snapshot=on,file={file}")]);
            devices.iter().for_each(|device| _ = command.args(["-device", device]));
            let boot = qemu.boot_by(command, scenario, limit);
            let held = boot.wrong.is_empty();
            println!("{} {firmware}, {medium}{entry}, {:.2} s", show::mark(held), boot.took.as_secs_f32());
            if held {
                passed += 1;
            } else {
                failed += 1;
                print!("{}", show::failure(&boot));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { Verdict::Held } else { Verdict::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_lacks_is_installed() {
        let lacks = |name: &str| {
            let missing = missing(&|tool| tool != name, &|file| file != name);
            (missing.grub, missing.ovmf)
        };
        assert_eq!(lacks("nothing"), (false, false));
        TOOLS.iter().chain(&GRUBS).for_each(|name| assert_eq!(lacks(name), (true, false), "{name}"));
        assert_eq!(lacks(OVMF), (false, true));
    }

    #[test]
    fn the_menu_has_each_image_with_each_command_line_once() {
        let matrix = crate::matrix().unwrap();
        let scenarios = Vec::from_iter(on_board(&matrix));
        let others = others(&scenarios);
        let text = menu(0, &first(), &others);
        assert!(text.starts_with("set timeout=3\nset default=0\n"), "{text}");
        assert!(text.contains("menuentry 'Board report' {\n  multiboot2 /boot/board\n  boot\n}\n"), "{text}");
        assert!(text.contains("multiboot2 /boot/board-elsewhere\n"), "{text}");
        assert!(text.contains("  menuentry 'main_job_no_queue' {\n    multiboot2 /boot/main_job no-queue\n"), "{text}");
        let lines = Vec::from_iter(text.lines().filter(|line| line.contains("multiboot2")));
        let once: BTreeSet<_> = lines.iter().collect();
        assert_eq!((lines.len(), once.len()), (others.len() + 3, others.len() + 3));
        // What crashes or is refused on purpose, and what is no image of ours.
        assert!(
            !text.contains("refusals") && !text.contains("platform overflow") && !text.contains("outside"),
            "{text}"
        );
        assert!(!text.contains("serial-"), "{text}");
    }
}
