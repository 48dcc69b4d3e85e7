//! Invalidation through registers (sections 6.5.1 and 11.4.6).
#![forbid(unsafe_code)]

use super::descriptor::{ContextScope, IotlbScope, check_drain};
use super::{Board, Unit, global};

impl Unit {
    /// CCMD with ICC set (section 11.4.6.1).
    pub(super) fn start_context_command(&mut self, board: &mut Board) {
        if self.context_command_at.is_some() || self.iotlb_command_at.is_some() {
            board.journal.violation("R2", "CCMD is written while an invalidation is pending");
        }
        self.check_register_based(board);
        self.context_command_at = Some(board.journal.now + self.latency());
    }

    /// IOTLB with IVT set (section 11.4.6.3).
    pub(super) fn start_iotlb_command(&mut self, board: &mut Board) {
        if self.context_command_at.is_some() || self.iotlb_command_at.is_some() {
            board.journal.violation("R2", "IOTLB is written while an invalidation is pending");
        }
        self.check_register_based(board);
        self.iotlb_command_at = Some(board.journal.now + self.latency());
    }

    /// R5: never while the queue is on, and not from major version 6 on (sections 6.5 and 6.5.1).
    fn check_register_based(&mut self, board: &mut Board) {
        if self.global.on(global::QIE) {
            board.journal.violation("R5", "an invalidation through registers while the queue is on");
        }
        if self.capability.major() >= 6 {
            board.journal.violation("R5", "an invalidation through registers, which this version does not have");
        }
    }

    /// When one of them is done: never while the queue is on.
    pub(super) fn next_register_command(&self) -> Option<u64> {
        let next = self.context_command_at.into_iter().chain(self.iotlb_command_at).min();
        next.filter(|_| !self.global.on(global::QIE) && !self.defects.registers_dead)
    }

    pub(super) fn run_register_commands(&mut self, now: u64, board: &mut Board) {
        if self.next_register_command().is_none_or(|at| at > now) {
            return;
        }
        // From major version 6 on they do nothing.
        let works = self.capability.major() < 6 && self.root >> 10 & 3 == 0 && !self.defects.registers_refuse;
        let coarse = self.defects.registers_coarse;
        if self.context_command_at.is_some_and(|at| at <= now) {
            self.context_command_at = None;
            let value = self.context_command;
            let (domain, source) = (value as u16, (value >> 16) as u16);
            let granularity = if coarse { 1 } else { value >> 61 & 3 };
            let scope = ContextScope::new(granularity, domain, source, value >> 32, &self.capability);
            let done = scope.filter(|_| works);
            if let Some(scope) = done {
                self.invalidate_context(scope, board);
            }
            let actual = if done.is_some() { granularity } else { 0 };
            self.context_command = value & !(1 << 63 | 3 << 59) | actual << 59;
        }
        if self.iotlb_command_at.is_some_and(|at| at <= now) {
            self.iotlb_command_at = None;
            let value = self.iotlb_command;
            let domain = (value >> 32) as u16;
            let granularity = if coarse { 1 } else { value >> 60 & 3 };
            check_drain(value >> 49 & 1 != 0, value >> 48 & 1 != 0, &self.capability, &mut board.journal);
            let scope = IotlbScope::new(granularity, domain, self.iotlb_address, &self.capability, &mut board.journal);
            let done = scope.filter(|_| works);
            if let Some(scope) = done {
                self.invalidate_iotlb(scope, board);
            }
            let actual = if done.is_some() { granularity } else { 0 };
            self.iotlb_command = value & !(1 << 63 | 3 << 57) | actual << 57;
        }
    }
}
