//! The registers of a unit that whoever had it depends on.

use cofferdam::hal::{Hal, MappedRegisters, RegisterWindow};
use cofferdam_pc::Pc;

use crate::report::Words;
use crate::tables::mapped;

pub(crate) const STATUS: u32 = 0x1c;
/// Their names and offsets: 32 bits each.
const ALL: [(&str, u32); 28] = [
    ("GSTS", STATUS),
    ("RTADDR", 0x20),
    ("RTADDR, upper half", 0x24),
    ("FSTS", 0x34),
    ("FECTL", 0x38),
    ("FEDATA", 0x3c),
    ("FEADDR", 0x40),
    ("FEUADDR", 0x44),
    ("PMEN", 0x64),
    ("PLMBASE", 0x68),
    ("PLMLIMIT", 0x6c),
    ("PHMBASE", 0x70),
    ("PHMBASE, upper half", 0x74),
    ("PHMLIMIT", 0x78),
    ("PHMLIMIT, upper half", 0x7c),
    ("IQH", 0x80),
    ("IQH, upper half", 0x84),
    ("IQT", 0x88),
    ("IQT, upper half", 0x8c),
    ("IQA", 0x90),
    ("IQA, upper half", 0x94),
    ("ICS", 0x9c),
    ("IECTL", 0xa0),
    ("IEDATA", 0xa4),
    ("IEADDR", 0xa8),
    ("IEUADDR", 0xac),
    ("IRTA", 0xb8),
    ("IRTA, upper half", 0xbc),
];
/// Bits that say nothing of what is on: GSTS.RTPS and IRTPS, whether a pointer was ever set; FECTL.IP, which QEMU keeps when the
/// faults are cleared.
const EVER_SET: u32 = 1 << 30 | 1 << 24;
const PENDING: u32 = 1 << 30;
/// GSTS.QIES: the queue is on. While it is off, QEMU's IQA shows where the last one was.
pub(crate) const QUEUE_ON: u32 = 1 << 26;

/// GCMD, and what of GSTS a command carries over: not what is done once (S 11.4.4.1).
const COMMAND: u32 = 0x18;
const CARRIED: u32 = 0x96ff_ffff;
/// TE in the one, TES in the other.
const TRANSLATION: u32 = 1 << 31;

/// Far more than any unit needs, in nanoseconds.
pub(crate) const LIMIT_NS: u64 = 1_000_000_000;

/// Switches a unit's translation on or off, and nothing else. False if its registers are out of reach, or it does not confirm.
pub fn translate(pc: &'static Pc, window: RegisterWindow, on: bool) -> bool {
    // SAFETY: whoever has the unit has given it a root table, which has what devices work with.
    mapped(&pc, window).is_some_and(|registers| unsafe { switch(pc, registers, TRANSLATION, on) })
}

/// Switches what this bit stands for on or off, and nothing else. True once the unit confirms.
///
/// # Safety
///
/// The registers are those of a unit of which the caller knows who uses it, and what it goes by then is theirs.
pub(crate) unsafe fn switch(pc: &'static Pc, registers: MappedRegisters, bit: u32, on: bool) -> bool {
    // SAFETY: each unit has it, and reading changes nothing.
    let status = || unsafe { pc.read32(registers, STATUS) };
    let command = status() & CARRIED & !bit | if on { bit } else { 0 };
    // SAFETY: as the caller says.
    unsafe { pc.write32(registers, COMMAND, command) };
    let begun = pc.now_ns();
    while (status() & bit != 0) != on {
        if pc.now_ns().saturating_sub(begun) > LIMIT_NS {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// An AMD unit's control register (AMD IOMMU specification, order number 48882, section 3.4.1), and IommuEn in it.
const AMD_CONTROL: u32 = 0x18;
const AMD_ON: u64 = 1;

/// True if an AMD unit translates. Reads one register; a unit whose registers are not decoded reads all ones, and does not.
pub fn amd_is_on(pc: &'static Pc, window: RegisterWindow) -> bool {
    let Some(registers) = mapped(&pc, window) else { return false };
    // SAFETY: each unit has it, and reading changes nothing.
    let control = unsafe { pc.read64(registers, AMD_CONTROL) };
    control != u64::MAX && control & AMD_ON != 0
}

/// What they show.
#[derive(Clone, Copy, Debug)]
pub struct Registers([u32; ALL.len()]);

impl Registers {
    /// Reads them. `None` if they are out of reach.
    pub fn read(pc: &'static Pc, window: RegisterWindow) -> Option<Self> {
        let registers = mapped(&pc, window)?;
        // SAFETY: QEMU's unit has each of them, and reading changes nothing.
        let read = |at| unsafe { pc.read32(registers, at) };
        let has_queue = read(STATUS) & QUEUE_ON != 0;
        Some(Self(ALL.map(|(_, at)| match at {
            STATUS => read(at) & !EVER_SET,
            0x38 => read(at) & !PENDING,
            0x90 | 0x94 if !has_queue => 0,
            _ => read(at),
        })))
    }

    /// True if the unit does nothing, as after a reset.
    pub fn are_all_off(&self) -> bool {
        self.0[0] == 0
    }

    /// Those that do not show what they showed before.
    pub fn differences(&self, before: &Self) -> Words {
        let mut words = Words::default();
        for ((name, ..), (now, before)) in ALL.iter().zip(self.0.iter().zip(&before.0)) {
            if now != before {
                // Never fails.
                let _ = core::fmt::Write::write_fmt(&mut words, format_args!("{name} {before:#x}, now {now:#x}; "));
            }
        }
        words
    }
}
