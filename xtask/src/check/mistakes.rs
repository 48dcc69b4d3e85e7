//! What is wrong with a configuration, by itself and on a board.

mod capacities;
mod interrupts;
mod on_report;

use std::{collections::BTreeMap, ops::Range};

use cofferdam::topology::{ConfigSpace, Isolation};

use super::{
    board::Board,
    config::{Cell, Config, Id, Memory},
};

const PAGE: u64 = 4096;
/// What most units translate.
const INPUT_BITS: u8 = 48;
/// Requests to these addresses are interrupts (VT-d 5.10, section 3.14).
const INTERRUPTS: Range<u64> = 0xfee0_0000..0xfef0_0000;

/// All mistakes, in words: where, what, and what to do.
pub(super) fn of(config: &Config, board: &Board<'_, impl ConfigSpace>) -> Vec<String> {
    let mut all = Vec::new();
    names(config, &mut all);
    for cell in &config.cells {
        for (number, memory) in cell.memory.iter().enumerate() {
            let place = format!("cell {}, memory {}", cell.name, number + 1);
            all.extend(of_memory(memory, cell, config, board).into_iter().map(|mistake| format!("{place}: {mistake}")));
        }
        inputs(cell, &mut all);
    }
    outputs(config, &mut all);
    devices(config, board, &mut all);
    reserved(config, board, &mut all);
    groups(config, board, &mut all);
    on_report::find(config, board, &mut all);
    interrupts::find(config, board, &mut all);
    capacities::find(config, board, &mut all);
    all
}

fn names(config: &Config, all: &mut Vec<String>) {
    for (number, cell) in config.cells.iter().enumerate() {
        if config.cells.iter().take(number).any(|other| other.name == cell.name) {
            all.push(format!("cell {}: another cell has that name", cell.name));
        }
        if cell.root && config.cells.iter().take(number).any(|other| other.root) {
            all.push(format!("cell {}: there is another root cell; only one has what is left", cell.name));
        }
    }
}

/// First address, and that after the last one; `None` if it has no bytes or passes 2^64.
pub(super) fn range(first: u64, bytes: u64) -> Option<Range<u64>> {
    (bytes != 0).then(|| first.checked_add(bytes).map(|end| first..end))?
}

fn common(one: &Range<u64>, other: &Range<u64>) -> Option<Range<u64>> {
    let both = one.start.max(other.start)..one.end.min(other.end);
    (both.start < both.end).then_some(both)
}

fn words(range: &Range<u64>) -> String {
    format!("{:#x} to {:#x}", range.start, range.end - 1)
}

fn of_memory(memory: &Memory, cell: &Cell, config: &Config, board: &Board<'_, impl ConfigSpace>) -> Vec<String> {
    let mut all = Vec::new();
    let (input, output) = (range(memory.input(), memory.bytes), range(memory.output, memory.bytes));
    let (Some(input), Some(output)) = (input, output) else {
        return vec![format!("{} bytes from {:#x} on are no memory", memory.bytes, memory.output)];
    };
    for (what, value) in [("input", input.start), ("output", output.start), ("bytes", memory.bytes)] {
        if !value.is_multiple_of(PAGE) {
            all.push(format!("{what} = {value:#x} is no multiple of 4 KiB, the smallest page"));
        }
    }
    // A report says what units have.
    let input_bits = config.input_bits.unwrap_or(if board.report.is_some() { 64 } else { INPUT_BITS });
    if beyond(input.end, input_bits) {
        all.push(format!("its input addresses end behind the {input_bits} bits that units translate (input_bits)"));
    }
    let host_bits = board.topology.host_address_width();
    if beyond(output.end, host_bits) {
        all.push(format!("it ends behind the {host_bits} bits of an address that DMA can use on this board"));
    }
    if let Some(both) = common(&input, &INTERRUPTS) {
        all.push(format!("requests to {} are interrupts and reach no memory; leave it out", words(&both)));
    }
    if let Some(both) = common(&output, &INTERRUPTS) {
        all.push(format!("writes to {} are interrupts, and no memory is there; leave it out", words(&both)));
    }
    for unit in board.topology.units() {
        let registers = range(unit.window.base.as_u64(), unit.window.bytes.into());
        if let Some(both) = registers.and_then(|registers| common(&output, &registers)) {
            all.push(format!(
                "registers of the unit {} are at {}; no device may reach them",
                unit.window,
                words(&both)
            ));
        }
    }
    if cell.root && input != output {
        all.push("a root cell has its memory one to one; leave input out".into());
    }
    all
}

fn beyond(end: u64, bits: u8) -> bool {
    bits < 64 && end > 1 << bits
}

fn inputs(cell: &Cell, all: &mut Vec<String>) {
    let ranges = Vec::from_iter(cell.memory.iter().map(|memory| range(memory.input(), memory.bytes)));
    for (number, one) in ranges.iter().enumerate() {
        for (other_number, other) in ranges.iter().enumerate().take(number) {
            if let Some(both) = one.as_ref().zip(other.as_ref()).and_then(|(one, other)| common(one, other)) {
                let (name, one, other) = (&cell.name, number + 1, other_number + 1);
                all.push(format!(
                    "cell {name}, memory {one}: memory {other} has the input addresses {}, too",
                    words(&both)
                ));
            }
        }
    }
}

/// What other cells have, the root cell loses: that is no mistake.
fn outputs(config: &Config, all: &mut Vec<String>) {
    let cells = Vec::from_iter(config.cells.iter().filter(|cell| !cell.root));
    for (number, cell) in cells.iter().enumerate() {
        for other in cells.iter().take(number) {
            for (one, theirs) in cell.memory.iter().flat_map(|one| other.memory.iter().map(move |theirs| (one, theirs)))
            {
                let ranges = range(one.output, one.bytes).zip(range(theirs.output, theirs.bytes));
                let Some(both) = ranges.and_then(|(one, theirs)| common(&one, &theirs)) else { continue };
                if !(one.shared && theirs.shared) {
                    let (name, other, both) = (&cell.name, &other.name, words(&both));
                    all.push(format!(
                        "cell {name}: cell {other} has the memory {both}, too; both have to say shared = true"
                    ));
                }
            }
        }
    }
}

/// Each device with its cell.
fn assigned(config: &Config) -> impl Iterator<Item = (&Cell, Id)> {
    config.cells.iter().flat_map(|cell| cell.devices.iter().map(move |id| (cell, *id)))
}

fn devices(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    let mut owners = BTreeMap::<String, &str>::new();
    for (cell, id) in assigned(config) {
        if let Some(owner) = owners.insert(id.to_string(), &cell.name) {
            all.push(format!("cell {}: cell {owner} has the device {id}, too", cell.name));
        }
        if board.report.is_some() {
            // It knows more: `on_report`.
        } else if board.topology.unit_of(board.space, id.0).is_none() {
            all.push(format!("cell {}: no unit serves {id}, so nothing blocks it and no cell is given it", cell.name));
        } else if !board.topology.is_certain(board.space, id.0) {
            all.push(format!("cell {}: which unit serves {id} was lost with a part of the table", cell.name));
        }
        if board.topology.loses_reserved(board.space, id.0) {
            all.push(format!("cell {}: firmware reserves memory for {id} that cannot be mapped", cell.name));
        }
    }
}

fn reserved(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    for (cell, id) in assigned(config) {
        for own in board.reserved(id) {
            let (name, place) = (&cell.name, words(&own));
            for (number, region) in cell.memory.iter().enumerate() {
                let input = range(region.input(), region.bytes).and_then(|input| common(&input, &own));
                let number = number + 1;
                if input.is_some() && region.input() != region.output {
                    all.push(format!(
                        "cell {name}, memory {number}: firmware reserves {place} for {id}, one to one; leave it out"
                    ));
                } else if input.is_some() && !cell.allow_identical_reserved {
                    all.push(format!(
                        "cell {name}, memory {number}: firmware reserves {place} for {id}, which has it in any case; leave it out, or \
                         say allow_identical_reserved = true"
                    ));
                }
            }
            for other in config.cells.iter().filter(|other| other.name != cell.name && !other.root) {
                let has = |region: &Memory| {
                    !(region.shared && cell.allow_shared_reserved)
                        && range(region.output, region.bytes).is_some_and(|it| common(&it, &own).is_some())
                };
                if other.memory.iter().any(has) {
                    all.push(format!("cell {}: firmware reserves {place} for {id} of cell {name}", other.name));
                }
                let allowed = cell.allow_shared_reserved && other.allow_shared_reserved;
                for theirs in other.devices.iter().filter(|_| !allowed) {
                    if board.reserved(*theirs).iter().any(|theirs| common(theirs, &own).is_some()) {
                        let other = &other.name;
                        all.push(format!(
                            "cell {other}: {theirs} and {id} of cell {name} use {place}; one cell has both"
                        ));
                    }
                }
            }
        }
    }
}

/// What nothing isolates now. Units that are switched on isolate where ports can, and a cell without configuration space is not looked at.
fn groups(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    for (number, (cell, id)) in assigned(config).enumerate() {
        let group = board.topology.group(board.space, id.0);
        if group.isolation() == Isolation::Unknown {
            continue;
        }
        for (other, theirs) in assigned(config).take(number).filter(|(other, _)| other.name != cell.name) {
            if group.contains(theirs.0) && !(cell.allow_shared_group && other.allow_shared_group) {
                all.push(format!(
                    "cell {}: nothing isolates {id} from {theirs} of cell {} now; one cell has both, unless ports have Access \
                     Control Services, which are switched on with the units",
                    cell.name, other.name
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
