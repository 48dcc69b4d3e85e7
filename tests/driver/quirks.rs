//! What the host bridge says of a chipset's units.

use cofferdam::addr::Rights;
use cofferdam::iommu::Options;
use cofferdam::vtd::{Effect, quirks_of_machine};
use cofferdam_model::UnitConfig;
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;
use cofferdam_support::tables::of_machine;

/// The function 0000:00:00.0 has this device id, of Intel, and this revision.
fn host_bridge(machine: &cofferdam_model::Machine, device: u32, revision: u32) {
    machine.set_config(function(0, 0), 0, device << 16 | 0x8086);
    machine.set_config(function(0, 0), 8, 0x0600_0000 | revision);
}

#[test]
fn unsaid_write_buffers_of_known_chipsets_are_flushed() {
    for (device, works) in [(0x2a40, true), (0x2e20, true), (0x2e21, false)] {
        let machine = machine([UnitConfig { unsaid_write_buffers: true, ..UnitConfig::client() }]);
        host_bridge(&machine, device, 7);
        let iommu = enabled(&machine);
        assert_eq!(
            quirks_of_machine(iommu.hal()).map(|quirk| quirk.effect).any(|effect| effect == Effect::FlushWriteBuffers),
            works
        );
        assert_eq!(iommu.units().next().unwrap().features.write_buffer, works);
        let cell = cell_with(&iommu, region(0, 0x6000_0000, PAGE, Rights::all()), function(1, 3));
        iommu.map(cell, region(LARGE, 0x6000_0000, PAGE, Rights::all())).unwrap();
        assert_eq!(write(&machine, function(1, 3), LARGE, 1), works, "{device:#x}");
        if !works {
            assert!(machine.abandon().iter().any(|violation| violation.rule == "R10"));
        }
    }
}

#[test]
fn invalidations_stay_small_where_large_ones_do_not_work() {
    for (device, descriptor) in [(0x3c00, "0x0000000000020022"), (0x3c28, "0x0000000000020032")] {
        let machine = machine([UnitConfig::server()]);
        host_bridge(&machine, device, 6);
        let iommu = enabled(&machine);
        let other = cell_with(&iommu, region(0, 0x5000_0000, PAGE, Rights::all()), function(1, 4));
        let cell = cell_with(&iommu, region(0, 0x6000_0000, 4 * LARGE, Rights::all()), function(1, 3));
        iommu.unmap(cell, range(0, 4 * LARGE)).unwrap();
        let journal = machine.journal(30);
        let low = u64::from_str_radix(&descriptor[2..], 16).unwrap() | 0xc0;
        assert!(journal.contains(&format!("{low:#018x}")), "{journal}");
        iommu.destroy_cell(other).unwrap();
    }
}

/// F11: graphics units whose large pages do not work are given small ones; the unit for all the rest is not concerned.
#[test]
fn graphics_units_get_small_pages_where_large_ones_fail() {
    for (host, largest) in [(0x1904, PAGE), (0x5af0, PAGE), (0x31f0, PAGE), (0x3e30, 1 << 30)] {
        let graphics = UnitConfig { cap: UnitConfig::client().cap, ..UnitConfig::client_graphics() };
        let machine = machine([graphics.serving_functions(&[(0, 2 << 3)]), UnitConfig::client()]);
        host_bridge(&machine, host, 0);
        let table = of_machine(&machine, &[]).table();
        let iommu = enabled_front(&machine, &table, Options::default());
        assert_eq!(iommu.device_info(function(0, 2)).unwrap().largest_page, largest, "{host:#x}");
        assert_eq!(iommu.device_info(function(0, 3)).unwrap().largest_page, 1 << 30, "{host:#x}");
        cell_with(&iommu, region(0, 0x6000_0000, 2 * LARGE, Rights::all()), function(0, 2));
        assert!(write(&machine, function(0, 2), LARGE, 1));
        iommu.audit(|difference| panic!("{difference}")).unwrap();
    }
}

/// F11: the largest page of all units is the caller's choice.
#[test]
fn no_page_is_larger_than_the_caller_wants() {
    for (max_leaf_level, largest) in [(0, PAGE), (1, PAGE), (2, LARGE), (3, 1 << 30), (4, 1 << 30)] {
        for (name, unit) in presets() {
            let able = [PAGE, PAGE, LARGE, 1 << 30][[1, 2, 1, 3][(unit.cap >> 34 & 3) as usize]];
            let machine = machine([unit]);
            let options = Options { max_leaf_level, ..Options::default() };
            let iommu = enabled_front(&machine, &of_machine(&machine, &[]).table(), options);
            assert_eq!(iommu.device_info(function(0, 3)).unwrap().largest_page, largest.min(able), "{name}");
            cell_with(&iommu, region(0, 0x4000_0000, 1 << 30, Rights::all()), function(0, 3));
            assert!(write(&machine, function(0, 3), (1 << 30) - 8, 1), "{name}");
        }
    }
}
