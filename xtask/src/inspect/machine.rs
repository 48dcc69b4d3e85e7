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

use super::{
    beside::{self, Beside},
    input::{self, Input, OFF},
};

/// A machine, whose configuration space is read once for each function.
pub struct Machine {
    sysfs: PathBuf,
    functions: RefCell<HashMap<SourceId, Vec<u8>>>,
}

impl Machine {
    pub fn at(sysfs: PathBuf) -> Self {
        Self { sysfs, functions: RefCell::default() }
    }

    /// Its DMAR or IVRS, and what its MADT and its HPET table say.
    ///
    /// # Errors
    ///
    /// It has neither, or does not let it be read; the error says what to do.
    pub fn input(&self) -> Result<Input> {
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
                    let ioapics = fs::read(tables.join("APIC")).ok().and_then(|madt| beside::ioapics(&madt));
                    let hpets = match fs::read(tables.join("HPET")) {
                        Ok(table) => beside::hpet(&table).map(|number| vec![number]),
                        Err(error) => (error.kind() == io::ErrorKind::NotFound).then(Vec::new),
                    };
                    return Ok(Input { name: file.display().to_string(), table, beside: Beside { ioapics, hpets } });
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
pub fn parse(name: &str) -> Option<SourceId> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]
    use super::*;
    use crate::inspect::{print, report::Report};

    /// A machine with a bridge, a function behind it that a path names, and memory in conflict with a reserved region.
    fn sysfs() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        };
        let mut table = b"DMAR".to_vec();
        table.extend([0; 44]);
        table[36] = 38;
        table[37] = 1;
        table.extend([0, 0, 26, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
        table.extend([1, 10, 0, 0, 0, 0, 1, 0, 0, 0]);
        table.extend([0, 0, 24, 0, 1, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0]);
        table.extend([3, 8, 0, 0, 2, 3, 0x1f, 0]);
        table.extend([1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0x70, 0, 0, 0, 0, 0xff, 0x0f, 0, 0x70, 0, 0, 0, 0]);
        table.extend([1, 8, 0, 0, 0, 0, 2, 0]);
        table[4] = table.len() as u8;
        table[9] = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        write("firmware/acpi/tables/DMAR", &table);
        let mut madt = b"APIC\x44".to_vec();
        madt.resize(44, 0);
        madt.extend([1, 12, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        madt.extend([1, 12, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        write("firmware/acpi/tables/APIC", &madt);
        let mut hpet = b"HPET\x38".to_vec();
        hpet.resize(56, 0);
        hpet[52] = 5;
        write("firmware/acpi/tables/HPET", &hpet);
        for (field, text) in [("start", "0x0\n"), ("end", "0x7fffffff\n"), ("type", "System RAM\n")] {
            write(&format!("firmware/memmap/0/{field}"), text.as_bytes());
        }
        let mut bridge = vec![0; 64];
        bridge[..2].copy_from_slice(&[0x86, 0x80]);
        bridge[6] = 0x10;
        bridge[0x0e] = 1;
        bridge[0x18..0x1b].copy_from_slice(&[0, 3, 3]);
        bridge[0x34] = 0x40;
        bridge.extend([0x10, 0, 0x42, 0]);
        for (name, class, config) in [
            ("0000:00:01.0", "0x060400\n", &bridge[..]),
            ("0000:00:02.0", "0x030000\n", &[0x86; 64][..]),
            ("0000:03:00.0", "0x020000\n", &[0x86; 64]),
        ] {
            write(&format!("bus/pci/devices/{name}/class"), class.as_bytes());
            write(&format!("bus/pci/devices/{name}/config"), config);
        }
        folder
    }

    #[test]
    fn this_machine_is_shown_with_its_functions_and_misfits() {
        let folder = sysfs();
        let machine = Machine::at(folder.path().to_owned());
        let report = Report::new(&machine.input().unwrap(), Some(&machine)).unwrap();
        let text = print::text(&report);
        for line in [
            "  0000:00:01.0 > 00.0\n",
            "  0000:00:01.0  unit 1    bridge\n",
            "  0000:00:02.0  unit 1    display\n",
            "  0000:03:00.0  unit 0    network\n",
            "reserved memory 0x70000000..=0x70000fff is not reserved in the memory map",
            "IOAPIC 3 of the MADT is in the scope of no unit",
            "  compared with    the MADT (IOAPIC 2, IOAPIC 3), the HPET table (HPET 5)\n",
            "HPET 5 of the HPET table is in the scope of no unit",
            "IOAPIC 2 sends as 0000:03:1f.0, on a bus behind bridge 0000:00:01.0",
            "2 units: 2 errors, 1 warning, 1 note\n",
        ] {
            assert!(text.contains(line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_machine_without_a_table_gets_an_answer_that_helps() {
        let folder = sysfs();
        let machine = Machine::at(folder.path().to_owned());
        fs::remove_file(folder.path().join("firmware/acpi/tables/DMAR")).unwrap();
        let text = machine.input().err().unwrap().to_string();
        assert!(
            text.contains("holds neither DMAR nor IVRS; the machine has no IOMMU, or it is switched off"),
            "{text}"
        );
        fs::remove_dir_all(folder.path().join("firmware")).unwrap();
        let text = machine.input().err().unwrap().to_string();
        assert!(text.contains("give the table of another machine: cargo xtask inspect FILE"), "{text}");
    }
}
