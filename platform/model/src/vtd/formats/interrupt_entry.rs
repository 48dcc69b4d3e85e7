//! Entries of the interrupt-remapping table (section 9.9).
#![forbid(unsafe_code)]

/// Section 9.9, remapped interrupts.
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

    /// Bits that are reserved in DST without extended interrupt mode.
    pub(crate) fn destination_reserved(self, extended: bool) -> bool {
        !extended && self.0[0] >> 32 & 0xffff_00ff != 0
    }

    /// All other reserved bits and encodings; posted interrupts (IM) are not supported.
    pub(crate) fn reserved(self) -> bool {
        let [low, high] = self.0;
        low & 0xff00_f000 != 0 || high >> 20 != 0 || self.validation() == 3 || matches!(self.delivery(), 3 | 6)
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
        let (address, data) = self.message(extended);
        (if address & 4 == 0 { address & !8 } else { address }, data)
    }

    /// The message that goes to the interrupt controllers, in compatibility format; destination bits 31:8 in address
    /// bits 63:40 (section 5.1.6).
    pub(crate) fn message(self, extended: bool) -> (u64, u32) {
        let low = self.0[0];
        let destination = if extended { low >> 32 } else { low >> 40 & 0xff };
        let address = 0xfee0_0000 | (destination & 0xff) << 12 | low & 0xc | (destination >> 8) << 40;
        let data = low >> 16 & 0xff | (low >> 5 & 7) << 8 | 1 << 14 | (low >> 4 & 1) << 15;
        (address, data as u32)
    }
}
