//! What firmware says of a machine of the model.

use cofferdam_model::Machine;

use super::{Table, dmar, scope};

/// Where the table's flags are, of which bit 0 says that interrupts can be remapped (S 8.1).
const FLAGS: usize = 37;

/// The DMAR that firmware would give for the machine, with `buses[n]` for unit n, and the functions that the unit's
/// configuration names; the last of each segment takes the rest. Interrupts are not remapped.
pub fn of_machine(machine: &Machine, buses: &[&[u8]]) -> Table {
    of_machine_with(machine, buses, &[]).set(FLAGS, 0)
}

/// The same with interrupts that can be remapped, and more scopes of unit n in `more[n]`: its IOAPICs and HPETs.
pub fn of_machine_with(machine: &Machine, buses: &[&[u8]], more: &[Vec<Vec<u8>>]) -> Table {
    let windows = machine.windows();
    let segment_of = |index: usize| machine.unit_config(index).map_or(0, |unit| unit.segment);
    windows.iter().enumerate().fold(dmar(), |table, (index, window)| {
        let segment = segment_of(index);
        let all = u8::from((index + 1..windows.len()).all(|later| segment_of(later) != segment));
        let size = (window.bytes / 4096).ilog2() as u8;
        let own = buses.get(index).copied().unwrap_or_default();
        let named = machine.unit_config(index).map(|unit| unit.functions).unwrap_or_default();
        let named = named.into_iter().map(|(bus, devfn)| scope(1, 0, bus, &[(devfn >> 3, devfn & 7)]));
        let functions = own.iter().flat_map(|bus| (0..32).map(|device| scope(1, 0, *bus, &[(device, 0)]))).chain(named);
        let functions = functions.chain(more.get(index).cloned().unwrap_or_default());
        table.sized_drhd(all, size, segment, window.base.as_u64(), &functions.collect::<Vec<_>>())
    })
}
