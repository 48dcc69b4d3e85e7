//! Invalidation through registers (sections 6.5.1 and 11.4.6).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::vtd::caches::invalidate;
use crate::vtd::formats::descriptor::{ContextScope, IotlbScope, check_drain};
use crate::vtd::state::VtdUnit;
use crate::vtd::state::global;

/// CCMD with ICC set (section 11.4.6.1).
pub(crate) fn start_context(unit: &mut VtdUnit, board: &mut Board) {
    if unit.context_command_at.is_some() || unit.iotlb_command_at.is_some() {
        board.journal.violation("R2", "CCMD is written while an invalidation is pending");
    }
    check(unit, board);
    unit.context_command_at = Some(board.journal.now + unit.defects.latency());
}

/// IOTLB with IVT set (section 11.4.6.3).
pub(crate) fn start_iotlb(unit: &mut VtdUnit, board: &mut Board) {
    if unit.context_command_at.is_some() || unit.iotlb_command_at.is_some() {
        board.journal.violation("R2", "IOTLB is written while an invalidation is pending");
    }
    check(unit, board);
    unit.iotlb_command_at = Some(board.journal.now + unit.defects.latency());
}

/// R5: never while the queue is on, and not from major version 6 on (sections 6.5 and 6.5.1).
fn check(unit: &mut VtdUnit, board: &mut Board) {
    if unit.global.on(global::QIE) {
        board.journal.violation("R5", "an invalidation through registers while the queue is on");
    }
    if unit.capability.major() >= 6 {
        board.journal.violation("R5", "an invalidation through registers, which this version does not have");
    }
}

/// When one of them is done: never while the queue is on.
pub(crate) fn next(unit: &VtdUnit) -> Option<u64> {
    let next = unit.context_command_at.into_iter().chain(unit.iotlb_command_at).min();
    next.filter(|_| !unit.global.on(global::QIE) && !unit.defects.registers_dead)
}

pub(crate) fn run(unit: &mut VtdUnit, now: u64, board: &mut Board) {
    if next(unit).is_none_or(|at| at > now) {
        return;
    }
    // From major version 6 on they do nothing.
    let works = unit.capability.major() < 6 && unit.root >> 10 & 3 == 0 && !unit.defects.registers_refuse;
    let coarse = unit.defects.registers_coarse;
    if unit.context_command_at.is_some_and(|at| at <= now) {
        unit.context_command_at = None;
        let value = unit.context_command;
        let (domain, source) = (value as u16, (value >> 16) as u16);
        let granularity = if coarse { 1 } else { value >> 61 & 3 };
        let scope = ContextScope::new(granularity, domain, source, value >> 32, &unit.capability);
        let done = scope.filter(|_| works);
        if let Some(scope) = done {
            invalidate::context(unit, scope, board);
        }
        let actual = if done.is_some() { granularity } else { 0 };
        unit.context_command = value & !(1 << 63 | 3 << 59) | actual << 59;
    }
    if unit.iotlb_command_at.is_some_and(|at| at <= now) {
        unit.iotlb_command_at = None;
        let value = unit.iotlb_command;
        let domain = (value >> 32) as u16;
        let granularity = if coarse { 1 } else { value >> 60 & 3 };
        check_drain(value >> 49 & 1 != 0, value >> 48 & 1 != 0, &unit.capability, &mut board.journal);
        let scope = IotlbScope::new(granularity, domain, unit.iotlb_address, &unit.capability, &mut board.journal);
        let done = scope.filter(|_| works);
        if let Some(scope) = done {
            invalidate::iotlb(unit, scope, board);
        }
        let actual = if done.is_some() { granularity } else { 0 };
        unit.iotlb_command = value & !(1 << 63 | 3 << 57) | actual << 57;
    }
}
