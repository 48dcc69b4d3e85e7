//! The memory of cells: everything that is not a frame of the driver. Reads as zero until it is written.
#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

#[derive(Debug, Default)]
pub(crate) struct Ram {
    pages: FxHashMap<u64, Box<[u8; 4096]>>,
}

impl Ram {
    pub(crate) fn read(&self, address: u64, buffer: &mut [u8]) {
        for (at, byte) in (address..).zip(buffer) {
            let offset = (at & 0xfff) as usize;
            *byte = self.pages.get(&(at >> 12)).and_then(|page| page.get(offset)).copied().unwrap_or(0);
        }
    }

    /// The word at an address, rounded down to a word.
    pub(crate) fn word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(address & !7, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let page = self.pages.entry(at >> 12).or_insert_with(|| Box::new([0; 4096]));
            if let Some(place) = page.get_mut((at & 0xfff) as usize) {
                *place = *byte;
            }
        }
    }
}
