//! What a table is written from.

use cofferdam::addr::{PhysAddr, PhysRange};
use cofferdam::firmware::dmar;

use crate::failure::Wrong;
use crate::flat;

pub const COFFERDAM_ENTRY_UNIT: u8 = 1;
pub const COFFERDAM_ENTRY_RESERVED: u8 = 2;
pub const COFFERDAM_ENTRY_PORTS: u8 = 3;
pub const COFFERDAM_ENTRY_FUNCTION: u8 = 4;
pub const COFFERDAM_ENTRY_BRIDGE: u8 = 5;
pub const COFFERDAM_ENTRY_IO_APIC: u8 = 6;
pub const COFFERDAM_ENTRY_HPET: u8 = 7;

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub kind: u8,
    pub all: u8,
    pub id: u8,
    pub segment: u16,
    pub device: u32,
    pub first: u64,
    pub last: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    pub entries: *const Entry,
    pub count: usize,
    pub host_address_width: u8,
    pub remaps_interrupts: u8,
}

impl Entry {
    /// The driver's, if each field is something that the header names.
    pub(crate) fn read(&self) -> Result<dmar::TableEntry, Wrong> {
        let (segment, id, device) = (self.segment, self.id, flat::device(self.device));
        let first = PhysAddr::try_new(self.first).map_err(|_| Wrong::value("first"))?;
        let all = match self.all {
            all @ ..=1 => all != 0,
            _ => return Err(Wrong::value("all")),
        };
        Ok(match self.kind {
            COFFERDAM_ENTRY_UNIT => dmar::TableEntry::Unit { segment, registers: first, all },
            COFFERDAM_ENTRY_RESERVED => {
                let bytes = self.last.checked_sub(self.first).and_then(|bytes| bytes.checked_add(1));
                let memory = bytes.and_then(|bytes| PhysRange::new(first, bytes)).ok_or(Wrong::value("last"))?;
                dmar::TableEntry::Reserved { segment, memory }
            }
            COFFERDAM_ENTRY_PORTS => dmar::TableEntry::Ports { segment, all },
            COFFERDAM_ENTRY_FUNCTION => dmar::TableEntry::Function(device),
            COFFERDAM_ENTRY_BRIDGE => dmar::TableEntry::Bridge(device),
            COFFERDAM_ENTRY_IO_APIC => dmar::TableEntry::IoApic(id, device),
            COFFERDAM_ENTRY_HPET => dmar::TableEntry::Hpet(id, device),
            _ => return Err(Wrong::value("kind")),
        })
    }
}
