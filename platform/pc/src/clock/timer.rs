//! Timers that count at a known frequency, and how fast another counter counts beside them.

use x86_64::instructions::port::Port;

use crate::acpi::{AcpiError, Fadt, Hpet, Memory, Root};
use crate::mmio::Mmio;

/// Frequency of the ACPI power management timer, in Hz (ACPI 6.5, section 4.8.2.1).
const PM_HZ: u64 = 3_579_545;
/// How long one measurement takes, in parts of a second: 10 ms.
const PARTS: u64 = 100;
/// Looks within which a timer that counts at a MHz or more has moved: each takes some 10 ns at least.
const LOOKS_TO_MOVE: u32 = 100_000;
/// Looks at a timer that moves before it is given up.
const LOOKS: u32 = 100_000_000;
/// Measurements. A CPU that is held up in one of them counts too much, never too little, so the lowest is the best.
pub(super) const ROUNDS: usize = 3;

/// A timer that counts up and wraps.
pub(super) struct Timer<'t> {
    /// Its count now.
    pub(super) read: &'t dyn Fn() -> u32,
    /// The bits that it has.
    pub(super) mask: u32,
    /// Its frequency, in Hz.
    pub(super) hz: u64,
}

impl Timer<'_> {
    /// The frequency of `ticks`, in Hz. `None` if the timer stands still, or is not there.
    pub(super) fn measure(&self, ticks: &dyn Fn() -> u64) -> Option<u64> {
        let mut lowest = None;
        for _ in 0..ROUNDS {
            let hz = self.measure_once(ticks)?;
            lowest = Some(lowest.map_or(hz, |lowest: u64| lowest.min(hz)));
        }
        lowest
    }

    fn measure_once(&self, ticks: &dyn Fn() -> u64) -> Option<u64> {
        // Whoever holds the CPU up between the two reads makes the result larger, at the start and at the end.
        let start = ticks();
        let first = (self.read)();
        let moved = || u64::from((self.read)().wrapping_sub(first) & self.mask);
        (0..LOOKS_TO_MOVE).find(|_| moved() != 0)?;
        let passed = (0..LOOKS).map(|_| moved()).find(|passed| *passed >= self.hz / PARTS)?;
        let ticks = ticks().checked_sub(start)?;
        u64::try_from(u128::from(ticks) * u128::from(self.hz) / u128::from(passed)).ok()
    }
}

/// The timers that firmware tells of.
pub(crate) struct Timers {
    /// Port of the power management timer, and the bits that it has.
    pm: Option<(u16, u32)>,
    hpet: Option<Mmio>,
}

impl Timers {
    /// Those of the firmware's tables; `device` says where the CPU sees registers at an address.
    pub(crate) fn of<'a>(
        root: Result<Root, AcpiError>,
        memory: &dyn Memory<'a>,
        device: &dyn Fn(u64) -> Option<Mmio>,
    ) -> Self {
        let hpet = root.ok().and_then(|root| root.table::<Hpet>(memory).ok().flatten());
        let fadt = root.ok().and_then(|root| root.table::<Fadt>(memory).ok().flatten());
        Self { pm: fadt.and_then(pm_timer), hpet: hpet.and_then(hpet_base).and_then(device) }
    }

    /// The frequency of `ticks`, in Hz, by the power management timer, if it counts.
    pub(super) fn measure_by_pm(&self, ticks: &dyn Fn() -> u64) -> Option<u64> {
        let (port, mask) = self.pm?;
        // SAFETY: reading the timer changes nothing.
        let read = || unsafe { Port::<u32>::new(port).read() };
        Timer { read: &read, mask, hz: PM_HZ }.measure(ticks)
    }

    /// The same by the high precision event timer (IA-PC HPET Specification 1.0a, section 2.3): the period in femtoseconds at 4, at most 100 ns; bit 0 at 10h lets the
    /// counter at F0h count, which nobody else minds.
    pub(super) fn measure_by_hpet(&self, ticks: &dyn Fn() -> u64) -> Option<u64> {
        let registers = self.hpet.as_ref()?;
        let period = registers.read32(4);
        if !(1..=100_000_000).contains(&period) {
            return None;
        }
        registers.write32(0x10, registers.read32(0x10) | 1);
        let read = || registers.read32(0xf0);
        Timer { read: &read, mask: u32::MAX, hz: 1_000_000_000_000_000 / u64::from(period) }.measure(ticks)
    }
}

/// Port and bits of the power management timer (ACPI 6.5, section 5.2.9: PM_TMR_BLK at 76, PM_TMR_LEN at 91, TMR_VAL_EXT in
/// bit 8 of the flags at 112, X_PM_TMR_BLK at 208 with its space at 0 and its address at 4).
fn pm_timer(fadt: &[u8]) -> Option<(u16, u32)> {
    let dword = |at: usize| Some(u32::from_le_bytes(*fadt.get(at..)?.first_chunk()?));
    let extended = fadt.get(208).filter(|space| **space == 1).and_then(|_| dword(212)).filter(|port| *port != 0);
    let port = extended.or_else(|| dword(76).filter(|_| fadt.get(91) == Some(&4))).filter(|port| *port != 0)?;
    let is_long = dword(112)? & 1 << 8 != 0;
    Some((u16::try_from(port).ok()?, if is_long { u32::MAX } else { 0xff_ffff }))
}

/// Where the registers of the high precision event timer are: a generic address at 40, in memory.
fn hpet_base(table: &[u8]) -> Option<u64> {
    let base = u64::from_le_bytes(*table.get(44..)?.first_chunk()?);
    (table.get(40) == Some(&0) && base != 0 && base.is_multiple_of(8)).then_some(base)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A counter of 2 GHz and a timer that share a clock; each look at either takes 200 ns.
    fn measured(hz: u64, mask: u32, start: u64) -> Option<u64> {
        let now = Cell::new(start);
        let look = || {
            now.set(now.get() + 200);
            now.get()
        };
        let read = || (u128::from(look()) * u128::from(hz) / 1_000_000_000) as u32 & mask;
        Timer { read: &read, mask, hz }.measure(&|| look() * 2)
    }

    #[test]
    fn a_counter_is_measured_by_any_timer_also_where_that_wraps() {
        for (hz, mask) in [(PM_HZ, 0xff_ffff), (PM_HZ, u32::MAX), (14_318_180, u32::MAX), (100_000_000, u32::MAX)] {
            for start in [0, 4_680_000_000, 1_199_800_000_000] {
                let hz = measured(hz, mask, start).unwrap();
                assert!(hz.abs_diff(2_000_000_000) < 2_000_000, "{hz}");
            }
        }
    }

    /// F15: a timer that stands still or is not there measures nothing.
    #[test]
    fn a_timer_that_stands_still_measures_nothing() {
        for value in [0, 1, u32::MAX] {
            let timer = Timer { read: &|| value, mask: 0xff_ffff, hz: PM_HZ };
            let ticks = Cell::new(0);
            assert_eq!(timer.measure(&|| ticks.replace(ticks.get() + 1)), None);
        }
    }

    #[test]
    fn the_timer_is_where_the_table_says() {
        let mut fadt = vec![0; 244];
        assert_eq!(pm_timer(&fadt), None);
        fadt[76..78].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(pm_timer(&fadt), None, "without a length");
        fadt[91] = 4;
        assert_eq!(pm_timer(&fadt), Some((0x608, 0xff_ffff)));
        assert_eq!(pm_timer(&fadt[..116]), Some((0x608, 0xff_ffff)));
        assert_eq!(pm_timer(&fadt[..112]), None);
        fadt[113] = 1;
        assert_eq!(pm_timer(&fadt), Some((0x608, u32::MAX)));
        fadt[212..214].copy_from_slice(&[0x08, 0x18]);
        assert_eq!(pm_timer(&fadt), Some((0x608, u32::MAX)), "in memory");
        fadt[208] = 1;
        assert_eq!(pm_timer(&fadt), Some((0x1808, u32::MAX)));
        fadt[214] = 1;
        assert_eq!(pm_timer(&fadt), None, "no port has that number");
    }

    #[test]
    fn the_event_timer_is_where_the_table_says() {
        let mut table = vec![0; 56];
        assert_eq!(hpet_base(&table), None);
        table[46..48].copy_from_slice(&[0xd0, 0xfe]);
        assert_eq!(hpet_base(&table), Some(0xfed0_0000));
        assert_eq!(hpet_base(&table[..51]), None);
        table[40] = 1;
        assert_eq!(hpet_base(&table), None);
    }
}
