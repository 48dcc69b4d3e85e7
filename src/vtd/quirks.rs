//! What chipsets get wrong about their remapping units, as data.
//!
//! A quirk follows from the host bridge, which is no device that can be assigned, and never from what an assigned device
//! says of itself. Each takes a capability away that does not work, or adds work; none lets a request through that would
//! be blocked without it.
#![forbid(unsafe_code)]

use core::ops::RangeInclusive;

use super::Capabilities;
use crate::addr::SourceId;
use crate::hal::Hal;

/// A deviation of a chipset from what its units' registers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quirk {
    /// PCI vendor and device id of the function 0000:00:00.0.
    pub host_bridge: (u16, u16),
    /// Its revisions.
    pub revisions: RangeInclusive<u8>,
    /// What the driver does about it.
    pub effect: Effect,
    /// Where that is known from.
    pub source: &'static str,
}

/// What the driver does about a quirk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Write buffers are flushed although CAP.RWBF is clear.
    // R10
    FlushWriteBuffers,
    /// Protected memory regions are not relied upon although CAP.PLMR or PHMR is set.
    // R12
    NoProtectedMemory,
    /// Interrupts are not remapped although ECAP.IR is set.
    NoInterruptRemapping,
    /// Page-selective invalidations are of at most 2^9 pages whatever CAP.MAMV says.
    // R27
    SmallAddressMasks,
    /// The unit that serves the chipset's graphics alone is given pages of 4 KiB only, whatever CAP.SSLPS says.
    SmallGraphicsPages,
}

const INTEL: u16 = 0x8086;
const ALL: RangeInclusive<u8> = 0..=u8::MAX;

const fn quirk(device: u16, revisions: RangeInclusive<u8>, effect: Effect, source: &'static str) -> Quirk {
    Quirk { host_bridge: (INTEL, device), revisions, effect, source }
}

const SERIES_4: &str = "4 series chipsets neglect to set RWBF but need it (Linux, drivers/iommu/intel/iommu.c)";
const E23: &str = "Intel 5400 chipset, erratum 23 (FreeBSD, sys/x86/iommu/intel_quirks.c)";
const E47: &str = "Intel 5500 and 5520 chipsets, errata 47 and 53 (FreeBSD, sys/x86/iommu/intel_quirks.c)";
const SUPERPAGE: &str =
    "graphics units of Skylake, Broxton and Gemini Lake fault on large pages (V. Syrjälä, 2021, intel-gfx)";
const BT176: &str = "Xeon E5, erratum BT176 (FreeBSD, sys/x86/iommu/intel_quirks.c, by the CPU's model)";

/// All that are known.
pub(super) const QUIRKS: &[Quirk] = &[
    quirk(0x2a40, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e00, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e10, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e20, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e30, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e40, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x2e90, ALL, Effect::FlushWriteBuffers, SERIES_4),
    quirk(0x4001, 0x20..=0x20, Effect::NoProtectedMemory, E23),
    quirk(0x4003, 0x20..=0x20, Effect::NoProtectedMemory, E23),
    quirk(0x3403, 0..=0x13, Effect::NoInterruptRemapping, E47),
    quirk(0x3405, 0..=0x13, Effect::NoInterruptRemapping, E47),
    quirk(0x3405, 0x22..=0x22, Effect::NoInterruptRemapping, E47),
    quirk(0x3406, 0..=0x13, Effect::NoInterruptRemapping, E47),
    quirk(0x3c00, ALL, Effect::SmallAddressMasks, BT176),
    quirk(0x1900, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x1904, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x1908, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x190c, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x190f, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x1910, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x1918, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x191f, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x5af0, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
    quirk(0x31f0, ALL, Effect::SmallGraphicsPages, SUPERPAGE),
];

/// What this machine's chipset is known to get wrong. The [`Capabilities`] of its units account for it.
pub fn of_machine(hal: &impl Hal) -> impl Iterator<Item = &'static Quirk> {
    let bridge = SourceId::from_requester(0, 0);
    matching(hal.config_read(bridge, 0x00), hal.config_read(bridge, 0x08) as u8)
}

/// Those of a host bridge: vendor in 15:0 and device in 31:16 of `id`.
fn matching(id: u32, revision: u8) -> impl Iterator<Item = &'static Quirk> {
    let host_bridge = (id as u16, (id >> 16) as u16);
    QUIRKS.iter().filter(move |quirk| quirk.host_bridge == host_bridge && quirk.revisions.contains(&revision))
}

impl Effect {
    pub(super) fn apply(self, unit: &mut Capabilities, for_graphics: bool) {
        match self {
            Self::SmallGraphicsPages if !for_graphics => {}
            Self::SmallGraphicsPages => unit.max_leaf_level = 1,
            Self::FlushWriteBuffers => unit.write_buffer_flush = true,
            Self::NoProtectedMemory => (unit.protected_low, unit.protected_high) = (false, false),
            Self::NoInterruptRemapping => (unit.interrupt_remapping, unit.extended_interrupts) = (false, false),
            Self::SmallAddressMasks => unit.page_selective = unit.page_selective.map(|mask| mask.min(9)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vtd::capabilities::tests::QEMU;

    #[test]
    fn a_quirk_applies_to_its_host_bridge_and_its_revisions_only() {
        let effects = |id, revision| matching(id, revision).map(|quirk| quirk.effect).collect::<Vec<_>>();
        assert_eq!(effects(0x2a40_8086, 7), [Effect::FlushWriteBuffers]);
        assert_eq!(effects(0x2a40_1022, 7), [], "of another vendor");
        assert_eq!(effects(0x8086_2a40, 7), [], "vendor and device swapped");
        assert_eq!((effects(0x4001_8086, 0x20).len(), effects(0x4001_8086, 0x21).len()), (1, 0));
        let interrupts = |revision| effects(0x3405_8086, revision).len();
        assert_eq!([0, 0x13, 0x14, 0x22, 0x23].map(interrupts), [1, 1, 0, 1, 0]);
        assert_eq!(effects(u32::MAX, 0xff), [], "no host bridge at all");
    }

    #[test]
    fn each_effect_is_seen_in_the_capabilities() {
        let after = |effect: Effect, mut unit: Capabilities| {
            effect.apply(&mut unit, true);
            unit
        };
        let able = Capabilities { protected_low: true, protected_high: true, extended_interrupts: true, ..QEMU };
        assert!(after(Effect::FlushWriteBuffers, able).write_buffer_flush);
        let unprotected = after(Effect::NoProtectedMemory, able);
        assert!(!unprotected.protected_low && !unprotected.protected_high);
        let plain = after(Effect::NoInterruptRemapping, able);
        assert!(!plain.interrupt_remapping && !plain.extended_interrupts);
        assert_eq!(after(Effect::SmallAddressMasks, able).page_selective, Some(9));
        assert_eq!((able.max_leaf_level, after(Effect::SmallGraphicsPages, able).max_leaf_level), (3, 1));
        let mut other = able;
        Effect::SmallGraphicsPages.apply(&mut other, false);
        assert_eq!(other, able, "another unit of the same machine");
    }

    #[test]
    fn no_quirk_does_more_than_take_away_or_add_work() {
        let able = Capabilities { protected_low: true, protected_high: true, extended_interrupts: true, ..QEMU };
        for quirk in QUIRKS {
            for unit in [QEMU, able, Capabilities { page_selective: Some(3), ..able }] {
                let mut changed = unit;
                quirk.effect.apply(&mut changed, true);
                assert!(changed.max_leaf_level <= unit.max_leaf_level);
                assert!(changed.write_buffer_flush >= unit.write_buffer_flush);
                assert!(changed.protected_low <= unit.protected_low && changed.protected_high <= unit.protected_high);
                assert!(changed.interrupt_remapping <= unit.interrupt_remapping);
                assert!(changed.extended_interrupts <= unit.extended_interrupts);
                assert!(changed.page_selective <= unit.page_selective);
                let rest = Capabilities {
                    write_buffer_flush: unit.write_buffer_flush,
                    protected_low: unit.protected_low,
                    protected_high: unit.protected_high,
                    interrupt_remapping: unit.interrupt_remapping,
                    extended_interrupts: unit.extended_interrupts,
                    page_selective: unit.page_selective,
                    max_leaf_level: unit.max_leaf_level,
                    ..changed
                };
                assert_eq!(rest, unit, "nothing else changes");
            }
            assert!(!quirk.source.is_empty());
        }
    }
}
