//! How fast the driver runs on the model when it is strictest: 16 devices in 8 cells, and all that a cell goes through.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a benchmark")]

use cofferdam::CellId;
use cofferdam::addr::{Rights, SourceId};
use cofferdam_model::Machine;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use divan::Bencher;
use divan::counter::ItemsCount;

const CELLS: u64 = 8;
const DEVICES: u64 = 16;
/// Where devices see the memory that each cell always has, and what comes and goes.
const KEPT: u64 = 0x4000_0000;
const CHANGING: u64 = 0x4020_0000;
/// Driver operations of one [`round`].
const OPERATIONS: u64 = 8;

fn main() {
    divan::main();
}

fn memory(cell: u64) -> u64 {
    0x6000_0000 + cell * LARGE
}

fn device(number: u64) -> SourceId {
    function((number % 2) as u8, (number / 2) as u8)
}

/// Eight cells with 2 MiB each, and two devices in each.
fn busy(machine: &Machine) -> (Front<&Machine>, Vec<CellId>) {
    let iommu = enabled(machine);
    let cells: Vec<CellId> = (0..CELLS).map(|_| iommu.create_cell(UNSAFE_INTERRUPTS).unwrap()).collect();
    for cell in 0..CELLS {
        iommu.map(cells[cell as usize], region(KEPT, memory(cell), LARGE, Rights::all())).unwrap();
    }
    for number in 0..DEVICES {
        iommu.assign(device(number), cells[(number % CELLS) as usize]).unwrap();
    }
    (iommu, cells)
}

/// Eight operations of the driver, with DMA that has to succeed or fail between them.
fn round(machine: &Machine, iommu: &Front<&Machine>, cells: &[CellId], number: u64) {
    let own = number % CELLS;
    let other = (own + 1) % CELLS;
    let (cell, mover) = (cells[own as usize], device(number % DEVICES));
    // Another page each time, so that page tables grow and shrink.
    let page = CHANGING + number % 64 * PAGE;
    iommu.map(cell, region(page, memory(own), PAGE, Rights::all())).unwrap();
    assert!(write(machine, mover, page, number));
    iommu.map(cell, region(page + LARGE, memory(own), 4 * PAGE, Rights::READ)).unwrap();
    assert_eq!(read(machine, mover, page + LARGE), Some(number));
    iommu.unmap(cell, range(page, PAGE)).unwrap();
    assert_eq!(read(machine, mover, page), None);
    iommu.unmap(cell, range(page + LARGE, 4 * PAGE)).unwrap();
    iommu.release(mover).unwrap();
    assert!(!write(machine, mover, KEPT, number));
    iommu.assign(mover, cells[other as usize]).unwrap();
    assert!(write(machine, mover, KEPT, number));
    iommu.release(mover).unwrap();
    iommu.assign(mover, cell).unwrap();
}

#[divan::bench(args = ["server", "client", "QEMU 10.0, caching mode"])]
fn operations(bencher: Bencher<'_, '_>, name: &str) {
    let (_, unit) = presets().into_iter().find(|(preset, _)| *preset == name).unwrap();
    let machine = machine([unit]);
    let (iommu, cells) = busy(&machine);
    let mut number = 0;
    bencher.counter(ItemsCount::new(DEVICES * OPERATIONS)).bench_local(|| {
        for _ in 0..DEVICES {
            round(&machine, &iommu, &cells, number);
            number += 1;
        }
    });
    assert!(machine.violations().is_empty());
}
