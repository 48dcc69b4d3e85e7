//! Faults are read from a handler that can come between any two accesses of the driver to the machine, as that of an NMI
//! does: also while a change is under way, and while faults are being read.

use std::cell::Cell;
use std::ptr::NonNull;

use cofferdam::Iommu;
use cofferdam::addr::{PhysAddr, Rights, SourceId};
use cofferdam::hal::{Hal, Window};
use cofferdam::iommu::Options;
use cofferdam::topology::Topology;
use cofferdam_model::{Machine, UnitConfig};

use crate::machine::*;

type Front = Iommu<&'static Interrupted>;

/// The machine, with a handler that comes before every access.
struct Interrupted(Machine);

thread_local! {
    static FRONT: Cell<Option<&'static Front>> = const { Cell::new(None) };
    /// Handlers that run now: one may interrupt another.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static SEEN: Cell<Seen> = const { Cell::new(Seen { handlers: 0, records: 0, busy: 0 }) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    handlers: u32,
    records: u32,
    busy: u32,
}

impl Interrupted {
    fn interrupt(&self) -> &Machine {
        let (front, depth) = (FRONT.get(), DEPTH.get());
        if let Some(front) = front.filter(|_| depth < 2) {
            DEPTH.set(depth + 1);
            let log = front.faults(|_| ());
            let Seen { handlers, records, busy } = SEEN.get();
            SEEN.set(Seen {
                handlers: handlers + 1,
                records: records + log.records,
                busy: busy + u32::from(log.busy),
            });
            DEPTH.set(depth);
        }
        &self.0
    }
}

// SAFETY: each method is that of the machine, which keeps the contract.
unsafe impl Hal for Interrupted {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.interrupt().allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().free(frames, order) }
    }

    unsafe fn virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().virt(frame) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().store(entry, value) }
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().load(entry) }
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().write_back(first, bytes) }
    }

    fn fence(&self) {
        self.interrupt().fence();
    }

    unsafe fn read32(&self, window: Window, offset: u32) -> u32 {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().read32(window, offset) }
    }

    unsafe fn write32(&self, window: Window, offset: u32, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().write32(window, offset, value) }
    }

    unsafe fn read64(&self, window: Window, offset: u32) -> u64 {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().read64(window, offset) }
    }

    unsafe fn write64(&self, window: Window, offset: u32, value: u64) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().write64(window, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.interrupt().config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: passed on from the caller.
        unsafe { self.interrupt().config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.interrupt().now_ns()
    }

    fn pause(&self) {
        self.interrupt().pause();
    }
}

#[test]
fn faults_are_read_at_any_moment_of_a_change_and_of_another_reading() {
    let machine: &'static Interrupted = Box::leak(Box::new(Interrupted(machine([UnitConfig::client()]))));
    let topology = Topology::from_dmar(&dmar(&machine.0, &[], &[]), &machine, |finding| panic!("{finding}")).unwrap();
    let mut iommu: Front = Iommu::discover(machine, topology, Options::default()).unwrap();
    iommu.enable().unwrap();
    let iommu: &'static Front = Box::leak(Box::new(iommu));

    let (device, other) = (function(0, 3), function(0, 4));
    let cell = iommu.create_cell(UNSAFE_INTERRUPTS).unwrap();
    FRONT.set(Some(iommu));
    let mut expected = 0;
    for round in 1..=3 {
        iommu.map(cell, region(0, 0x6000_0000, LARGE, Rights::all())).unwrap();
        iommu.assign(device, cell).unwrap();
        assert!(write(&machine.0, device, 8, round));
        assert!(!write(&machine.0, other, 8, round));
        expected += 1;
        iommu.unmap(cell, range(0, LARGE)).unwrap();
        iommu.release(device).unwrap();
    }
    assert!(!write(&machine.0, other, 8, 0));
    let log = iommu.faults(|fault| assert_eq!(fault.source, other));
    FRONT.set(None);
    let seen = SEEN.get();
    assert_eq!(seen.records + log.records, expected + 1, "each fault is read once, whoever reads it");
    assert!(seen.handlers > 1000 && seen.busy > 1000, "{seen:?}");
    machine.0.check();
}
