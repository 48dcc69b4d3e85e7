//! A unit of several that is given up: its devices leave all cells, and nobody else's do.

use cofferdam::Coherency;
use cofferdam::addr::Rights;
use cofferdam::iommu::{Error, UnitState};
use cofferdam_model::{Defect, UnitConfig};
use cofferdam_support::device::*;
use cofferdam_support::front::*;
use cofferdam_support::machine::*;

use crate::audit::audit;

const RW: Rights = Rights::all();
const INPUT: u64 = 0x4000_0000;
const MEMORY: u64 = 0x6000_0000;

/// Two cells have two devices each behind the second of three units, and devices behind the others. The second unit is forgotten
/// with all that was withheld for it, and the tables that nobody else uses are given back, of both cells.
#[test]
fn a_forgotten_unit_takes_its_devices_out_of_all_cells() {
    for (own_table, unit) in [(true, UnitConfig::qemu_10_0(true)), (false, UnitConfig::server())] {
        let machine = machine([UnitConfig::server().serving(&[1]), unit.serving(&[2]), UnitConfig::server()]);
        let iommu = discover(&machine, &[&[1], &[2]]).unwrap();
        iommu.enable().unwrap();
        let units = [0, 1, 2].map(|unit| machine.windows()[unit]);
        let memory = |number: u8| MEMORY + u64::from(number) * LARGE;
        let alive = |number: u8| [function(1, number), function(0, 2 + number)];
        let lost = |number: u8| [function(2, number), function(2, 8 + number)];
        let cells = [0, 1].map(|number| {
            let cell = cell_with(&iommu, region(INPUT, memory(number), 4 * PAGE, RW), alive(number)[0]);
            iommu.assign(alive(number)[1], cell).unwrap();
            cell
        });
        let frames = machine.frames_in_use();
        for (number, cell) in (0..).zip(cells) {
            lost(number).iter().for_each(|device| iommu.assign(*device, cell).map(drop).unwrap());
        }
        assert_eq!(machine.frames_in_use() > frames + 1, own_table);
        let reported = || {
            let mut all = vec![];
            iommu.coherency_changes(|cell, now| all.push((cell, now))).unwrap();
            all
        };
        let coherent = if own_table { cells.map(|cell| (cell, Coherency::Enforced)).to_vec() } else { vec![] };
        let before = if own_table { Coherency::NotEnforced } else { Coherency::Enforced };
        assert_eq!(cells.map(|cell| iommu.coherency(cell)), [Ok(before); 2]);
        machine.break_unit(1, Defect::QueueDead);
        let mut change = iommu.change();
        for cell in cells {
            change.unmap(cell, range(INPUT, PAGE));
        }
        change.commit().unwrap_err();
        let withheld = || {
            let mut all = vec![];
            iommu.withheld(|it| all.push((it.cell, it.memory))).unwrap();
            all
        };
        assert_eq!(withheld(), [(cells[0], outputs(memory(0), PAGE)), (cells[1], outputs(memory(1), PAGE))]);
        // SAFETY: nothing is forgotten, since these units work.
        let refused = [0, 2].map(|unit| unsafe { iommu.forget_unit(units[unit]) });
        assert_eq!(refused, [0, 2].map(|unit| Err(Error::InService(units[unit]))));
        // SAFETY: the devices behind the unit do nothing any more in this test.
        unsafe { iommu.forget_unit(units[1]) }.unwrap();

        let mut assigned = vec![];
        iommu.assigned(|it| assigned.push((it.device, it.cell, it.quarantined))).unwrap();
        assigned.sort_unstable_by_key(|it| it.0);
        let mut expected: Vec<_> =
            [0, 1].into_iter().flat_map(|it| alive(it).map(|device| (device, cells[usize::from(it)], false))).collect();
        expected.sort_unstable_by_key(|it| it.0);
        assert_eq!(assigned, expected);
        assert_eq!(reported(), coherent);
        assert_eq!((audit(&iommu), withheld()), (vec![], vec![]));
        assert_eq!(machine.frames_in_use(), frames + 1, "a context table of the unit stays");
        assert_eq!(iommu.statistics().table_frames, machine.frames_in_use() as u64);
        assert!(matches!(states(&iommu)[..], [UnitState::On, UnitState::Failed { .. }, UnitState::On]));
        for number in [0, 1] {
            for device in alive(number) {
                assert!(!write(&machine, device, INPUT, 1) && write(&machine, device, INPUT + PAGE, 1), "{device}");
            }
            // Each has what was the other's.
            let other = region(INPUT, memory(1 - number), PAGE, RW);
            iommu.map(cells[usize::from(number)], other).unwrap();
        }
        cells.iter().for_each(|cell| iommu.destroy_cell(*cell).map(drop).unwrap());
        machine.abandon();
    }
}
