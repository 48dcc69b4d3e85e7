//! Nanoseconds, counted by the time-stamp counter.

mod timer;

use core::fmt;

use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_lfence, _rdtsc};

use core::ops::RangeInclusive;

use x86_64::instructions::port::Port;

use self::timer::ROUNDS;
pub(crate) use self::timer::Timers;
use crate::error::BootError;

/// Input frequency of the interval timer of every PC, in Hz.
const PIT_HZ: u32 = 1_193_182;
/// How long one measurement takes, in ticks of the interval timer: 10 ms.
const PIT_TICKS: u16 = (PIT_HZ / 100) as u16;
/// Looks at the interval timer before it is given up: each takes some 100 ns at least, so a second in all.
const PATIENCE: u32 = 10_000_000;
/// Frequencies that a time-stamp counter may have, in Hz: any other was measured wrong.
const PLAUSIBLE: RangeInclusive<u64> = 100_000_000..=20_000_000_000;

/// A source says how fast the counter counts, in Hz, and what it is.
type Source<'s> = (&'static str, &'s dyn Fn() -> Option<u64>);

/// A clock that starts at 0 and never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    hz: u64,
    start: u64,
    trust: ClockTrust,
}

/// Why a clock may be trusted, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    /// Two sources say the same, but for one part in a hundred.
    Agreed([&'static str; 2]),
    /// There is one source.
    Alone(&'static str),
    /// Each source says something else; the first is taken. Two of them, with what they say in Hz.
    Disputed([(&'static str, u64); 2]),
}

impl fmt::Display for ClockTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed([one, other]) => write!(f, "{one} and {other} agree on the clock"),
            Self::Alone(one) => write!(f, "only {one} tells how fast the clock goes"),
            Self::Disputed([(one, hz), (other, other_hz)]) => {
                write!(f, "{one} has the clock at {} kHz, {other} at {} kHz", hz / 1000, other_hz / 1000)
            }
        }
    }
}

impl Clock {
    /// Finds out how fast the counter counts: from CPUID if it says so in full, by the timers of the firmware's tables, by the
    /// interval timer, and from what CPUID says of the CPU's frequency, until two of them agree.
    pub(crate) fn calibrate(timers: &Timers) -> Result<Self, BootError> {
        let sources: [Source<'_>; 5] = [
            ("CPUID leaf 15h", &from_cpuid),
            ("the ACPI PM timer", &|| timers.measure_by_pm(&ticks)),
            ("the HPET", &|| timers.measure_by_hpet(&ticks)),
            ("the 8254", &from_pit),
            ("CPUID leaf 16h", &from_cpu),
        ];
        let (hz, trust) = agreed(&sources).ok_or(BootError::NoClock)?;
        Ok(Self { hz, start: ticks(), trust })
    }

    /// Why it may be trusted, or not.
    pub(crate) fn trust(&self) -> ClockTrust {
        self.trust
    }

    /// Frequency of the counter, in Hz.
    pub(crate) fn hz(&self) -> u64 {
        self.hz
    }

    /// Nanoseconds since it was calibrated.
    pub(crate) fn now_ns(&self) -> u64 {
        nanoseconds(ticks().saturating_sub(self.start), self.hz)
    }
}

/// What the first two sources say that agree on what can be; or the first alone.
fn agreed(sources: &[Source<'_>]) -> Option<(u64, ClockTrust)> {
    let mut said = heapless::Vec::<(&'static str, u64), 5>::new();
    for (name, source) in sources {
        let Some(hz) = source().filter(|hz| PLAUSIBLE.contains(hz)) else { continue };
        if let Some((other, first)) = said.iter().find(|(_, other)| other.abs_diff(hz) <= other / 100) {
            return Some((*first, ClockTrust::Agreed([*other, *name])));
        }
        // There are no more sources than that.
        let _ = said.push((*name, hz));
    }
    match *said.as_slice() {
        [] => None,
        [(name, hz)] => Some((hz, ClockTrust::Alone(name))),
        [one, other, ..] => Some((one.1, ClockTrust::Disputed([one, other]))),
    }
}

/// `ticks` of a counter with `hz`, which is not 0, in nanoseconds; stays at the end of what 64 bits hold.
pub(crate) fn nanoseconds(ticks: u64, hz: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// The counter, after all loads before.
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { _mm_lfence() };
    // SAFETY: every x86-64 CPU has the counter, and ring 0 may always read it.
    unsafe { _rdtsc() }
}

/// Leaf 8000_0007h, EDX bit 8: the counter counts alike whatever the CPU does, in all of its states (Intel SDM volume 3B, section 18.17.1).
pub(crate) fn is_invariant() -> bool {
    __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & 1 << 8 != 0
}

/// Leaf 15h: the counter counts ECX Hz * EBX / EAX (Intel SDM volume 2, CPUID). Each of them may be 0, unknown.
fn from_cpuid() -> Option<u64> {
    if __cpuid(0).eax < 0x15 {
        return None;
    }
    let leaf = __cpuid_count(0x15, 0);
    if leaf.ebx == 0 || leaf.ecx == 0 {
        return None;
    }
    (u64::from(leaf.ecx) * u64::from(leaf.ebx)).checked_div(u64::from(leaf.eax))
}

/// Leaf 16h, EAX 15:0: the base frequency in MHz, at which the counter counts if leaf 15h has a ratio.
fn from_cpu() -> Option<u64> {
    if __cpuid(0).eax < 0x16 || __cpuid_count(0x15, 0).ebx == 0 {
        return None;
    }
    Some(u64::from(__cpuid(0x16).eax & 0xffff) * 1_000_000)
}

fn from_pit() -> Option<u64> {
    let mut lowest = None;
    for _ in 0..ROUNDS {
        let ticks = ticks_of_pit()?;
        lowest = Some(lowest.map_or(ticks, |lowest: u64| lowest.min(ticks)));
    }
    Some(lowest? * u64::from(PIT_HZ) / u64::from(PIT_TICKS))
}

/// What the counter counts while channel 2 of the interval timer (8254), which raises no interrupt, counts
/// [`PIT_TICKS`] down. `None` if it never gets there, or is there before it starts, as where no timer is.
fn ticks_of_pit() -> Option<u64> {
    let (mut control, mut speaker) = (Port::<u8>::new(0x61), Port::<u8>::new(0x61));
    let (mut command, mut channel) = (Port::<u8>::new(0x43), Port::<u8>::new(0x42));
    let [low, high] = PIT_TICKS.to_le_bytes();
    // Port 61h: bit 0 lets channel 2 count, bit 1 would let it be heard, bit 5 is its output.
    // SAFETY: reading the port changes nothing.
    let before = unsafe { control.read() };
    // SAFETY: channel 2 is the speaker's, which nobody uses.
    unsafe { control.write(before & !3 | 1) };
    // SAFETY: as above. Channel 2, low byte then high byte, mode 0: the output rises when the count ends.
    unsafe { command.write(0xb0) };
    // SAFETY: reading the port changes nothing.
    let is_early = unsafe { speaker.read() } & 1 << 5 != 0;
    // SAFETY: as above.
    unsafe { channel.write(low) };
    let start = ticks();
    // SAFETY: as above; the count starts with its high byte.
    unsafe { channel.write(high) };
    // SAFETY: reading the port changes nothing.
    let done = (0..PATIENCE).any(|_| unsafe { speaker.read() } & 1 << 5 != 0);
    let end = ticks();
    // SAFETY: as it was before.
    unsafe { control.write(before) };
    (done && !is_early).then_some(end.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F15: a frequency that no counter has is not taken, and where there is no other, there is no clock.
    #[test]
    fn what_cannot_be_is_not_taken() {
        let early = || Some(2_900_000);
        let good = || Some(2_400_000_000);
        let wild = || Some(u64::MAX);
        let alone = agreed(&[("none", &|| None), ("early", &early), ("wild", &wild), ("good", &good)]);
        assert_eq!(alone, Some((2_400_000_000, ClockTrust::Alone("good"))));
        assert_eq!(agreed(&[("early", &early), ("still", &|| Some(0)), ("wild", &wild)]), None);
    }

    #[test]
    fn two_sources_that_agree_are_taken_and_a_dispute_is_said() {
        let (good, near, far) = (|| Some(2_400_000_000), || Some(2_424_000_000), || Some(2_424_000_001));
        let found =
            agreed(&[("far", &|| Some(3_000_000_000)), ("good", &good), ("near", &near), ("never", &|| panic!())]);
        assert_eq!(found, Some((2_400_000_000, ClockTrust::Agreed(["good", "near"]))));
        let (hz, trust) = agreed(&[("good", &good), ("far", &far)]).unwrap();
        assert_eq!(hz, 2_400_000_000);
        assert_eq!(trust.to_string(), "good has the clock at 2400000 kHz, far at 2424000 kHz");
        assert_eq!(ClockTrust::Alone("x").to_string(), "only x tells how fast the clock goes");
    }

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(nanoseconds(0, 2_400_000_000), 0);
        assert_eq!(nanoseconds(2_400_000_000, 2_400_000_000), 1_000_000_000);
        assert_eq!(nanoseconds(u64::MAX, 1_000_000_000), u64::MAX);
        assert_eq!(nanoseconds(u64::MAX, 4_000_000_000), u64::MAX / 4);
        assert_eq!(nanoseconds(u64::MAX, 1), u64::MAX);
        assert_eq!(nanoseconds(1, 0), 1_000_000_000);
    }
}
