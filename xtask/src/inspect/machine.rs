//! The machine that this runs on, as Linux shows it in sysfs.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use cofferdam::{
    addr::{Region, SourceId},
    topology::ConfigSpace,
};

use super::input::{self, Input, OFF};

/// A machine, whose configuration space is read once for each function.
pub(super) struct Machine {
    sysfs: PathBuf,
    functions: RefCell<HashMap<SourceId, Vec<u8>>>,
}

impl Machine {
    pub(super) fn at(sysfs: PathBuf) -> Self {
        Self { sysfs, functions: RefCell::default() }
    }

    /// Its DMAR or IVRS, and the IOAPICs of its MADT.
    ///
    /// # Errors
    ///
    /// It has neither, or does not let it be read; the error says what to do.
    pub(super) fn input(&self) -> Result<Input> {
        let tables = self.sysfs.join("firmware/acpi/tables");
        if !tables.is_dir() {
            bail!(
                "{} is not there, so this machine does not show its firmware (a container, or no ACPI); \
                 give the table of another machine: cargo xtask inspect FILE",
                tables.display()
            );
        }
        for name in ["DMAR", "IVRS"] {
            let file = tables.join(name);
            match fs::read(&file) {
                Ok(table) => {
                    let ioapics = input::read(&tables.join("APIC")).ok().map(|madt| input::ioapics(&madt));
                    return Ok(Input { name: file.display().to_string(), table, ioapics });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(input::unreadable(&file.display().to_string(), &error)),
            }
        }
        bail!("{} holds neither DMAR nor IVRS; {OFF}", tables.display());
    }

    /// The PCI functions in order, each with the 24 bits of its class code.
    pub(super) fn functions(&self) -> Vec<(SourceId, u32)> {
        let entries = fs::read_dir(self.sysfs.join("bus/pci/devices")).into_iter().flatten().flatten();
        let mut functions: Vec<(SourceId, u32)> = entries
            .filter_map(|entry| {
                let source = parse(entry.file_name().to_str()?)?;
                let class = fs::read_to_string(entry.path().join("class")).ok()?;
                Some((source, u32::from_str_radix(class.trim().strip_prefix("0x")?, 16).ok()?))
            })
            .collect();
        functions.sort_unstable();
        functions
    }

    /// True if no byte of the region is ordinary memory; `None` where the memory map is not shown.
    pub(super) fn is_reserved(&self) -> Option<impl Fn(Region) -> bool> {
        let entries = fs::read_dir(self.sysfs.join("firmware/memmap")).ok()?;
        let ram: Vec<(u64, u64)> = entries.flatten().filter_map(|entry| ram(&entry.path())).collect();
        (!ram.is_empty()).then_some(move |region: Region| {
            let (first, last) = (region.input.start().as_u64(), region.input.last().as_u64());
            !ram.iter().any(|(start, end)| first <= *end && *start <= last)
        })
    }
}

/// First and last address of an entry of the memory map, if it is ordinary memory.
fn ram(entry: &Path) -> Option<(u64, u64)> {
    let field = |name| fs::read_to_string(entry.join(name)).ok();
    let address = |name| u64::from_str_radix(field(name)?.trim().strip_prefix("0x")?, 16).ok();
    (field("type")?.trim() == "System RAM").then_some((address("start")?, address("end")?))
}

/// A name as `0000:00:02.0`.
fn parse(name: &str) -> Option<SourceId> {
    let (rest, function) = name.split_once('.')?;
    let mut parts = rest.split(':').map(|part| u16::from_str_radix(part, 16).ok());
    let (segment, bus, device) = (parts.next()??, parts.next()??, parts.next()??);
    SourceId::new(segment, bus.try_into().ok()?, device.try_into().ok()?, function.parse().ok()?)
}

/// All ones behind what Linux lets this user see: 64 bytes, or all as root.
impl ConfigSpace for Machine {
    fn read(&self, function: SourceId, offset: u16) -> u32 {
        let mut functions = self.functions.borrow_mut();
        let bytes = functions.entry(function).or_insert_with(|| {
            fs::read(self.sysfs.join(format!("bus/pci/devices/{function}/config"))).unwrap_or_default()
        });
        let word = bytes.get(usize::from(offset)..).and_then(|rest| rest.first_chunk());
        word.map_or(u32::MAX, |word| u32::from_le_bytes(*word))
    }
}
