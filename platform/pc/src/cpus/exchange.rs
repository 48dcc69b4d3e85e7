//! How far the time-stamp counters of two CPUs are apart: one asks, and the other answers with its own.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use cofferdam::hal::Hal;

use super::{APIC, Cpus};
use crate::clock::{nanoseconds, ticks};

/// Questions to a CPU: the one that is answered soonest counts.
const ROUNDS: u64 = 1000;
/// How long they may take, and the first of them, for which the CPU has to wake.
const ALL_NS: u64 = 200_000_000;
const FIRST_NS: u64 = 1_000_000_000;
/// Looks for a question before the CPU that answers goes: each takes some 10 ns at least.
const LOOKS: u32 = 100_000_000;
const NOBODY: u64 = u64::MAX;

/// Who is asked, as an APIC id; the number of the question, that of the answer, and the counter in the answer.
static WHO: AtomicU64 = AtomicU64::new(NOBODY);
static QUESTION: AtomicU64 = AtomicU64::new(0);
static ANSWER: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// How far the time-stamp counter of a CPU is from that of the one that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscSkew {
    /// Between its answer and the middle of the time that this took.
    pub skew_ns: u64,
    /// How long question and answer took; the skew is known to half of that.
    pub round_trip_ns: u64,
}

impl TscSkew {
    /// True if the counters differ for sure: by more than question and answer took.
    pub fn is_sure(&self) -> bool {
        self.skew_ns > self.round_trip_ns
    }

    /// How far the counters are apart at most.
    pub fn most_ns(&self) -> u64 {
        self.skew_ns.saturating_add(self.round_trip_ns.div_ceil(2))
    }
}

/// A question and its answer, in ticks: the first and the last of the CPU that asks, the other one of the CPU that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    asked: u64,
    answered: u64,
    heard: u64,
}

impl Round {
    fn took(self) -> u64 {
        self.heard.saturating_sub(self.asked)
    }

    fn skew(self, hz: u64) -> TscSkew {
        let middle = self.asked.saturating_add(self.took() / 2);
        TscSkew {
            skew_ns: nanoseconds(middle.abs_diff(self.answered), hz),
            round_trip_ns: nanoseconds(self.took(), hz),
        }
    }
}

impl Cpus {
    /// Compares the time-stamp counter of the CPU with this APIC id with that of the CPU that calls, which is another. `None` if it does
    /// not answer.
    pub fn tsc_skew(&self, id: u32) -> Option<TscSkew> {
        WHO.store(id.into(), Ordering::Release);
        self.run(id, answer);
        let mut best = self.ask(FIRST_NS);
        let end = self.pc.now_ns().saturating_add(ALL_NS);
        for _ in 1..ROUNDS {
            let left = end.saturating_sub(self.pc.now_ns());
            let Some(round) = best.and(self.ask(left)) else { break };
            best = best.into_iter().chain([round]).min_by_key(|round| round.took());
        }
        WHO.store(NOBODY, Ordering::Release);
        Some(best?.skew(self.pc.tsc_hz()))
    }

    /// Asks once, and waits for so many nanoseconds at most.
    fn ask(&self, ns: u64) -> Option<Round> {
        let number = QUESTION.load(Ordering::Relaxed).wrapping_add(1);
        let asked = ticks();
        QUESTION.store(number, Ordering::Release);
        let is_answered = || ANSWER.load(Ordering::Acquire) == number;
        if !self.wait_at_most(ns, is_answered) {
            return None;
        }
        Some(Round { asked, answered: COUNT.load(Ordering::Relaxed), heard: ticks() })
    }
}

/// What the CPU does that is asked: answers until another is asked, or nobody.
fn answer() {
    let Some(own) = APIC.get().map(|apic| u64::from(apic.id())) else { return };
    let (mut last, mut looks) = (ANSWER.load(Ordering::Acquire), 0);
    while WHO.load(Ordering::Acquire) == own && looks < LOOKS {
        let question = QUESTION.load(Ordering::Acquire);
        if question == last {
            looks += 1;
            hint::spin_loop();
        } else {
            COUNT.store(ticks(), Ordering::Relaxed);
            ANSWER.store(question, Ordering::Release);
            (last, looks) = (question, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_is_apart_shows_by_how_much() {
        const HZ: u64 = 2_000_000_000;
        let seen = |answered| {
            let skew = Round { asked: 10_000, answered, heard: 10_400 }.skew(HZ);
            (skew.skew_ns, skew.round_trip_ns, skew.is_sure())
        };
        assert_eq!(seen(10_200), (0, 200, false));
        // The answer came at once, or took all of the time.
        assert_eq!([seen(10_000), seen(10_400)], [(100, 200, false); 2]);
        assert_eq!([seen(9_800), seen(10_600)], [(200, 200, false); 2]);
        assert_eq!([seen(9_798), seen(10_602)], [(201, 200, true); 2]);
        assert_eq!(seen(0), (5_100, 200, true));
        let most = Round { asked: u64::MAX, answered: 0, heard: 0 }.skew(1);
        assert_eq!((most.skew_ns, most.round_trip_ns), (u64::MAX, 0));
        let bounds = [(0, 0), (0, 201), (201, 200), (u64::MAX, 2)];
        let bounds = bounds.map(|(skew_ns, round_trip_ns)| TscSkew { skew_ns, round_trip_ns }.most_ns());
        assert_eq!(bounds, [0, 101, 301, u64::MAX]);
    }
}
