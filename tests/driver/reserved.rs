//! Memory that firmware reserves for devices, and what a cell may say about it (R66).

use cofferdam::addr::{Rights, SourceId};
use cofferdam::{CellConfig, CellId, Iommu};
use cofferdam_model::{Machine, UnitConfig};

use crate::machine::*;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;
const RESERVED: u64 = 0x7800_0000;

fn cell_of(iommu: &Iommu<&Machine>, config: CellConfig, devices: &[SourceId]) -> CellId {
    let cell = iommu.create_cell(config).unwrap();
    iommu.map(cell, region(INPUT, MEMORY, PAGE, RW)).unwrap();
    devices.iter().for_each(|device| drop(iommu.assign(*device, cell).unwrap()));
    cell
}

fn assert_nothing_differs(iommu: &Iommu<&Machine>) {
    assert_eq!(iommu.audit(|difference| panic!("{difference}")).unwrap().differences, 0);
}

#[test]
fn reserved_memory_of_usb_and_graphics_is_left_out_only_where_the_cell_says_so() {
    let device = function(0, 3);
    for (class, relaxable) in [
        (0x0c03_3001, true),
        (0x0c03_2000, true),
        (0x0300_0000, true),
        (0x0380_0002, true),
        (0x0c04_0000, false),
        (0x0c05_0000, false),
        (0x0403_0000, false),
        (0x0003_0000, false),
        (0x0106_0103, false),
        (0, false),
    ] {
        let machine = machine([UnitConfig::server()]);
        machine.set_config(device, 0, 0x1234_8086);
        machine.set_config(device, 0x08, class);
        let iommu = enabled_with_reserved(&machine, &[(RESERVED, RESERVED + PAGE - 1, 3)]);
        let info = iommu.device_info(device).unwrap();
        assert_eq!((info.relaxable, info.reserved.len()), (relaxable, 1), "{class:#x}");
        for leave_out_relaxable in [false, true] {
            let cell = cell_of(&iommu, CellConfig { leave_out_relaxable, ..UNSAFE_INTERRUPTS }, &[device]);
            let left_out = relaxable && leave_out_relaxable;
            assert_eq!(write(&machine, device, RESERVED, 1), !left_out, "{class:#x}");
            assert!(write(&machine, device, INPUT, 1));
            assert_eq!(iommu.input_ranges(cell).unwrap().len(), if left_out { 2 } else { 3 });
            let own = region(RESERVED, MEMORY, PAGE, RW);
            assert_eq!(iommu.map(cell, own).is_ok(), left_out, "the cell may have its own there");
            assert_eq!(write(&machine, device, RESERVED, 7) && peek(&machine, MEMORY) == 7, left_out);
            assert_nothing_differs(&iommu);
            iommu.destroy_cell(cell).unwrap();
        }
    }
}
