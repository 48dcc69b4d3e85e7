//! Entries of the interrupt-remapping table (sections 9.9 and 9.10).
#![forbid(unsafe_code)]

/// Remapped interrupts (section 9.9), or posted ones (section 9.10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InterruptEntry(pub(crate) [u64; 2]);

impl InterruptEntry {
    pub(crate) fn present(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// FPD.
    pub(crate) fn faults_disabled(self) -> bool {
        self.0[0] & 2 != 0
    }

    /// SVT: 0 for no validation.
    pub(crate) fn validation(self) -> u64 {
        self.0[1] >> 18 & 3
    }

    /// IM: interrupts are posted.
    pub(crate) fn posted(self) -> bool {
        self.0[0] & 1 << 15 != 0
    }

    /// URG.
    pub(crate) fn urgent(self) -> bool {
        self.0[0] & 1 << 14 != 0
    }

    /// PDAL and PDAH: where they are posted.
    pub(crate) fn descriptor(self) -> u64 {
        let [low, high] = self.0;
        high & 0xffff_ffff << 32 | low >> 32 & 0xffff_ffc0
    }

    /// Bits that are reserved in DST without extended interrupt mode.
    pub(crate) fn destination_reserved(self, extended: bool) -> bool {
        !extended && !self.posted() && self.0[0] >> 32 & 0xffff_00ff != 0
    }

    /// All other reserved bits and encodings, in a unit that posts interrupts or does not, on a machine with so many address bits.
    pub(crate) fn reserved(self, posts: bool, host_bits: u8) -> bool {
        let [low, high] = self.0;
        let of_format = if self.posted() && posts {
            low & 0x3f_ff00_30fc != 0 || high >> 20 & 0xfff != 0 || self.descriptor() >> host_bits != 0
        } else {
            low & 0xff00_f000 != 0 || high >> 20 != 0 || matches!(self.delivery(), 3 | 6)
        };
        of_format || self.validation() == 3
    }

    /// DLM: 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT.
    pub(crate) fn delivery(self) -> u64 {
        self.0[0] >> 5 & 7
    }

    /// V.
    pub(crate) fn vector(self) -> u64 {
        self.0[0] >> 16 & 0xff
    }

    /// A source that it accepts: the one in SID, or device 0 of the first bus.
    pub(crate) fn source(self) -> u16 {
        let id = self.0[1] as u16;
        if self.validation() == 2 { id & 0xff00 } else { id }
    }

    /// Source validation by SVT, SQ and SID.
    pub(crate) fn accepts(self, source: u16) -> bool {
        let id = self.0[1] as u16;
        match self.validation() {
            0 => true,
            1 => {
                let ignored = match self.0[1] >> 16 & 3 {
                    0 => 0,
                    1 => 4,
                    2 => 6,
                    _ => 7,
                };
                (id ^ source) & !ignored == 0
            }
            _ => (id >> 8..=id & 0xff).contains(&(source >> 8)),
        }
    }

    /// What comes of a request: as [`message`](Self::message), less a hint that one CPU alone is no choice.
    pub(crate) fn result(self, extended: bool) -> (u64, u32) {
        if self.posted() {
            return (self.descriptor(), self.0[0] as u32 & 0xff_4000);
        }
        let (address, data) = self.message(extended);
        (if address & 4 == 0 { address & !8 } else { address }, data)
    }

    /// The message that goes to the interrupt controllers, in compatibility format; destination bits 31:8 in address
    /// bits 63:40 (section 5.1.6).
    pub(crate) fn message(self, extended: bool) -> (u64, u32) {
        let low = self.0[0];
        let data = low >> 16 & 0xff | (low >> 5 & 7) << 8 | 1 << 14 | (low >> 4 & 1) << 15;
        (destination(low, extended) | low & 0xc, data as u32)
    }
}

/// The address of a message to what DST or NDST names, which is the upper half of a word.
pub(crate) fn destination(word: u64, extended: bool) -> u64 {
    let id = if extended { word >> 32 } else { word >> 40 & 0xff };
    0xfee0_0000 | (id & 0xff) << 12 | (id >> 8) << 40
}
