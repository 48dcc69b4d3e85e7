//! The register set: offsets, names and widths (section 11.4).
#![forbid(unsafe_code)]

use crate::judge::journal::Register;

pub(crate) const VER: u32 = 0x00;
pub(crate) const CAP: u32 = 0x08;
pub(crate) const ECAP: u32 = 0x10;
pub(crate) const GCMD: u32 = 0x18;
pub(crate) const GSTS: u32 = 0x1c;
pub(crate) const RTADDR: u32 = 0x20;
pub(crate) const CCMD: u32 = 0x28;
pub(crate) const FSTS: u32 = 0x34;
pub(crate) const FECTL: u32 = 0x38;
pub(crate) const FEUADDR: u32 = 0x44;
pub(crate) const PMEN: u32 = 0x64;
pub(crate) const PLMBASE: u32 = 0x68;
pub(crate) const PLMLIMIT: u32 = 0x6c;
pub(crate) const PHMBASE: u32 = 0x70;
pub(crate) const PHMLIMIT: u32 = 0x78;
pub(crate) const IQH: u32 = 0x80;
pub(crate) const IQT: u32 = 0x88;
pub(crate) const IQA: u32 = 0x90;
pub(crate) const ICS: u32 = 0x9c;
pub(crate) const IECTL: u32 = 0xa0;
pub(crate) const IEUADDR: u32 = 0xac;
pub(crate) const IQERCD: u32 = 0xb0;
pub(crate) const IRTA: u32 = 0xb8;
pub(crate) const PECTL: u32 = 0xe0;
pub(crate) const PEUADDR: u32 = 0xec;

/// Registers of 64 bits at fixed places; all others there have 32.
pub(crate) const WIDE: [u32; 11] = [CAP, ECAP, RTADDR, CCMD, PHMBASE, PHMLIMIT, IQH, IQT, IQA, IQERCD, IRTA];

/// The abbreviation of a register at a fixed place.
fn name(at: u32) -> Option<&'static str> {
    let upper = WIDE.contains(&(at & !7));
    Some(match if upper { at & !7 } else { at } {
        VER => "VER",
        CAP => "CAP",
        ECAP => "ECAP",
        GCMD => "GCMD",
        GSTS => "GSTS",
        RTADDR => "RTADDR",
        CCMD => "CCMD",
        FSTS => "FSTS",
        FECTL..=FEUADDR => "fault event",
        PMEN => "PMEN",
        IQH => "IQH",
        IQT => "IQT",
        IQA => "IQA",
        ICS => "ICS",
        IECTL..=IEUADDR => "completion event",
        PECTL..=PEUADDR => "page request event",
        IQERCD => "IQERCD",
        IRTA => "IRTA",
        _ => return None,
    })
}

/// A register as the journal knows it.
pub(crate) fn register(offset: u32) -> Register {
    Register { offset, name: name(offset) }
}

/// Lower or upper half of a 64-bit register.
pub(crate) fn half(value: u64, at: u32) -> u32 {
    (value >> (8 * (at & 4))) as u32
}

/// The register with one half replaced.
pub(crate) fn merge(old: u64, at: u32, value: u32) -> u64 {
    let shift = 8 * (at & 4);
    old & !(0xffff_ffff << shift) | u64::from(value) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_shown_by_its_name_or_else_its_offset() {
        let shown = |at| register(at).to_string();
        assert_eq!([GCMD, FECTL + 4, RTADDR + 4].map(shown), ["GCMD", "fault event", "RTADDR"]);
        assert_eq!(shown(0x3f8), "0x3f8");
    }
}
