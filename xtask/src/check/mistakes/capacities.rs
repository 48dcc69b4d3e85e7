//! Whether the driver has room for it all.

use std::ops::Range;

use cofferdam::topology::ConfigSpace;

use super::{assigned, common, range};
use crate::check::{
    board::Board,
    config::{Capacities, Cell, Config},
};

pub(super) fn find(config: &Config, board: &Board<'_, impl ConfigSpace>, all: &mut Vec<String>) {
    let Capacities { units, scopes, reserved, cells, regions, root_regions, devices, interrupts } = config.limits;
    all.extend(config.limits.limits().flaw().map(|flaw| {
        format!("limits: the driver refuses as much room for {}; it has {} at most", flaw.what, flaw.capacity)
    }));
    let topology = &board.topology;
    let mut hold = |what: &str, count: usize, room: usize, name: &str| {
        if count > room {
            all.push(format!(
                "{what}: {count}, and there is room for {room} (limits.{name}, which Limits has to have as well)"
            ));
        }
    };
    hold("units in firmware's table", topology.units().len(), units, "units");
    hold("device scopes in firmware's table", topology.scopes().len(), scopes, "scopes");
    hold("pieces of reserved memory in firmware's table", topology.reserved_memory().len(), reserved, "reserved");
    hold("cells", config.cells.len(), cells, "cells");
    hold("devices in all cells", assigned(config).count(), devices, "devices");
    let routed = config.cells.iter().map(|cell| cell.interrupts.len()).sum();
    hold("interrupts in all cells", routed, interrupts, "interrupts");
    for cell in &config.cells {
        let name = &cell.name;
        if cell.root {
            let what = format!("regions in the root cell {name} once others have theirs");
            hold(&what, pieces(cell, config), root_regions, "root_regions");
        } else {
            hold(&format!("regions in cell {name}"), cell.memory.len(), regions, "regions");
        }
    }
}

/// How many regions are left of the root cell's.
fn pieces(root: &Cell, config: &Config) -> usize {
    let memory = |cell: &Cell| cell.memory.iter().filter_map(|it| range(it.output, it.bytes)).collect::<Vec<_>>();
    let mut left: Vec<Range<u64>> = memory(root);
    for taken in config.cells.iter().filter(|cell| !cell.root).flat_map(memory) {
        let without = |piece: Range<u64>| match common(&piece, &taken) {
            Some(both) => [piece.start..both.start, both.end..piece.end],
            None => [piece.clone(), piece.end..piece.end],
        };
        left = left.into_iter().flat_map(without).filter(|piece| !piece.is_empty()).collect();
    }
    left.len()
}

#[cfg(test)]
mod tests;
