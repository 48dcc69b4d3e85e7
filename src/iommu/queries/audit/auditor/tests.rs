use core::mem::MaybeUninit;

use super::*;
use crate::addr::{PhysAddr, Rights};
use crate::cell::{CellConfig, fresh_regions};
use crate::iommu::memory::Parts;
use crate::limits::Limits;

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
    let config = &mut Parts::cut(memory, &limits, 1).unwrap().config;
    let [root, cell, sharer] = [(); 3].map(|()| config.cells.create(CellConfig::DEFAULT).unwrap());
    config.root.set(root);
    for (id, region, shared) in
        [(root, region(0, 16), false), (cell, region(3, 2), false), (sharer, region(8, 2), true)]
    {
        config.cell_mut(id).unwrap().regions.insert(region, shared).unwrap();
    }
    let source = SourceId::new(0, 0, 1, 0).unwrap();
    let run = Reach { source, region: region(0, 16), snoop: true };
    let reached_by = |id| {
        let mut all = std::vec::Vec::new();
        let own = config.cell(id).ok();
        crossings(
            config,
            run,
            Some(id),
            own,
            Reserved::NONE,
            &mut Findings::new(&mut |difference| all.push(difference)),
        );
        all
    };
    let crosses = Difference::CrossesCells { source, cell: Some(root), owner: cell, memory: owned(&region(3, 2)) };
    assert_eq!(reached_by(root), [crosses], "but for what is shared with it");
    let mut whole = fresh_regions(1);
    whole.insert(region(0, 16), true).unwrap();
    config.cell_mut(sharer).unwrap().regions.copy_from(&whole);
    let mut all = std::vec::Vec::new();
    let own = config.cell(sharer).ok();
    crossings(
        config,
        run,
        Some(sharer),
        own,
        Reserved::NONE,
        &mut Findings::new(&mut |difference| all.push(difference)),
    );
    assert_eq!(all, [], "two cells may be granted the same");
}
