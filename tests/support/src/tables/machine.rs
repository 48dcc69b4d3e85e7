//! What firmware says of a machine of the model.

use cofferdam_model::Machine;

use super::{Table, dmar, scope};

/// The DMAR that firmware would give for the machine, with `buses[n]` for unit n; the last takes the rest. Interrupts are not
/// remapped.
pub fn of_machine(machine: &Machine, buses: &[&[u8]]) -> Table {
    let windows = machine.windows();
    let without_flags = dmar().set(37, 0);
    windows.iter().enumerate().fold(without_flags, |table, (index, window)| {
        let all = u8::from(index + 1 == windows.len());
        let size = (window.bytes / 4096).ilog2() as u8;
        let own = buses.get(index).copied().unwrap_or_default();
        let functions = own.iter().flat_map(|bus| (0..32).map(|device| scope(1, 0, *bus, &[(device, 0)])));
        table.sized_drhd(all, size, 0, window.base.as_u64(), &functions.collect::<Vec<_>>())
    })
}
