use core::mem::MaybeUninit;

use super::*;
use crate::addr::{PhysAddr, Rights};
use crate::cell::{CellConfig, fresh_regions};
use crate::limits::{Carver, Limits};

const START: u64 = 0x1000_0000;

/// One to one, so many pages of 64 KiB behind `START`.
fn region(first: u64, count: u64) -> Region {
    let start = START + (first << 16);
    Region::new(Iova::new(start), PhysAddr::new(start), count << 16, Rights::all()).unwrap()
}

#[test]
fn a_grant_of_the_root_cell_excuses_no_crossing() {
    let limits = Limits { cells: 4, units: 1, devices: 4, ..Limits::DEFAULT };
    let memory = std::vec![MaybeUninit::uninit(); limits.words()].leak();
    let config = &mut Config::without_room();
    config.cut(&mut Carver::new(memory), &limits, 1).unwrap();
    let [root, cell, sharer] = [(); 3].map(|()| config.cells.create(CellConfig::DEFAULT).unwrap());
    config.root.set(root, config.cells.get_mut(root).unwrap());
    for (id, region, shared) in
        [(root, region(0, 16), false), (cell, region(3, 2), false), (sharer, region(8, 2), true)]
    {
        config.cell_mut(id).unwrap().regions.insert(region, shared).unwrap();
    }
    let source = SourceId::new(0, 0, 1, 0).unwrap();
    let run = Reach { source, region: region(0, 16), snoop: true };
    let reached_by = |config: &Config<'_>, id| {
        let mut all = std::vec::Vec::new();
        let mut push = |difference| all.push(difference);
        crossings(config, &[], &run, Some(id), &mut Findings::new(&mut push));
        all
    };
    let crosses = |by, owner, (first, count): (u64, u64)| {
        let memory = region(first, count).outputs().unwrap();
        Difference::CrossesCells { source, cell: Some(by), owner, memory }
    };
    let of_cell = crosses(root, cell, (3, 2));
    assert_eq!(reached_by(config, root), [of_cell], "it shares what the sharer has");
    let of_root = [(0, 8), (10, 6)].map(|memory| crosses(sharer, root, memory));
    let mut expected = std::vec::Vec::from(of_root);
    expected.push(crosses(sharer, cell, (3, 2)));
    assert_eq!(reached_by(config, sharer), expected, "the run is more than what the two share");
    let mut whole = fresh_regions(1);
    whole.insert(region(0, 16), false).unwrap();
    config.cell_mut(sharer).unwrap().regions.copy_from(&whole);
    let expected = [crosses(cell, root, (0, 16)), crosses(cell, sharer, (0, 16))];
    assert_eq!(reached_by(config, cell), expected, "a grant excuses nothing");
}
