//! `cargo xtask report`: a board report as a page. What `inspect --report` and `check --report` share of it is here.

mod contents;
mod groups;
mod page;
mod picture;
mod saved_log;
mod summary;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub use self::contents::{Contents, ReportedFunction, ReportedUnit};
pub use self::groups::groups;
pub use self::saved_log::printable;
use self::saved_log::{SCENARIO, SavedLog};
use crate::{
    Booting, Verdict, build, cargo,
    process::Stream,
    qemu::{Boot, Qemu},
    setup, show,
};

#[derive(clap::Args)]
pub struct Options {
    /// A saved serial log of a board report, instead of a boot in QEMU.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "machine"])]
    from: Option<PathBuf>,
    /// Another scenario of the matrix that makes a board report.
    #[arg(long, value_name = "NAME", default_value = SCENARIO)]
    scenario: String,
    /// The machine; without it the first one of the scenario.
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// Opens nothing: says where the page is.
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    booting: Booting,
}

pub fn verb(options: &Options) -> Result<Verdict> {
    let folder = cargo::target()?.join("report");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (log, name, boot) = match &options.from {
        Some(file) => (bytes_of(file)?, file.file_stem().map_or_else(|| "report".into(), ToOwned::to_owned), None),
        None => {
            let (boot, name) = boot(options)?;
            let out = boot.lines.iter().filter(|line| line.stream == Stream::Out);
            let log = out.map(|line| line.text.clone() + "\n").collect::<String>();
            (log.into_bytes(), name.into(), Some(boot))
        }
    };
    let path = |ending: &str| folder.join(&name).with_added_extension(ending);
    let (saved, page) = (path("log"), path("html"));
    options.from.iter().try_for_each(|log| keep_apart(log, &page))?;
    fs::write(&saved, &log).with_context(|| format!("cannot write {}", saved.display()))?;
    let failed = boot.filter(|boot| !boot.wrong.is_empty());
    if let Some(boot) = &failed {
        print!("{} the boot\n{}", show::mark(false), show::failure(boot));
    }
    let verdict = if inspect(&saved, Some(&page))? == Verdict::Held && failed.is_none() {
        Verdict::Held
    } else {
        Verdict::Failed
    };
    println!("Log:  {}\nPage: {}", saved.display(), page.display());
    if !options.no_open && has_desktop() {
        open::that(&page).with_context(|| format!("cannot open {}", page.display()))?;
    }
    Ok(verdict)
}

/// Reads a saved log, prints what it says in short, and writes the page if that is wanted.
///
/// # Errors
///
/// There is no board report in it, or something cannot be read or written.
pub fn inspect(file: &Path, page: Option<&Path>) -> Result<Verdict> {
    let contents = read(file)?;
    if let Some(page) = page {
        keep_apart(file, page)?;
        fs::write(page, page::html(&contents)).with_context(|| format!("cannot write {}", page.display()))?;
    }
    print!("{}", summary::text(&contents));
    Ok(if contents.is_sound() { Verdict::Held } else { Verdict::Failed })
}

/// What a saved log says of a board.
///
/// # Errors
///
/// It cannot be read, or there is no board report in it.
pub fn read(file: &Path) -> Result<Contents> {
    let bytes = bytes_of(file)?;
    let log = SavedLog::read(&bytes).with_context(|| format!("{} cannot be used", file.display()))?;
    Ok(Contents::of(log))
}

/// Fails if a page would be written over the log that it is made of.
fn keep_apart(log: &Path, page: &Path) -> Result<()> {
    // A page that is not there yet has no canonical path.
    match (log.canonicalize(), page.canonicalize()) {
        (Ok(log), Ok(page)) if log == page => bail!("{} is the log itself; name another page", page.display()),
        _ => Ok(()),
    }
}

/// The bytes of a log. Of a file that is too long for one, it reads as much as shows that.
fn bytes_of(file: &Path) -> Result<Vec<u8>> {
    let context = || format!("cannot read {}", file.display());
    bounded(fs::File::open(file).with_context(context)?).with_context(context)
}

fn bounded(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(saved_log::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Boots a board report, and what to call it.
fn boot(options: &Options) -> Result<(Boot, String)> {
    let matrix = crate::matrix()?;
    let scenario = matrix.scenario(&options.scenario)?;
    if scenario.bin() != SCENARIO {
        bail!("the scenario {} makes no board report", scenario.name);
    }
    let machine = match &options.machine {
        Some(name) => matrix.machine(name)?,
        None => matrix.machines_of(scenario)?.into_iter().next().context("the scenario has no machine")?,
    };
    let limit = options.booting.timeout.map_or(matrix.timeout, Duration::from_secs);
    let tools = setup::ensure(options.booting.qemu.clone())?;
    let qemu = Qemu::new(tools.qemu, options.booting.accel)?;
    println!("Rust for bare metal: {}\n{}", tools.rust, qemu.version);
    let image = build::images(&tools.rust, [scenario])?.remove(scenario.bin()).context("cargo built no image")?;
    Ok((qemu.boot(scenario, machine, &image, limit), format!("{}-{machine}", scenario.name)))
}

/// True if something can show a page.
fn has_desktop() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
    use super::*;

    #[test]
    fn no_more_is_read_of_a_file_than_shows_that_it_is_no_log() {
        let most = saved_log::MAX_BYTES as u64;
        let mut file = std::io::repeat(b' ').take(2 * most);
        let bytes = bounded(&mut file).unwrap();
        assert_eq!(file.limit(), most - 1);
        assert!(SavedLog::read(&bytes).is_err());
    }
}

/// Reports of boards that do not exist.
#[cfg(test)]
pub mod made {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
    use super::*;
    use cofferdam_report::{FORMAT, Record};

    pub const UNIT: u64 = 0xfed9_0000;
    pub const STATE: Record<&str> = Record::UnitState {
        unit: UNIT,
        version: (1, 0),
        input_bits: 39,
        output_bits: 39,
        domains: 65536,
        translating: false,
        interrupts: true,
        refused: "",
    };
    pub const VERDICT: Record<&str> = Record::Verdict { fit: true, why: "", limits: 0 };

    /// The log of a report with a unit and these records, and then what each report has, from its start to its end.
    pub fn log(records: &[Record<&str>]) -> String {
        let mut all = vec![
            Record::Started { scenario: SCENARIO, memory_mib: 256, tsc_mhz: 1000 },
            Record::Board { format: FORMAT, version: "0.1.0" },
            Record::Unit { base: UNIT, segment: 0, capabilities: "39 bits" },
        ];
        all.extend(records);
        let has = |which: fn(&Record<&str>) -> bool| records.iter().any(which);
        if !records.iter().any(|record| matches!(record, Record::Memory { .. })) {
            all.push(Record::Memory { first: 0, bytes: 1 << 39, kind: "free" });
        }
        all.push(Record::Firmware { host_bits: 39, interrupts: true, complete: true });
        all.push(Record::Ability { unit: UNIT, bit: "QI", has: true, words: "an invalidation queue" });
        all.extend(
            (!has(|it| matches!(it, Record::TablePart { .. })))
                .then_some(Record::TablePart { offset: 0, hex: "444d4152" }),
        );
        all.extend((!has(|it| matches!(it, Record::Function { .. }))).then(|| function("0000:00:1f.7")));
        all.push(Record::Sent { records: u32::try_from(all.len()).unwrap() });
        all.push(Record::Finished);
        let mut text = String::new();
        all.iter().for_each(|record| record.write(&mut text).unwrap());
        text
    }

    pub fn contents(records: &[Record<&str>]) -> Contents {
        Contents::of(SavedLog::read(log(records).as_bytes()).unwrap())
    }

    /// A function that can be given to a cell, and that something isolates.
    pub fn function(id: &str) -> Record<&str> {
        Record::Function {
            id,
            vendor: 0x8086,
            device: 0x1234,
            class: 0x02_0000,
            unit: Some(UNIT),
            refused: "",
            input_bits: 39,
            isolated: "by the root complex",
            device_tlb: 0,
            no_device_tlb: "it has no ATS capability",
            msi: 1,
            msi_x: 4,
            resettable: true,
            buses: None,
        }
    }

    /// The same, but a bridge, that nothing isolates, or that no unit serves.
    pub fn bridge(id: &str, to: (u8, u8)) -> Record<&str> {
        let mut made = function(id);
        if let Record::Function { buses, class, .. } = &mut made {
            (*buses, *class) = (Some(to), 0x06_0400);
        }
        made
    }

    pub fn shared(id: &str) -> Record<&str> {
        let mut made = function(id);
        if let Record::Function { isolated, .. } = &mut made {
            *isolated = "";
        }
        made
    }

    pub fn unserved<'t>(id: &'t str, why: &'t str) -> Record<&'t str> {
        let mut made = function(id);
        if let Record::Function { unit, refused, .. } = &mut made {
            (*unit, *refused) = (None, why);
        }
        made
    }
}
