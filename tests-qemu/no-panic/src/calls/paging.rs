use cofferdam::addr::{IovaRange, Region, Rights};
use cofferdam::hal::{Hal, RegisterWindow};
use cofferdam::internals::{Format, Geometry, Hole, PageTable, QueueAlone, SecondStage, V1};

use crate::{any, any_number, show};

/// What the front does with a page table and a queue, and what only tests and benchmarks do with them.
pub(super) fn calls(hal: &impl Hal) {
    if let Ok(queue) = QueueAlone::switch_on(hal, *any::<RegisterWindow>()) {
        show(queue.submit_and_wait(hal).is_ok());
    }
    let geometry: &Geometry = any();
    show(Geometry::new(
        any_number() as u8,
        any_number() as u8,
        any_number() as u8,
        any_number() as u8,
        any::<&[Hole]>(),
    ));
    show((
        geometry.levels(),
        geometry.input_bits(),
        geometry.largest_page_bytes(),
        geometry.holes(),
        V1::holes(any_number() == 0),
    ));
    table(hal, SecondStage { snoop: any_number() == 0 });
    table(hal, V1 { force_coherent: any_number() == 0 });
}

fn table(hal: &impl Hal, format: impl Format) {
    let Ok(mut table) = PageTable::new(hal, format, *any::<Geometry>(), any_number() == 0) else { return };
    let (region, range): (&Region, &IovaRange) = (any(), any());
    if let Ok(prealloc) = table.prepare_map(hal, *region) {
        let change = table.map(hal, *region, prealloc);
        show(change.range);
        // SAFETY: nothing here ever runs.
        unsafe { table.free_unlinked(hal) };
    }
    if let Ok(prealloc) = table.prepare_edit(hal, *range) {
        let _ = table.unmap(hal, *range, prealloc);
    }
    if let Ok(prealloc) = table.prepare_edit(hal, *range) {
        let _ = table.protect(hal, *range, Rights::from_bits_retain(any_number() as u8), prealloc);
    }
    if let Ok(prealloc) = table.prepare_edit(hal, *range) {
        prealloc.free(hal);
    }
    show((table.levels(), table.root(), table.frames(), table.unlinked(), table.translate(hal, *any())));
    table.mappings(hal, *any()).for_each(show);
    // SAFETY: nothing here ever runs.
    unsafe { table.into_frames(hal).free(hal) };
}
