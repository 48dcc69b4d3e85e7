//! Where interrupts of cells may go, and where they are to go.

use cofferdam::{interrupt::CpuSet, topology::ConfigSpace};

use super::assigned;
use crate::check::{
    board::Board,
    config::{Cell, Config, Interrupt},
};
use crate::report::ReportedUnit;

/// Those below are the CPU's exceptions.
const FIRST_VECTOR: u8 = 16;
/// A larger id needs x2APIC mode, and a unit that can address it (VT-d 5.10, section 5.1.4: EIM).
const LAST_XAPIC: u32 = 254;

pub(super) fn find(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    for (number, cell) in config.cells.iter().enumerate() {
        targets(cell, all);
        large_ids(cell, board, all);
        let others = config.cells.iter().take(number);
        all.extend(others.filter_map(|other| shared(cell, other)));
        for (number, interrupt) in cell.interrupts.iter().enumerate() {
            let place = format!("cell {}, interrupt {}", cell.name, number + 1);
            let twice = |other: &Interrupt| (other.device, other.message) == (interrupt.device, interrupt.message);
            if cell.interrupts.iter().take(number).any(twice) {
                all.push(format!("{place}: message {} of {} is there twice", interrupt.message, interrupt.device));
            }
            all.extend(route(interrupt, cell, board).into_iter().map(|mistake| format!("{place}: {mistake}")));
        }
    }
    for (cell, id) in assigned(config) {
        let state = board.unit_of(id).and_then(|unit| unit.state.as_ref());
        // A unit needs firmware's word, too, and a table.
        let remaps = config.limits.interrupts != 0
            && board.topology.interrupt_remapping()
            && state.is_none_or(|state| state.interrupts);
        if remaps {
            continue;
        }
        if !cell.allow_unsafe_interrupts {
            all.push(format!(
                "cell {}: interrupts of {id} are not remapped, so it can send any to any CPU; the cell has to say \
                 allow_unsafe_interrupts = true",
                cell.name
            ));
        }
        if cell.interrupts.iter().any(|interrupt| interrupt.device == id) {
            all.push(format!("cell {}: interrupts of {id} are not remapped, so none can be routed", cell.name));
        }
    }
}

/// What is wrong with a cell's CPUs and vectors by themselves.
fn targets(cell: &Cell, all: &mut Vec<String>) {
    let name = &cell.name;
    let mut cpus = cell.cpus.clone();
    cpus.sort_unstable();
    if cpus.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        all.push(format!("cell {name}: a CPU is there twice"));
    }
    cpus.dedup();
    let ranges = cpus.chunk_by(|one, next| one.checked_add(1) == Some(*next)).count();
    if ranges > CpuSet::RANGES {
        all.push(format!("cell {name}: its CPUs are {ranges} ranges of ids, and a set has {} at most", CpuSet::RANGES));
    }
    for (first, last) in cell.vectors.iter().flatten() {
        if first > last || *first < FIRST_VECTOR {
            all.push(format!("cell {name}: vectors {first} to {last} are none; there are {FIRST_VECTOR} to 255"));
        }
    }
}

/// CPUs that two cells share need vectors of their own.
fn shared(cell: &Cell, other: &Cell) -> Option<String> {
    let cpu = cell.cpus.iter().find(|cpu| other.cpus.contains(cpu))?;
    let (first, last) = cell.vector_ranges().iter().find(|range| other.has_vector_in(**range))?;
    let (name, other) = (&cell.name, &other.name);
    Some(format!(
        "cell {name}: cell {other} has CPU {cpu}, too, with some of the vectors {first} to {last}; each needs its own"
    ))
}

fn route(interrupt: &Interrupt, cell: &Cell, board: &Board<'_, impl ConfigSpace>) -> Vec<String> {
    let (mut all, Interrupt { device, message, vector, cpu }) = (Vec::new(), *interrupt);
    if !cell.devices.contains(&device) {
        all.push(format!("{device} is no device of the cell"));
    }
    if vector < FIRST_VECTOR || !cell.has_vector_in((vector, vector)) {
        all.push(format!("vector {vector} is none of the cell's, which are among {FIRST_VECTOR} to 255"));
    }
    if !cell.cpus.contains(&cpu) {
        all.push(format!("CPU {cpu} is none of the cell's (cpus)"));
    }
    if let Some(function) = board.reported(device) {
        let messages = function.msi.max(function.msi_x);
        if message >= messages {
            all.push(format!("{device} has no message {message}; it has {messages} at most, from 0 on"));
        }
    }
    all
}

/// CPUs with large ids need x2APIC mode, which all units have to be in.
fn large_ids(cell: &Cell, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    let routed = cell.interrupts.iter().map(|interrupt| interrupt.cpu);
    let Some(cpu) = cell.cpus.iter().copied().chain(routed).find(|cpu| *cpu > LAST_XAPIC) else { return };
    let is_narrow = |unit: &&ReportedUnit| !unit.abilities.iter().any(|(bit, has, _)| bit == "EIM" && *has);
    for unit in board.report.iter().flat_map(|report| &report.units).filter(is_narrow) {
        let (name, base) = (&cell.name, unit.base);
        all.push(format!(
            "cell {name}: the unit {base:#x} sends interrupts to CPUs up to {LAST_XAPIC} alone, not to {cpu} (EIM)"
        ));
    }
}

#[cfg(test)]
mod tests;
