//! What a unit does by itself, as time moves on.
#![forbid(unsafe_code)]

use std::mem;

use crate::board::Board;
use crate::vtd::caches::buffer;
use crate::vtd::commands::{command, device_tlb, protected, queue, register_based};
use crate::vtd::config::UnitConfig;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::defect::Defects;

/// Lets happen what is due by `now`.
pub(crate) fn run(unit: &mut VtdUnit, now: u64, board: &mut Board) {
    if let Some(command) = unit.global.command.filter(|command| command.due <= now) {
        unit.global.command = None;
        command::finish(unit, command, board);
    }
    if unit.protect_at.is_some_and(|at| at <= now) {
        protected::follow(unit);
    }
    register_based::run(unit, now, board);
    loop {
        let fetch = unit.queue.fetch_at.filter(|at| *at <= now);
        let effect = queue::next_effect(unit).filter(|at| *at <= now);
        let answer = device_tlb::next_answer(unit).filter(|at| *at <= now);
        match [fetch, effect, answer].into_iter().flatten().min() {
            None => break,
            Some(at) if answer == Some(at) => device_tlb::receive(unit, at, board),
            Some(at) if fetch == Some(at) => queue::fetch(unit, at, board),
            Some(at) => {
                if let Some((_, descriptor)) = unit.queue.in_flight.pop_front() {
                    queue::execute(unit, descriptor, at, board);
                }
            }
        }
    }
}

/// The next moment at which something happens by itself.
pub(crate) fn next_event(unit: &VtdUnit) -> Option<u64> {
    let command = unit.global.command.map(|command| command.due);
    let commands = [command, unit.protect_at, register_based::next(unit)];
    let queue = [unit.queue.fetch_at, queue::next_effect(unit), device_tlb::next_answer(unit)];
    commands.into_iter().chain(queue).flatten().min()
}

/// Power is lost and comes back. What was on its way to memory arrives there.
pub(crate) fn reset(unit: &mut VtdUnit, board: &mut Board) {
    buffer::flush(unit, board);
    let config = UnitConfig { found_running: false, ..unit.config.clone() };
    let frames = board.memory.frames();
    let mut fresh = VtdUnit::new(unit.number, config, unit.scope.clone(), unit.capability.haw, frames);
    fresh.queue.fetched = unit.queue.fetched;
    fresh.defects = mem::take(&mut unit.defects);
    fresh.buffer = unit.buffer.take();
    *unit = fresh;
}

pub(crate) fn heal(unit: &mut VtdUnit, board: &mut Board) {
    unit.defects = Defects { ever: unit.defects.ever, ..Defects::default() };
    queue::schedule_fetch(unit, board);
}
