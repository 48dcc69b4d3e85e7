//! A machine whose serial port is not at COM1, and the table by which its firmware says so: SPCR (Microsoft, Serial Port Console
//! Redirection Table), which QEMU's firmware has none of for a PC.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::NamedTempFile;

/// Where SeaBIOS puts the one function of a machine with ports of its own that takes eight of them: behind those of the chipset, as
/// QEMU's `info pci` shows.
const PCI_PORT: u64 = 0xc060;
/// The function, and its vendor and device.
const SLOT: u8 = 0x10;
const PCI_ID: [u16; 2] = [0x1b36, 0x0002];
/// COM2, which no machine has.
const COM2: u64 = 0x2f8;
/// What stands for a vendor or a device that is none.
const NO_PCI: [u16; 2] = [0xffff; 2];

/// Where the serial port of a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SerialAt {
    /// On a function of PCI; there is no COM1.
    Pci,
    /// At COM1, but the table says that it is at COM2.
    Elsewhere,
}

impl SerialAt {
    /// QEMU's arguments for it. The file that they name is there after [`write`](Self::write).
    pub fn options(self) -> Vec<String> {
        let serial = match self {
            Self::Pci => format!("-chardev stdio,id=serial -device pci-serial,chardev=serial,addr={SLOT:#x}"),
            Self::Elsewhere => "-serial stdio".into(),
        };
        let table = format!("sig=SPCR,rev=2,data={}", self.file().display());
        serial.split(' ').chain(["-acpitable", &table]).map(Into::into).collect()
    }

    /// Puts the table's bytes where QEMU finds them.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(self) -> Result<()> {
        let path = self.file();
        let write = || {
            // Another machine may be reading it, so it is there as a whole or not at all.
            let mut file = NamedTempFile::new_in(path.parent()?).ok()?;
            file.write_all(&self.table()).ok()?;
            file.persist(&path).ok()
        };
        write().with_context(|| format!("cannot write {}", path.display())).map(drop)
    }

    /// Beside this program, which is where all else is that was built.
    fn file(self) -> PathBuf {
        let name = match self {
            Self::Pci => "spcr-pci.bin",
            Self::Elsewhere => "spcr-elsewhere.bin",
        };
        std::env::current_exe().unwrap_or_default().with_file_name(name)
    }

    /// The table behind its header, which QEMU makes: a 16550 at I/O ports, 115200 baud, 8N1.
    fn table(self) -> Vec<u8> {
        let (port, slot, [vendor, device]) = match self {
            Self::Pci => (PCI_PORT, SLOT, PCI_ID),
            Self::Elsewhere => (COM2, 0, NO_PCI),
        };
        let kind = [0; 4];
        let space = [1, 8, 0, 1];
        let interrupt = [0; 6];
        let line = [7, 0, 1, 0, 3, 0];
        let (function, rest) = ([0, slot, 0], [0; 9]);
        let parts: [&[u8]; 9] = [
            &kind,
            &space,
            &port.to_le_bytes(),
            &interrupt,
            &line,
            &device.to_le_bytes(),
            &vendor.to_le_bytes(),
            &function,
            &rest,
        ];
        parts.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_as_long_as_the_revision_that_it_is_of() {
        for at in [SerialAt::Pci, SerialAt::Elsewhere] {
            assert_eq!(at.table().len(), 80 - 36);
        }
        assert_eq!(SerialAt::Pci.table()[28..35], [0x02, 0x00, 0x36, 0x1b, 0, 0x10, 0]);
    }

    #[test]
    fn a_machine_has_one_port_and_the_file_that_it_names() {
        let words = SerialAt::Pci.options().join(" ");
        assert!(
            words.starts_with("-chardev stdio,id=serial -device pci-serial,chardev=serial,addr=0x10 -acpitable "),
            "{words}"
        );
        assert!(!words.contains("-serial "), "{words}");
        SerialAt::Pci.write().unwrap();
        let file = words.rsplit_once("data=").unwrap().1;
        assert_eq!(std::fs::read(file).unwrap(), SerialAt::Pci.table());
    }
}
