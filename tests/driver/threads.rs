use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use cofferdam::addr::Rights;
use cofferdam_model::UnitConfig;

use crate::machine::*;

#[test]
fn four_cells_change_while_two_cpus_read_faults() {
    let machine = machine([UnitConfig::client().serving(&[1]), UnitConfig::client()]);
    let mut iommu = discover(&machine, &[&[1]]).unwrap();
    iommu.enable().unwrap();
    let (iommu, machine, busy) = (&iommu, &machine, AtomicBool::new(true));
    let (provoked, read_back) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while busy.load(Ordering::Relaxed) {
                        read_back.fetch_add(iommu.faults(|_| ()).records, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let changers: Vec<_> = (0..4)
            .map(|number: u8| {
                let provoked = &provoked;
                scope.spawn(move || {
                    let (device, base) = (function(number % 2, number), 0x6000_0000 + u64::from(number) * LARGE);
                    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
                    for round in 0..60 {
                        iommu.map(cell, region(0, base, LARGE, Rights::all())).unwrap();
                        iommu.assign(device, cell).unwrap();
                        assert!(write(machine, device, 8, round), "{device}");
                        assert_eq!(peek(machine, base + 8), round);
                        iommu.unmap(cell, range(0, LARGE)).unwrap();
                        assert!(!write(machine, device, 8, 0), "{device}");
                        provoked.fetch_add(1, Ordering::Relaxed);
                        iommu.release(device).unwrap();
                    }
                    iommu.destroy_cell(cell).unwrap();
                })
            })
            .collect();
        let ended: Vec<_> = changers.into_iter().map(|thread| thread.join()).collect();
        // Also if one of them failed, or the readers would keep the test from ending.
        busy.store(false, Ordering::Relaxed);
        readers.into_iter().for_each(|thread| thread.join().unwrap());
        ended.into_iter().for_each(|result| result.unwrap());
    });
    let read_back = read_back.into_inner();
    // One record a unit, and faults of one source collapse: not all are recorded, but none twice.
    assert!(read_back > 0 && read_back <= provoked.into_inner(), "{read_back}");
    assert_eq!(machine.frames_in_use(), 3 + 3 + 2, "queues, root tables and the context tables of two buses");
}
