//! What the units of a machine share.
#![forbid(unsafe_code)]

use std::sync::Arc;

use cofferdam::addr::SourceId;

use crate::devices::all::Devices;
use crate::judge::journal::Journal;
use crate::judge::ownership::Ownership;
use crate::memory::arena::Arena;
use crate::memory::frames::Memory;
use crate::memory::ram::Ram;
use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) arena: Arc<Arena>,
    pub(crate) memory: Memory,
    pub(crate) ram: Ram,
    pub(crate) journal: Journal,
    pub(crate) ownership: Ownership,
    pub(crate) random: Option<Random>,
    pub(crate) devices: Devices,
}

impl Board {
    /// True if a cache takes an entry in: always, in the strictest hardware.
    pub(crate) fn fills(&mut self) -> bool {
        self.random.as_mut().is_none_or(|random| random.one_in(2))
    }

    /// Reads memory as the CPU sees it.
    pub(crate) fn fetch(&self, address: u64, buffer: &mut [u8]) {
        for (at, byte) in (address..).zip(buffer) {
            match self.memory.index(at) {
                Some(index) => *byte = (self.arena.get(index) >> (8 * (at & 7))) as u8,
                None => self.ram.read(at, std::slice::from_mut(byte)),
            }
        }
    }

    /// A device reaches memory: OWN, if that is another owner's.
    pub(crate) fn reached(&mut self, device: SourceId, at: u64) {
        if let Some(owner) = self.ownership.crossed(device, at) {
            self.journal.violation("OWN", format_args!("{device} reaches {at:#x}, which {owner} owns"));
        }
    }

    /// A message of a sender gets through: OWN, if it is not for CPUs of the sender's owner.
    pub(crate) fn sent(&mut self, sender: SourceId, address: u64, data: u32) {
        self.journal.message(address, data);
        if !self.ownership.may_send(sender, address, data) {
            let text = format_args!("{sender} sends {data:#x} to {address:#x}, where its owner has no such target");
            self.journal.violation("OWN", text);
        }
    }

    /// An interrupt of a sender is posted: OWN, if that is where others' are.
    pub(crate) fn posted(&mut self, sender: SourceId, descriptor: u64) {
        if !self.ownership.may_post(sender, descriptor) {
            let text = format_args!("{sender} posts to {descriptor:#x}, which is not its owner's");
            self.journal.violation("OWN", text);
        }
    }

    /// A device's write. The driver's frames are in no memory that a device may have (`Hal::allocate`).
    pub(crate) fn deposit(&mut self, address: u64, bytes: &[u8]) {
        if self.memory.index(address).is_some() {
            self.journal.violation("HAL", format_args!("a device writes to {address:#x}, a frame of the driver"));
        } else {
            self.ram.write(address, bytes);
        }
    }
}
