//! How an interrupt is posted (sections 5.2.3 and 9.11).
#![forbid(unsafe_code)]

use crate::board::Board;
use crate::fault::Reason;
use crate::vtd::formats::interrupt_entry::{InterruptEntry, destination};

/// ON, in the word behind the 256 bits of requests.
const OUTSTANDING: u64 = 1;
/// SN.
const SUPPRESSED: u64 = 1 << 1;

/// Records an interrupt. The message that says so, unless one is outstanding, or none is wanted.
pub(crate) fn post(entry: InterruptEntry, extended: bool, board: &mut Board) -> Result<Option<(u64, u32)>, Reason> {
    let index = board.memory.index(entry.descriptor()).filter(|index| board.memory.is_allocated(*index));
    let Some(index) = index else {
        // Real memory would be written.
        let at = entry.descriptor();
        board.journal.violation(
            "R60",
            format_args!("an interrupt is posted to {at:#x}, which is no memory of the driver's side"),
        );
        return Err(Reason::DescriptorUnreachable);
    };
    let word = |number: usize, board: &Board| board.arena.get(index + number);
    let control = word(4, board);
    let reserved = if extended { 0xff00_fffc } else { 0xffff_00ff_ff00_fffc };
    if control & reserved != 0 || (5..8).any(|number| word(number, board) != 0) {
        return Err(Reason::DescriptorReserved);
    }
    let vector = entry.vector();
    board.memory.set_bits(index + vector as usize / 64, 1 << (vector % 64));
    let notifies = control & OUTSTANDING == 0 && (entry.urgent() || control & SUPPRESSED == 0);
    if notifies {
        board.memory.set_bits(index + 4, OUTSTANDING);
    }
    let message = (destination(control, extended), (control >> 16 & 0xff | 1 << 14) as u32);
    Ok(notifies.then_some(message))
}
