//! The default methods of [`Hal`] on the model, which has a cache that units do not snoop.

use core::ptr::NonNull;
use std::vec;
use std::vec::Vec;

use cofferdam_model::{Config, Machine, UnitConfig};

use super::cache::watch::{Seen, seen};
use super::on_model::{OnModel, source};
use super::{Hal, MappedRegisters, RegisterWindow};
use crate::addr::{Iova, IovaRange, PhysAddr, PhysRange, Region, Rights, SourceId};
use crate::iommu::{DeviceConfig, Edit, Iommu, Options};
use crate::limits::Limits;
use crate::{CellConfig, CellId};

/// A platform of which the default methods alone are used.
struct Defaults;

// SAFETY: it has no frames and no registers; the default methods keep the contract.
unsafe impl Hal for Defaults {
    fn allocate(&self, _: u8) -> Option<PhysAddr> {
        None
    }

    unsafe fn free(&self, _: PhysAddr, _: u8) {}

    fn own_memory(&self, _: PhysRange) -> Option<PhysRange> {
        None
    }

    unsafe fn phys_to_virt(&self, _: PhysAddr) -> NonNull<u64> {
        NonNull::dangling()
    }

    fn map_registers(&self, _: RegisterWindow) -> Option<NonNull<u8>> {
        None
    }

    fn config_read(&self, _: SourceId, _: u16) -> u32 {
        u32::MAX
    }

    unsafe fn config_write(&self, _: SourceId, _: u16, _: u32) {}

    fn now_ns(&self) -> u64 {
        0
    }
}

/// The model's machine, with every method that has a default by that default. The machine learns of what it did: of the value
/// that is in the word after a store, of each line that an instruction wrote back, of each fence.
struct ByDefault(OnModel);

// SAFETY: each method is the machine's, or the default one, on the machine's memory.
unsafe impl Hal for ByDefault {
    fn allocate(&self, order: u8) -> Option<PhysAddr> {
        self.0.allocate(order)
    }

    unsafe fn free(&self, frames: PhysAddr, order: u8) {
        // SAFETY: passed on from the caller, as in all that follow.
        unsafe { self.0.free(frames, order) }
    }

    fn own_memory(&self, memory: PhysRange) -> Option<PhysRange> {
        self.0.own_memory(memory)
    }

    unsafe fn phys_to_virt(&self, frame: PhysAddr) -> NonNull<u64> {
        // SAFETY: as above.
        unsafe { self.0.phys_to_virt(frame) }
    }

    unsafe fn store(&self, entry: NonNull<u64>, value: u64) {
        // SAFETY: as above.
        let before = unsafe { Defaults.load(entry) };
        // SAFETY: as above.
        unsafe { Defaults.store(entry, value) };
        // SAFETY: as above.
        let stored = unsafe { Defaults.load(entry) };
        // The machine finds what was stored and did not come to it, so the word is as it was until it hears of the store.
        // SAFETY: as above.
        unsafe { entry.write(before) };
        // SAFETY: as above.
        unsafe { self.0.store(entry, stored) };
    }

    unsafe fn store_pair(&self, entry: NonNull<[u64; 2]>, value: [u64; 2]) {
        // SAFETY: as above; a pair is two words.
        let words = unsafe { [entry.cast::<u64>(), entry.cast::<u64>().add(1)] };
        // SAFETY: as above.
        let before = words.map(|word| unsafe { Defaults.load(word) });
        // SAFETY: as above.
        unsafe { Defaults.store_pair(entry, value) };
        // SAFETY: as above.
        let stored = words.map(|word| unsafe { Defaults.load(word) });
        // SAFETY: as above.
        unsafe { entry.write(before) };
        // SAFETY: as above.
        unsafe { self.0.store_pair(entry, stored) };
    }

    unsafe fn load(&self, entry: NonNull<u64>) -> u64 {
        // Time passes, and the machine looks whether the word is in a frame.
        // SAFETY: as above.
        unsafe { self.0.load(entry) };
        // SAFETY: as above.
        unsafe { Defaults.load(entry) }
    }

    fn word_at(&self, at: PhysAddr) -> Option<u64> {
        Defaults.word_at(at).or_else(|| self.0.word_at(at))
    }

    unsafe fn write_back(&self, first: NonNull<u64>, bytes: usize) {
        // SAFETY: as above.
        for seen in seen(|| unsafe { Defaults.write_back(first, bytes) }) {
            let Seen::WriteBack { line } = seen else { panic!("{seen:?}") };
            let first = first.map_addr(|_| line.try_into().unwrap());
            // SAFETY: the line holds some of the caller's bytes, and frames are whole lines.
            unsafe { self.0.write_back(first, 64) };
        }
    }

    fn fence(&self) {
        for seen in seen(|| Defaults.fence()) {
            assert_eq!(seen, Seen::Fence);
            self.0.fence();
        }
    }

    fn map_registers(&self, window: RegisterWindow) -> Option<NonNull<u8>> {
        self.0.map_registers(window)
    }

    unsafe fn read32(&self, registers: MappedRegisters, offset: u32) -> u32 {
        // SAFETY: as above.
        unsafe { self.0.read32(registers, offset) }
    }

    unsafe fn write32(&self, registers: MappedRegisters, offset: u32, value: u32) {
        // SAFETY: as above.
        unsafe { self.0.write32(registers, offset, value) }
    }

    unsafe fn read64(&self, registers: MappedRegisters, offset: u32) -> u64 {
        // SAFETY: as above.
        unsafe { self.0.read64(registers, offset) }
    }

    unsafe fn write64(&self, registers: MappedRegisters, offset: u32, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.write64(registers, offset, value) }
    }

    fn config_read(&self, function: SourceId, offset: u16) -> u32 {
        self.0.config_read(function, offset)
    }

    unsafe fn config_write(&self, function: SourceId, offset: u16, value: u32) {
        // SAFETY: as above.
        unsafe { self.0.config_write(function, offset, value) }
    }

    fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    fn pause(&self) {
        Defaults.pause();
        self.0.pause();
    }
}

const DEVICE: SourceId = SourceId::from_requester(0, 0x18);
const MEMORY: u64 = 0x6000_0000;

fn region(page: u64, pages: u64) -> Region {
    let output = PhysAddr::new(MEMORY + page * 0x1000);
    Region::new(Iova::new(page * 0x1000), output, pages * 0x1000, Rights::all()).unwrap()
}

fn front(hal: ByDefault) -> Iommu<'static, ByDefault> {
    let limits = Limits { units: 2, cells: 2, devices: 4, ..Limits::DEFAULT };
    let memory = vec![core::mem::MaybeUninit::uninit(); limits.words()].leak();
    let dmar = hal.0.0.dmar();
    let iommu = Iommu::new(hal, Options::DEFAULT);
    iommu.probe_acpi(memory, &limits, &dmar, |finding| panic!("{finding}")).unwrap();
    iommu.enable().unwrap();
    iommu
}

fn cell(iommu: &Iommu<'static, ByDefault>) -> CellId {
    let config = CellConfig { allow_unsafe_interrupts: true, allow_unknown_isolation: true, ..CellConfig::DEFAULT };
    iommu.create_cell(config).unwrap()
}

/// Which of the first so many pages the device reaches.
fn reached(iommu: &Iommu<'static, ByDefault>, pages: u64) -> Vec<u64> {
    let machine = &iommu.hal().0.0;
    let reads = |page: &u64| {
        let at = cofferdam_model::addr::Iova::new(page * 0x1000);
        machine.dma_read(source(DEVICE), at, &mut [0; 8]).is_ok()
    };
    (0..pages).filter(reads).collect()
}

/// T5: by the default methods, a unit that does not snoop sees all that was stored, wherever the lines begin and end.
#[test]
fn default_methods_have_units_see_what_was_stored() {
    let units =
        [UnitConfig::server(), UnitConfig::client(), UnitConfig::first_generation(), UnitConfig::qemu_7_2(true)];
    for (unit, seed) in units.into_iter().flat_map(|unit| [None, Some(1), Some(2)].map(|seed| (unit.clone(), seed))) {
        let machine = Machine::new(Config { seed, ..Config::new([unit.coherent(false)]) });
        let iommu = front(ByDefault(OnModel(machine)));
        let cell = cell(&iommu);
        iommu.commit(&[Edit::Map(cell, region(3, 7)), Edit::Assign(DEVICE, cell, DeviceConfig::default())]).unwrap();
        assert_eq!(reached(&iommu, 64), (3..10).collect::<Vec<_>>());
        // Lines have 8 entries: ranges that begin and end anywhere in one.
        for (page, pages) in [(0, 1), (14, 3), (23, 1), (31, 18), (50, 5)] {
            iommu.map(cell, region(page, pages)).unwrap();
            let expected: Vec<_> = (3..10).chain(page..page + pages).collect();
            let mut reached = reached(&iommu, 64);
            reached.sort_by_key(|page| expected.iter().position(|it| it == page));
            assert_eq!(reached, expected);
            iommu.unmap(cell, region(page, pages).input).unwrap();
        }
        assert_eq!(reached(&iommu, 64), (3..10).collect::<Vec<_>>());
        iommu.protect(cell, IovaRange::new(Iova::new(0x7000), 0x3000).unwrap(), Rights::WRITE).unwrap();
        assert_eq!(reached(&iommu, 64), [3, 4, 5, 6]);
        assert!(iommu.audit(|difference| panic!("{difference}")).is_ok());
        iommu.release(DEVICE).unwrap();
        assert_eq!(reached(&iommu, 64), []);
        iommu.destroy_cell(cell).unwrap();
        iommu.hal().0.0.check();
    }
}

/// T5: a word that the platform cannot read is none for an audit.
#[test]
fn the_default_reads_no_word_for_an_audit() {
    assert_eq!(Defaults.word_at(PhysAddr::new(0x1000)), None);
}
