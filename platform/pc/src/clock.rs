//! Nanoseconds, counted by the time-stamp counter.

use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_lfence, _rdtsc};

use x86_64::instructions::port::Port;

use crate::error::BootError;

/// Input frequency of the interval timer of every PC, in Hz.
const PIT_HZ: u32 = 1_193_182;
/// How long one measurement takes, in ticks of the interval timer: 10 ms.
const PIT_TICKS: u16 = (PIT_HZ / 100) as u16;
/// Looks at the interval timer before it is given up: each takes some 100 ns at least, so a second in all.
const PATIENCE: u32 = 10_000_000;
/// Measurements. A CPU that is held up in one of them counts too much, never too little, so the lowest is the best.
const ROUNDS: usize = 3;

/// A clock that starts at 0 and never goes back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    hz: u64,
    start: u64,
}

impl Clock {
    /// Finds out how fast the counter counts: from CPUID if it says so in full, else by the interval timer.
    pub(crate) fn calibrate() -> Result<Self, BootError> {
        let hz = from_cpuid().or_else(from_pit).filter(|&hz| hz != 0).ok_or(BootError::NoClock)?;
        Ok(Self { hz, start: ticks() })
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

/// `ticks` of a counter with `hz`, which is not 0, in nanoseconds; stays at the end of what 64 bits hold.
fn nanoseconds(ticks: u64, hz: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// The counter, after all loads before.
fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction.
    unsafe { _mm_lfence() };
    // SAFETY: every x86-64 CPU has the counter, and ring 0 may always read it.
    unsafe { _rdtsc() }
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

fn from_pit() -> Option<u64> {
    let mut lowest = None;
    for _ in 0..ROUNDS {
        let ticks = ticks_of_pit()?;
        lowest = Some(lowest.map_or(ticks, |lowest: u64| lowest.min(ticks)));
    }
    Some(lowest? * u64::from(PIT_HZ) / u64::from(PIT_TICKS))
}

/// What the counter counts while channel 2 of the interval timer (8254), which raises no interrupt, counts
/// [`PIT_TICKS`] down. `None` if it never gets there.
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
    done.then_some(end.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

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
