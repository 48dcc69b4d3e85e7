//! Invalidations that a unit sends to devices (sections 6.5.2.5, 6.5.2.11 and 6.5.2.12).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::devices::tlb::{Answer, GIVES_UP_NS};
use crate::vtd::formats::descriptor::Descriptor;
use crate::vtd::state::VtdUnit;
use crate::vtd::state::faults::status;
use crate::vtd::state::queue::Outstanding;
use crate::vtd::walks::translate;

/// R23, when a descriptor is fetched. What is behind a wait may begin before that is done (section 6.5.2.12), unless the
/// wait is a fence.
pub(crate) fn check_depth(unit: &VtdUnit, source: u16, board: &mut Board) {
    let depth = board.devices.of(unit.source_id(source)).tlb.queue_depth;
    let is_fence = |other: &Descriptor| matches!(other, Descriptor::Wait { fence: true, .. });
    let in_flight = || unit.queue.in_flight.iter().map(|(_, other)| other).rev();
    let fetched = in_flight().take_while(|other| !is_fence(other));
    let fetched = fetched.filter(|other| matches!(other, Descriptor::DeviceTlb { source: s, .. } if *s == source));
    let sent = unit.outstanding.iter().filter(|other| other.source == source).count();
    let waiting = if in_flight().any(is_fence) { 0 } else { sent };
    if waiting + fetched.count() >= depth {
        let text = format_args!("more than {depth} device-TLB invalidations of {} wait", unit.source_id(source));
        board.journal.violation("R23", text);
    }
}

/// R24: a device may request a translation again at once, so nothing stale may be left to answer with.
fn check_order(unit: &VtdUnit, source: u16, first: u64, last: u64, board: &mut Board) {
    if !unit.translates() {
        return board.journal.violation("R24", "a device-TLB invalidation while translation is off");
    }
    // One that was refused is left out, and what comes behind it in its batch is not.
    if unit.defects.ever {
        return;
    }
    let domain = translate::current(unit, source, board).domain();
    let leaves = unit.stale.leaves.get(&domain).into_iter().flatten();
    let stale = unit.stale.contexts.contains_key(&source)
        || unit.stale.residues.iter().any(|residue| residue.source == source)
        || unit.stale.tables.values().any(|table| table.touches(domain, first, last))
        || leaves.into_iter().any(|(start, leaf)| *start <= last && leaf.last >= first);
    if stale {
        board.journal.violation("R24", "a device-TLB invalidation before that of the IOTLB");
    }
}

pub(crate) fn next_answer(unit: &VtdUnit) -> Option<u64> {
    unit.outstanding.iter().map(|outstanding| outstanding.due).min()
}

/// Sends the invalidation to the device.
pub(crate) fn send(unit: &mut VtdUnit, source: u16, first: u64, last: u64, now: u64, board: &mut Board) {
    check_order(unit, source, first, last, board);
    let answer = board.devices.of(unit.source_id(source)).tlb.answer;
    let (delay, answered) = match answer {
        Answer::After(ns) => (ns, true),
        Answer::Twice => (0, true),
        Answer::Never => (GIVES_UP_NS, false),
    };
    if answer == Answer::Twice {
        unit.faults.queue_error = unit.faults.queue_error & 0xffff_ffff_ffff | u64::from(source) << 48;
        unit.faults.error(status::COMPLETION_ERROR, &mut board.journal);
    }
    unit.outstanding.push(Outstanding { source, first, last, due: now + delay, answered });
}

/// The answers that are due, and the devices that do not answer in time.
pub(crate) fn receive(unit: &mut VtdUnit, now: u64, board: &mut Board) {
    let due: Vec<Outstanding> = unit.outstanding.iter().copied().filter(|other| other.due <= now).collect();
    unit.outstanding.retain(|other| other.due > now);
    for Outstanding { source, first, last, answered, .. } in due {
        let device = &mut board.devices.of(unit.source_id(source)).tlb;
        device.unresponsive = !answered;
        if (first, last) == (0, u64::MAX) && answered {
            device.emptied();
        }
        if answered {
            device.invalidate(first, last);
            continue;
        }
        // Section 6.5.2.11: waits are dropped, and nothing behind the oldest such invalidation is guaranteed.
        unit.faults.queue_error = unit.faults.queue_error & !(0xffff << 32) | u64::from(source) << 32;
        unit.faults.error(status::TIME_OUT, &mut board.journal);
        unit.outstanding.clear();
        unit.queue.in_flight.clear();
        unit.queue.fetch_at = None;
        return;
    }
}
