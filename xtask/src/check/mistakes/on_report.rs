//! What a board's report says that its table does not: which functions there are, how wide addresses are, and what
//! nothing isolates.

use cofferdam::topology::ConfigSpace;

use super::{assigned, beyond, range};
use crate::{
    check::{board::Board, config::Config},
    report::{Contents, ReportedFunction, groups},
};

pub(super) fn find(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    let Some(report) = board.report else { return };
    whole_board(report, all);
    memory_map(config, report, all);
    let groups = groups(report);
    let group = |id| report.functions.iter().zip(&groups).find(|it| it.0.id == id).and_then(|it| *it.1);
    for (number, (cell, id)) in assigned(config).enumerate() {
        let name = &cell.name;
        let Some(function) = report.function(id.0) else {
            all.push(format!("cell {name}: the board has no device {id}"));
            continue;
        };
        match function.unit {
            None => all.push(format!("cell {name}: no unit serves {id}, so nothing blocks it: {}", function.refused)),
            Some(_) if !function.refused.is_empty() => {
                all.push(format!("cell {name}: no cell is given {id}: {}", function.refused));
            }
            Some(_) => widths(config, board, function, number, all),
        }
        if let Some((unit, state)) = board.unit_of(id).and_then(|unit| Some((unit.base, unit.state.as_ref()?)))
            && !state.refused.is_empty()
        {
            all.push(format!("cell {name}: the unit {unit:#x} of {id} cannot be used: {}", state.refused));
        }
        for (other, theirs) in assigned(config).take(number).filter(|(other, _)| other.name != cell.name) {
            let Some(their) = report.function(theirs.0) else { continue };
            if let Some(shared) = ids(function).find(|id| ids(their).any(|other| other == *id)) {
                let other = &other.name;
                all.push(format!(
                    "cell {name}: {id} and {theirs} of cell {other} both send as {shared}; one cell has both"
                ));
            } else if group(id.0).is_some_and(|one| group(theirs.0) == Some(one))
                && !(cell.allow_shared_group && other.allow_shared_group)
            {
                let other = &other.name;
                all.push(format!(
                    "cell {name}: nothing isolates {id} from {theirs} of cell {other}; one cell has both"
                ));
            }
        }
    }
}

/// What is wrong whatever cells have.
fn whole_board(report: &Contents, all: &mut Vec<String>) {
    if let Some(verdict) = report.verdict.as_ref().filter(|verdict| !verdict.fit) {
        all.push(format!("the board is not fit for partitioning: {}", verdict.why));
    }
    all.extend(report.refused.iter().map(|why| format!("the board's report was given up: {why}")));
    let failed = report.expected.iter().filter(|(_, held, _)| !held);
    all.extend(failed.map(|(what, _, seen)| format!("on the board this did not hold: {what} [{seen}]")));
}

/// Holds memory of cells against the loader's map: all of it has to be free there. The root cell has what firmware keeps, too.
fn memory_map(config: &Config, report: &Contents, all: &mut Vec<String>) {
    if report.memory.is_empty() {
        return;
    }
    for cell in config.cells.iter().filter(|cell| !cell.root) {
        for (number, memory) in cell.memory.iter().enumerate() {
            let Some(output) = range(memory.output, memory.bytes) else { continue };
            let mut at = output.start;
            // Entries need not be in order.
            while at < output.end
                && let Some(end) = report.memory.iter().find_map(|(first, bytes, kind)| {
                    range(*first, *bytes).filter(|it| kind == "free" && it.contains(&at)).map(|it| it.end)
                })
            {
                at = end;
            }
            if at < output.end {
                let other = |(first, bytes, kind): &(u64, u64, String)| {
                    range(*first, *bytes).is_some_and(|it| it.contains(&at)).then(|| format!("it is {kind}"))
                };
                let what = report.memory.iter().find_map(other).unwrap_or_else(|| "nothing is there".into());
                let (name, number) = (&cell.name, number + 1);
                all.push(format!("cell {name}, memory {number}: no free memory is at {at:#x} of this board: {what}"));
            }
        }
    }
}

/// The source-ids of a function's requests.
fn ids(function: &ReportedFunction) -> impl Iterator<Item = String> {
    std::iter::once(function.id.to_string()).chain(function.aliases.iter().cloned())
}

/// Holds the memory of a device's cell against what its unit translates, and to what.
fn widths(
    config: &Config,
    board: &Board<'_, impl ConfigSpace>,
    function: &ReportedFunction,
    number: usize,
    all: &mut Vec<String>,
) {
    let Some((cell, id)) = assigned(config).nth(number) else { return };
    let state = board.unit_of(id).and_then(|unit| unit.state.as_ref());
    for (number, memory) in cell.memory.iter().enumerate() {
        let place = format!("cell {}, memory {}", cell.name, number + 1);
        let input = range(memory.input(), memory.bytes);
        if input.is_some_and(|input| beyond(input.end, function.input_bits)) {
            all.push(format!("{place}: its input addresses end behind the {} bits that {id} has", function.input_bits));
        }
        let (output, bits) = (range(memory.output, memory.bytes), state.map_or(64, |state| state.output_bits));
        if output.is_some_and(|output| beyond(output.end, bits)) {
            all.push(format!("{place}: it ends behind the {bits} bits that the unit of {id} translates to"));
        }
    }
}

#[cfg(test)]
mod tests;
