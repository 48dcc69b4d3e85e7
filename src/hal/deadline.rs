//! When a wait is over.
#![forbid(unsafe_code)]

/// So many looks in a row at a clock that does not move, and it stands still. They take a tenth of a second at the least, far
/// more than a tick of any clock.
const STANDSTILL: u32 = 1 << 24;

/// The end of a wait. It comes whatever the clock does: each look at the clock shows a later time than all before, or counts
/// towards [`STANDSTILL`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    start_ns: u64,
    timeout_ns: u64,
    latest_ns: u64,
    /// Looks since the clock moved.
    looks: u32,
}

impl Deadline {
    /// This long from now on.
    pub(crate) const fn new(now_ns: u64, timeout_ns: u64) -> Self {
        Self { start_ns: now_ns, timeout_ns, latest_ns: now_ns, looks: 0 }
    }

    /// How long was waited, if that was long enough. To be called before each look at what is waited for, so that the last
    /// look comes after the deadline and being slow is no error.
    #[inline(never)]
    pub(crate) fn passed(&mut self, now_ns: u64) -> Option<u64> {
        if now_ns > self.latest_ns {
            (self.latest_ns, self.looks) = (now_ns, 0);
        } else {
            self.looks = self.looks.saturating_add(1);
        }
        let waited_ns = self.latest_ns.saturating_sub(self.start_ns);
        (waited_ns > self.timeout_ns || self.looks >= STANDSTILL).then_some(waited_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_passed_only_behind_its_last_nanosecond() {
        let mut deadline = Deadline::new(100, 10);
        assert_eq!([100, 110, 105, 111, 112].map(|now| deadline.passed(now)), [None, None, None, Some(11), Some(12)]);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_ends_it_as_well() {
        let clocks: [fn(u64) -> u64; 3] = [|_| 100, |look| 100 - look % 2, |look| 100 - (look >> 20)];
        for clock in clocks {
            let mut deadline = Deadline::new(100, 10);
            let looks = (0..u64::MAX).find(|&look| deadline.passed(clock(look)).is_some());
            assert_eq!(looks, Some(u64::from(STANDSTILL) - 1));
            assert_eq!((deadline.passed(100), deadline.passed(101)), (Some(0), None), "it may move again");
        }
    }

    #[test]
    fn a_clock_of_large_steps_is_none_that_stands_still() {
        let mut deadline = Deadline::new(0, 2);
        let looks = (0_u64..).find(|look| deadline.passed(look / (u64::from(STANDSTILL) - 1)).is_some());
        assert_eq!(looks, Some(3 * (u64::from(STANDSTILL) - 1)));
    }

    #[test]
    fn a_clock_of_32_bits_that_goes_round_ends_it_as_well() {
        const ROUND: u64 = 1 << 32;
        let looks = |start: u64, step: u64| {
            let mut deadline = Deadline::new(start, 1000);
            (1..).find(|look| deadline.passed((start + look * step) % ROUND).is_some())
        };
        assert_eq!([looks(ROUND - 1002, 1), looks(0, 100)], [Some(1001), Some(11)], "before it goes round");
        // From there on it shows nothing new: the last time that was new came with this look.
        for last in [0, 1, 600] {
            assert_eq!(looks(ROUND - 1 - last, 1), Some(last + u64::from(STANDSTILL)), "{last} before it goes round");
        }
    }
}
