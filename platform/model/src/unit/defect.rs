//! What can be wrong with a unit.
#![forbid(unsafe_code)]

use super::{Board, Unit};

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
pub(super) struct Defects {
    pub(super) stuck_low: u32,
    pub(super) stuck_high: u32,
    pub(super) all_ones: bool,
    pub(super) queue_dead: bool,
    pub(super) queue_error_at: Option<u64>,
    pub(super) slower_ns: u64,
    pub(super) registers_dead: bool,
    pub(super) registers_refuse: bool,
    pub(super) registers_coarse: bool,
    pub(super) protection_stuck: bool,
    /// Something was wrong with the unit at some time.
    pub(super) ever: bool,
}

impl Unit {
    pub(crate) fn suffer(&mut self, defect: Defect) {
        self.defects.ever = true;
        match defect {
            Defect::StatusStuckLow(bits) => self.defects.stuck_low |= bits,
            Defect::StatusStuckHigh(bits) => self.defects.stuck_high |= bits,
            Defect::AllOnes => self.defects.all_ones = true,
            Defect::QueueDead => self.defects.queue_dead = true,
            Defect::QueueErrorAfter(count) => self.defects.queue_error_at = Some(self.queue.fetched + count),
            Defect::Slow(ns) => self.defects.slower_ns = ns,
            Defect::RegistersDead => self.defects.registers_dead = true,
            Defect::RegistersRefuse => self.defects.registers_refuse = true,
            Defect::RegistersCoarse => self.defects.registers_coarse = true,
            Defect::ProtectionStuck => self.defects.protection_stuck = true,
        }
    }

    pub(crate) fn heal(&mut self, board: &mut Board) {
        self.defects = Defects { ever: self.defects.ever, ..Defects::default() };
        self.schedule_fetch(board);
    }

    pub(super) fn latency(&self) -> u64 {
        COMMAND_NS + self.defects.slower_ns
    }
}
