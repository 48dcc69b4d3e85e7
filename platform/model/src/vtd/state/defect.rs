//! What can be wrong with a unit.
#![forbid(unsafe_code)]

/// How long a global command takes, in nanoseconds of the machine's time.
const COMMAND_NS: u64 = 1_000;

/// What goes wrong with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Defect {
    /// These bits of GSTS read as zero, whatever happens.
    StatusStuckLow(u32),
    /// These bits of GSTS read as one.
    StatusStuckHigh(u32),
    /// All registers read as ones, and writes do nothing.
    AllOnes,
    /// The queue fetches nothing any more.
    QueueDead,
    /// The queue stops with IQE at the descriptor that is fetched after that many more.
    QueueErrorAfter(u64),
    /// Each command takes that many nanoseconds longer.
    Slow(u64),
    /// An invalidation through registers is never done.
    RegistersDead,
    /// An invalidation through registers is refused, and reported with granularity 0.
    RegistersRefuse,
    /// An invalidation through registers is done for all that is cached, and reported so.
    RegistersCoarse,
    /// PMEN.PRS does not follow EPM any more.
    ProtectionStuck,
}

#[derive(Debug, Default)]
pub(crate) struct Defects {
    pub(crate) stuck_low: u32,
    pub(crate) stuck_high: u32,
    pub(crate) all_ones: bool,
    pub(crate) queue_dead: bool,
    pub(crate) queue_error_at: Option<u64>,
    pub(crate) slower_ns: u64,
    pub(crate) registers_dead: bool,
    pub(crate) registers_refuse: bool,
    pub(crate) registers_coarse: bool,
    pub(crate) protection_stuck: bool,
    /// Something was wrong with the unit at some time.
    pub(crate) ever: bool,
}

impl Defects {
    /// Adds a defect, in a unit whose queue has fetched that many descriptors.
    pub(crate) fn add(&mut self, defect: Defect, fetched: u64) {
        self.ever = true;
        match defect {
            Defect::StatusStuckLow(bits) => self.stuck_low |= bits,
            Defect::StatusStuckHigh(bits) => self.stuck_high |= bits,
            Defect::AllOnes => self.all_ones = true,
            Defect::QueueDead => self.queue_dead = true,
            Defect::QueueErrorAfter(count) => self.queue_error_at = Some(fetched + count),
            Defect::Slow(ns) => self.slower_ns = ns,
            Defect::RegistersDead => self.registers_dead = true,
            Defect::RegistersRefuse => self.registers_refuse = true,
            Defect::RegistersCoarse => self.registers_coarse = true,
            Defect::ProtectionStuck => self.protection_stuck = true,
        }
    }

    /// How long a command takes.
    pub(crate) fn latency(&self) -> u64 {
        COMMAND_NS + self.slower_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_queue_counts_from_what_is_fetched() {
        let mut defects = Defects::default();
        defects.add(Defect::QueueErrorAfter(2), 5);
        assert_eq!(defects.queue_error_at, Some(7));
        assert!(defects.ever);
    }
}
