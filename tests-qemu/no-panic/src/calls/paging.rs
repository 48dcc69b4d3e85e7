use cofferdam::addr::{IovaRange, Region, Rights};
use cofferdam::hal::{Hal, Window};
use cofferdam::internals::{PageTable, QueueAlone, SecondStage, Shape};

use crate::{any, any_number, show};

/// What the front does with a page table and a queue, and what only tests and benchmarks do with them.
pub(super) fn calls(hal: &impl Hal) {
    if let Ok(queue) = QueueAlone::switch_on(hal, *any::<Window>()) {
        show(queue.submit_and_wait(hal).is_ok());
    }
    let format = SecondStage { snoop: any_number() == 0 };
    let Ok(mut table) = PageTable::new(hal, format, *any::<Shape>(), any_number() == 0) else { return };
    let (region, range): (&Region, &IovaRange) = (any(), any());
    if let Ok(spare) = table.prepare_map(hal, *region) {
        let change = table.map(hal, *region, spare);
        show(change.range);
        // SAFETY: nothing here ever runs.
        unsafe { change.free(hal) };
    }
    if let Ok(spare) = table.prepare_edit(hal, *range) {
        let _ = table.unmap(hal, *range, spare);
    }
    if let Ok(spare) = table.prepare_edit(hal, *range) {
        let _ = table.protect(hal, *range, Rights::from_bits_retain(any_number() as u8), spare);
    }
    if let Ok(spare) = table.prepare_edit(hal, *range) {
        spare.free(hal);
    }
    show((table.root(), table.frames(), table.translate(hal, *any())));
    table.mappings(hal, *any()).for_each(show);
    // SAFETY: nothing here ever runs.
    unsafe { table.into_frames(hal).free(hal) };
}
